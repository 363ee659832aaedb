"""When a break is suggested: after so long at the desk without a pause, by a cookie that a pause lets expire."""

from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Teacher

COOKIE = "desk_since"
WORK = timedelta(minutes=45)
PAUSE = timedelta(minutes=5)
"""Without a comparison for so long, work begins anew."""


def working_since(request: HttpRequest, teacher: Teacher) -> datetime:
    """Since when this teacher has compared without a pause in this browser."""
    now = timezone.now()
    owner, _dot, second = request.COOKIES.get(COOKIE, "").partition(".")
    is_own = owner == str(teacher.pk) and second.isascii() and second.isdigit() and len(second) < 12
    return min(now, datetime.fromtimestamp(int(second), tz=now.tzinfo)) if is_own else now


def break_after(since: datetime) -> str:
    """The suggestion, once it is due; else empty."""
    if timezone.now() - since < WORK:
        return ""
    return _(
        "You have worked for three quarters of an hour. A short break keeps judgements sharp: your comparison waits."
    )


def remember_work(request: HttpRequest, response: HttpResponse, teacher: Teacher, *, since: datetime) -> None:
    response.set_cookie(
        COOKIE,
        f"{teacher.pk}.{int(since.timestamp())}",
        max_age=PAUSE,
        path="/desk/",
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
