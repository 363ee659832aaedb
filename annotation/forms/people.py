"""Forms of pools and the people in them: terms, invitations, members, and an account opened by invitation."""

from django import forms
from django.contrib.auth.password_validation import password_validators_help_text_html
from django.utils.translation import gettext_lazy as _

from annotation.forms.campaigns import CurrencyField, LinesField
from annotation.models import Membership, Pool


class PoolForm(forms.ModelForm):  # type: ignore[type-arg]
    """A pool's name and terms."""

    categories = LinesField(label=_("Categories"), required=False, help_text=_("One a line. Empty: all."))
    languages = LinesField(label=_("Languages"), required=False, help_text=_("One a line."))

    currency = CurrencyField()
    completion_url = forms.URLField(
        label=_("Completion URL of an external panel"),
        required=False,
        max_length=200,
        assume_scheme="https",
        help_text=_("With the panel's completion code in it. Participants are sent there at the end."),
    )

    class Meta:
        model = Pool
        fields = (
            "name", "pay_per_label", "pay_per_hour", "currency", "daily_limit", "categories", "languages", "terms",
            "completion_url",
        )  # fmt: skip
        widgets = {"terms": forms.Textarea(attrs={"rows": 3})}
        labels = {
            "name": _("Name"),
            "pay_per_label": _("Pay per label"),
            "pay_per_hour": _("Pay per hour"),
            "daily_limit": _("Labels a day"),
            "terms": _("Terms"),
        }
        help_texts = {
            "daily_limit": _("At most so many for each teacher. Empty: no limit."),
            "terms": _("What teachers agree to. A change asks them again."),
        }

    def clean_name(self) -> str:
        """Taken names are refused by the service, which says what to do."""
        return str(self.cleaned_data["name"])

    def validate_unique(self) -> None:
        pass


class InviteForm(forms.Form):
    """A link for so many people, or letters to addresses."""

    uses = forms.IntegerField(
        label=_("People"), min_value=1, max_value=10_000, initial=1, help_text=_("How many may use the link.")
    )
    addresses = forms.CharField(
        label=_("E-mail addresses"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("One a line, or a CSV with a column “email”. Each gets a letter with a link of their own."),
    )
    file = forms.FileField(label=_("Or a CSV file"), required=False)


class MemberForm(forms.ModelForm):  # type: ignore[type-arg]
    """One member's own terms."""

    categories = LinesField(label=_("Categories"), required=False, help_text=_("One a line. Empty: the pool's."))
    rationality = forms.FloatField(
        label=_("Known rationality"),
        required=False,
        min_value=0,
        help_text=_("0 flips a coin, 1 is usual. Used where the campaign does not estimate it. Empty: 1."),
    )

    class Meta:
        model = Membership
        fields = ("cost_per_label", "capacity", "categories")
        labels = {"cost_per_label": _("Pay per label"), "capacity": _("Labels in all")}
        help_texts = {"cost_per_label": _("Empty: the pool's."), "capacity": _("Empty: no limit.")}


class AccountForm(forms.Form):
    """An account for somebody who came with an invitation."""

    username = forms.CharField(label=_("Name to sign in with"), max_length=150)
    password = forms.CharField(
        label=_("Password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=password_validators_help_text_html,
    )
