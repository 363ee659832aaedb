"""What a reviewer sends: a decision about a comparison, and the one that the page showed before it."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.models import Adjudication
from annotation.services.reviews import LONGEST_NOTE


class ReviewForm(forms.Form):
    verdict = forms.ChoiceField(
        choices=Adjudication.Verdict.choices, error_messages={"required": _("Choose one of the decisions.")}
    )
    note = forms.CharField(
        required=False,
        max_length=LONGEST_NOTE,
        label=_("Reason"),
        widget=forms.Textarea(attrs={"rows": 1, "dir": "auto"}),
    )
    seen = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1, widget=forms.HiddenInput)

    @property
    def decision(self) -> dict[str, Any]:
        """The arguments of `decide_review`."""
        return {name: self.cleaned_data[name] for name in ("verdict", "note", "seen")}
