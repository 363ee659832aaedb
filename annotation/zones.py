"""Time zones: those that one may choose, and each request in the zone of whoever is signed in."""

from collections.abc import Callable
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from annotation.models import User

OLD = ("Etc/", "SystemV/", "posix/", "right/")
"""Zones of which no place speaks."""


def zone_named(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        return None


@cache
def zone_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Zones as "City" under their region, and UTC."""
    regions: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(available_timezones()):
        region, slash, place = name.partition("/")
        if slash and not name.startswith(OLD):
            regions.setdefault(region, []).append((name, place.replace("_", " ")))
    return [("UTC", [("UTC", "UTC")]), *regions.items()]


class LocalTime:
    """Middleware, after the one that knows the user: what is shown and typed is in their time zone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        zone = zone_named(request.user.time_zone) if isinstance(request.user, User) else None
        with timezone.override(zone):  # None is the site's own
            return self.get_response(request)
