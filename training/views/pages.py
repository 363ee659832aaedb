"""What every researcher's page has in common: who may see it, and which campaign it speaks of."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django_htmx.middleware import HtmxDetails

from annotation.access import campaign_for
from annotation.models import Role, User


class HtmxRequest(HttpRequest):
    htmx: HtmxDetails
    user: User | AnonymousUser


class PageRequest(HtmxRequest):
    """A request of somebody who is signed in."""

    user: User


View = Callable[..., HttpResponseBase]


def research_page(*methods: str) -> Callable[[View], View]:
    """Sign-in, then the researcher's role in the campaign, and only then the method: a stranger learns nothing."""

    def wrap(view: View) -> View:
        @wraps(view)
        def answer(request: HtmxRequest, code: UUID, **arguments: Any) -> HttpResponseBase:
            if not isinstance(request.user, User):
                return redirect_to_login(request.get_full_path())
            campaign = campaign_for(request.user, code=code, role=Role.Name.RESEARCHER)
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            return view(request, campaign, **arguments)

        return answer

    return wrap


def theme_of(request: HttpRequest) -> str:
    return "dark" if request.GET.get("theme") == "dark" else "light"


def svg(picture: str) -> HttpResponse:
    response = HttpResponse(picture, content_type="image/svg+xml")
    response["Cache-Control"] = "private, max-age=5"
    return response
