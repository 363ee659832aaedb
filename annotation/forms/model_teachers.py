"""The form of a model teacher: where it is asked, with which key, and what its labels cost."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

ENDPOINT = ("base_url", "model", "key_name", "rate_per_minute", "timeout_seconds")


class ModelTeacherForm(forms.Form):
    """An endpoint as a member of the pool. Keys are chosen by name: their words stay with the deployment."""

    base_url = forms.CharField(
        label=_("Address of the endpoint"),
        max_length=200,
        widget=forms.URLInput(attrs={"placeholder": "https://models.example.org/v1"}),
        help_text=_("OpenAI-compatible, up to and including /v1."),
    )
    model = forms.CharField(label=_("Model"), max_length=200, help_text=_("As the endpoint calls it."))
    key_name = forms.ChoiceField(
        label=_("Key"),
        required=False,
        help_text=_("The keys MODEL_KEY_… of this deployment. Each goes to its own host only."),
        error_messages={"invalid_choice": _("The deployment has no key MODEL_KEY_%(value)s.")},
    )
    cost_per_label = forms.DecimalField(
        label=_("Cost per label"), min_value=0, max_digits=8, decimal_places=4, initial=0
    )
    capacity = forms.IntegerField(
        label=_("Labels in all"), required=False, min_value=1, max_value=2**31 - 1, help_text=_("Empty: no limit.")
    )
    rate_per_minute = forms.IntegerField(
        label=_("Requests a minute"),
        min_value=1,
        max_value=6000,
        initial=30,
        help_text=_("Each comparison is two: it is asked in both orders."),
    )
    timeout_seconds = forms.FloatField(label=_("Seconds to wait for an answer"), min_value=1, max_value=120, initial=60)
    pseudonym = forms.CharField(
        label=_("Pseudonym"), required=False, max_length=64, help_text=_("Empty: one is made up.")
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        keys = [
            (name, f"{name} · {host}") for name, host in settings.MODEL_HOSTS.items() if name in settings.MODEL_KEYS
        ]
        choices = [("", _("No key")), *sorted(keys)]
        self.fields["key_name"].choices = choices  # type: ignore[attr-defined]

    def wishes(self) -> dict[str, Any]:
        """What was filled in, as `add_model_teacher` takes it."""
        cleaned = dict(self.cleaned_data)
        return {"endpoint": {name: cleaned.pop(name) for name in ENDPOINT}, **cleaned}
