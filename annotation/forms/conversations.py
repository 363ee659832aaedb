"""Forms that change how a comparison is asked: its known answer, its urgency."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.models import Comparison

OUTCOMES = [
    ("", _("Not known: an ordinary comparison")),
    ("1", _("a is better")),
    ("0", _("b is better")),
    ("0.5", _("A tie")),
]


class GoldForm(forms.Form):
    """The known answer of a comparison, and what a learner is told."""

    outcome = forms.ChoiceField(label=_("Known answer"), choices=OUTCOMES, required=False)
    feedback = forms.CharField(
        label=_("What a learner is told"), required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )
    is_tutorial = forms.BooleanField(
        label=_("Part of the tutorial"),
        required=False,
        help_text=_("Asked first, with the answer explained; else it is asked among the work as a check."),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        outcome = data.get("outcome")
        data["outcome"] = float(outcome) if outcome else None
        if data.get("is_tutorial") and data["outcome"] is None:
            self.add_error("outcome", _("A tutorial needs the known answer."))
        return data


class PriorityForm(forms.Form):
    """Ask these first, or by a day. An empty day leaves what each has; `clears_due` takes it away."""

    priority = forms.IntegerField(label=_("Priority"), min_value=-30, max_value=30, initial=0)
    due_on = forms.DateField(label=_("Due"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    clears_due = forms.BooleanField(label=_("No due date"), required=False)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("due_on") and data.get("clears_due"):
            self.add_error("due_on", _("Give a date, or tick that there is none."))
        return data

    @property
    def due_at(self) -> datetime | None:
        day = self.cleaned_data["due_on"]
        return datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC) if day else None


def gold_form(comparison: Comparison, data: Any = None) -> GoldForm:
    """With what is known now, under names of its own among many on a page."""
    known = {None: "", 1.0: "1", 0.0: "0", 0.5: "0.5"}[comparison.gold_outcome]
    initial = {"outcome": known, "feedback": comparison.gold_feedback, "is_tutorial": comparison.is_tutorial}
    return GoldForm(data, initial=initial, auto_id=f"id_{comparison.pk}_%s")
