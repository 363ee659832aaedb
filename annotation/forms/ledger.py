"""Forms of pay."""

from decimal import Decimal

from django import forms
from django.utils.translation import gettext_lazy as _


class BonusForm(forms.Form):
    """Pay beyond labels, from the campaign's budget."""

    amount = forms.DecimalField(
        label=_("Amount"), min_value=Decimal("0.0001"), max_digits=10, decimal_places=4, help_text=_("More than 0.")
    )
    memo = forms.CharField(label=_("What for"), max_length=255)
