"""When somebody works: their time zone, time off, and the hours of each weekday."""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from annotation.zones import zone_choices

LONGEST = timedelta(days=730)
"""Time off; whoever stays away for longer leaves the pool."""


class ZoneForm(forms.Form):
    """Where somebody is."""

    time_zone = forms.ChoiceField(label=_("My time zone"), choices=zone_choices)


class TimeOffForm(forms.Form):
    """Until the morning of a day, in the time zone of the request."""

    back_on = forms.DateField(
        label=_("I am back on"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def clean_back_on(self) -> datetime:
        day = self.cleaned_data["back_on"]
        if not timezone.localdate() < day <= timezone.localdate() + LONGEST:
            raise forms.ValidationError(_("Give a day from tomorrow on, within two years."))
        return timezone.make_aware(datetime.combine(day, time.min))


class HoursForm(forms.Form):
    """From when to when, for each weekday; a day left empty is a free day, a week left empty has no limits."""

    def __init__(self, *args: Any, hours: list[list[Any]], **options: Any) -> None:
        super().__init__(*args, **options)
        known = {int(weekday): (start, end) for weekday, start, end in hours}
        for weekday in WEEKDAYS:
            for name, value in zip(("from", "to"), known.get(weekday, ("", "")), strict=True):
                self.fields[f"{name}_{weekday}"] = forms.TimeField(
                    required=False, initial=value, widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M")
                )

    def days(self) -> Iterator[tuple[Any, forms.BoundField, forms.BoundField]]:
        for weekday, name in WEEKDAYS.items():
            yield name, self[f"from_{weekday}"], self[f"to_{weekday}"]

    def hours(self) -> list[list[Any]]:
        """As `set_working_hours` takes them; half a span is left for it to refuse."""
        spans = [
            (weekday, *(self.cleaned_data[f"{name}_{weekday}"] for name in ("from", "to"))) for weekday in WEEKDAYS
        ]
        return [
            [weekday, *("" if one is None else one.strftime("%H:%M") for one in span)]
            for weekday, *span in spans
            if any(one is not None for one in span)
        ]
