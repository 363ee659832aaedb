"""What no request may carry, refused before a view reads it: NUL characters, and more than its sender may send."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.translation import gettext as _

from annotation.access import may_own
from annotation.models import User

TOO_LARGE = 413


class Guard:
    """Middleware, after the one that knows the user.

    PostgreSQL stores no NUL, so that one in an address or a field would end as an error of the server. A body is
    written to disk before a view is asked: only those who have something to import may send more than a form holds.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            return HttpResponseBadRequest(_("The address holds a NUL character."))
        if is_too_large(request):
            return HttpResponse(_("This is more than may be sent here."), status=TOO_LARGE)
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: Any) -> HttpResponse | None:
        """After the check against forgery, which has read the form."""
        if request.method == "POST" and any("\0" in text for _name, texts in request.POST.lists() for text in texts):
            return HttpResponseBadRequest(_("A field holds a NUL character."))
        return None


def is_too_large(request: HttpRequest) -> bool:
    length = request.META.get("CONTENT_LENGTH") or "0"
    sent = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0
    if sent <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return False  # nearly always, and nobody is looked up for it
    return sent > settings.LARGEST_UPLOAD or not (isinstance(request.user, User) and may_own(request.user))
