"""Work that a worker takes by writing the time into its row: free again when no worker may be at it any more."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone


def in_no_hands(taken_at: str, *, longest: timedelta) -> Q:
    """Nobody took the row, or whoever did has had longer than a worker is let live. `taken_at` names the field."""
    return Q(**{f"{taken_at}__isnull": True}) | Q(**{f"{taken_at}__lt": timezone.now() - longest})
