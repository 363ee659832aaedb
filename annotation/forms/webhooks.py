"""The form of a webhook."""

from django import forms
from django.utils.translation import gettext_lazy as _

KINDS = [
    ("budget_near", _("The budget is near its end")),
    ("target_near", _("The label target is near")),
    ("queue_dry", _("No offers wait for anybody")),
    ("run_finished", _("A training run finished")),
    ("run_failed", _("A training run failed")),
    ("model_stopped", _("A model teacher was stopped")),
]


class WebhookForm(forms.Form):
    """Where another program wants to be told, and of what."""

    url = forms.URLField(
        label=_("Address"),
        max_length=200,
        assume_scheme="https",
        widget=forms.URLInput(attrs={"placeholder": "https://example.org/hooks/tutelage"}),
        help_text=_("Bodies are JSON, signed with HMAC-SHA256 of the secret, and sent again until they are taken."),
    )
    kinds = forms.MultipleChoiceField(
        label=_("Of what"),
        choices=KINDS,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None ticked: everything."),
    )
