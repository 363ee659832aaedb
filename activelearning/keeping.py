"""What is dear to work out is kept for a while, longer the dearer it was: however many look, and however often."""

import hashlib
import time
from collections.abc import Callable
from typing import TypeVar

from django.core.cache import cache

from annotation.models import Campaign

SHARE = 20
"""Working a thing out takes at most one part in so many of a processor's time,"""
LONGEST = 300
"""but nothing is older than so many seconds: one slow moment must not be remembered for an hour."""

Found = TypeVar("Found")


def kept(name: str, campaign: Campaign, *parts: object, seconds: float, work: Callable[[], Found]) -> Found:
    """What `work` gave lately, never None; it is asked anew after so many seconds, or later where it took long."""
    key = hashlib.sha256(f"{name} {campaign.code} {parts}".encode()).hexdigest()
    found: Found | None = cache.get(key)
    if found is None:
        started = time.perf_counter()
        found = work()
        took = time.perf_counter() - started
        cache.set(key, found, max(seconds, min(SHARE * took, LONGEST)))
    return found
