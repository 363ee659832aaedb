"""What goes first in a queue: how far ahead of its age an offer stands, by priority and by a date that is near."""

from datetime import datetime, timedelta

from django.db.models import F, FloatField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Floor

from annotation.models import Comparison

STEP = 1e9
"""One step of urgency. A draft's own rank, which grows with the plans, lies in [0, STEP): no age outweighs a step."""
NEAR = 100
"""Steps of a date that is near: above every priority that a page gives."""
DUE_SOON = timedelta(days=1)
BEFORE_ALL = -1e15
"""Rank of a lesson: before work of every urgency."""


def urgency_of(*, priority: int, due_at: datetime | None, now: datetime) -> int:
    """In steps; above 0 it goes before what has none."""
    is_near = due_at is not None and due_at - now <= DUE_SOON
    return priority + (NEAR if is_near else 0)


def head_start(comparison: Comparison, *, now: datetime) -> float:
    """What is taken off the rank of an offer of this comparison."""
    return STEP * urgency_of(priority=comparison.priority, due_at=comparison.due_at, now=now)


def rank_at(start: float) -> Combinable:
    """The rank as if the offer had been queued with this head start, whichever one it was queued with."""
    step = Value(STEP, output_field=FloatField())
    return F("rank") - Floor(F("rank") / step) * step - Value(start, output_field=FloatField())
