"""Forms that give a role in a campaign."""

from typing import Any

from allauth.account.models import EmailAddress
from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models import Role, User


class GrantForm(forms.Form):
    """A role for somebody who has an account."""

    user: User
    who = forms.CharField(
        label=_("Name or e-mail address"),
        max_length=254,
        help_text=_("As they sign in. An address counts once its owner has confirmed it."),
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.Name.choices, initial=Role.Name.RESEARCHER)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        who = data.get("who", "")
        # Anybody may write somebody else's address into an account: only one that was confirmed says who it is.
        confirmed = EmailAddress.objects.filter(email__iexact=who, verified=True).values("user")
        known = User.objects.filter(Q(username=who) | Q(pk__in=confirmed), is_active=True)
        found = list(known[:2]) if who else []
        if who and len(found) != 1:
            self.add_error("who", _("Nobody signs in with this. Make a link below and send it to them."))
        elif found:
            self.user = found[0]
        return data


class RoleLinkForm(forms.Form):
    """A role for whoever follows a link."""

    role = forms.ChoiceField(label=_("Role"), choices=Role.Name.choices, initial=Role.Name.RESEARCHER)
