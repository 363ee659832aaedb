"""What a researcher may ask of the future."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from activelearning.outlook import MEASURES, THRESHOLDS, Axis, Question

NAMES = {
    "error": _("largest standard error"),
    "information": _("information in nats"),
    "bound": _("bound on the policy's loss"),
    "accuracy": _("accuracy on control labels"),
}


AXES = {Axis.LABELS: _("labels"), Axis.MONEY: _("money")}


class OutlookForm(forms.Form):
    """Which measure, how much more of what, and what change is too little. Every field has a default."""

    measure = forms.ChoiceField(label=_("Measure"), choices=NAMES, required=False, initial="error")
    following = forms.IntegerField(
        label=_("How many more"), min_value=1, max_value=1_000_000, required=False, initial=100
    )
    axis = forms.ChoiceField(label=_("Counted in"), choices=AXES, required=False, initial=Axis.LABELS)
    threshold = forms.FloatField(
        label=_("Stop below a change of"),
        min_value=0,
        required=False,
        help_text=_("Left empty: 0.02 of a standard error, half a nat, 0.1 of the bound, half a percent of accuracy."),
    )

    def __init__(self, data: Any) -> None:
        given = {name: field.initial for name, field in self.base_fields.items() if field.initial is not None}
        super().__init__({**given, **data.dict()})

    @property
    def measure_name(self) -> str:
        return str(NAMES[self.cleaned_data.get("measure") or "error"])

    def question(self) -> Question:
        """What was asked, with the default for whatever was left out or makes no sense."""
        self.is_valid()
        measure = MEASURES[self.cleaned_data.get("measure") or "error"]
        threshold = self.cleaned_data.get("threshold")
        return Question(
            measure=measure,
            following=self.cleaned_data.get("following") or 100,
            threshold=THRESHOLDS[measure] if threshold is None else threshold,
            axis=Axis(self.cleaned_data.get("axis") or Axis.LABELS),
        )
