"""Forms of pay. Each carries an id of its own, under which what it books is booked once."""

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

OWED = re.compile(r"(\d{1,18}) ([A-Z]{3}) (\d{1,8}(?:\.\d{1,4})?)", re.ASCII)
"""A teacher's key, a currency and an amount, as a page shows them."""


class PayForm(forms.Form):
    """Payouts that were made outside the platform: a reference, and what the page showed as owed."""

    form = forms.UUIDField()
    memo = forms.CharField(required=False)

    def clean_memo(self) -> str:
        return str(self.cleaned_data["memo"])[:255]

    def read_owed(self, *, most: int) -> list[tuple[int, str, Decimal]]:
        """(teacher, currency, amount) of every line that was shown; nothing is paid where nothing is owed."""
        shown: Any = self.data
        found = [OWED.fullmatch(line) for line in shown.getlist("owed")[:most]]
        return [(int(one[1]), one[2], Decimal(one[3])) for one in found if one is not None]


class BonusForm(forms.Form):
    """Pay beyond labels, from the campaign's budget."""

    movement = forms.UUIDField(widget=forms.HiddenInput)
    amount = forms.DecimalField(
        label=_("Amount"), min_value=Decimal("0.0001"), max_digits=10, decimal_places=4, help_text=_("More than 0.")
    )
    memo = forms.CharField(label=_("What for"), max_length=255)
