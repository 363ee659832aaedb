"""Which campaign a command's argument means."""

from contextlib import suppress
from uuid import UUID

from django.core.management.base import CommandError
from django.db.models import Q

from annotation.models import Campaign


def find_campaign(name: str) -> Campaign:
    """By name, code or number. Raises CommandError when none or several are meant."""
    meant = Q(name=name)
    if name.isdecimal():
        meant |= Q(pk=int(name))
    with suppress(ValueError):
        meant |= Q(code=UUID(name))
    found = list(Campaign.objects.filter(meant)[:2])
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandError(f"Several campaigns are called {name!r}: give the number or the code.")
    known = ", ".join(f"{pk} {title!r}" for pk, title in Campaign.objects.values_list("id", "name")[:20]) or "none yet"
    raise CommandError(f"There is no campaign {name!r}. There are: {known}.")
