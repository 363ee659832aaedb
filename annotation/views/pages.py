"""What every staff page has in common: sign-in, then a role in the campaign, and only then the method."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django_htmx.middleware import HtmxDetails

from annotation.access import campaign_for, visible_campaigns
from annotation.models import Role, User
from annotation.services.refusals import Refusal


class HtmxRequest(HttpRequest):
    htmx: HtmxDetails
    user: User | AnonymousUser


class PageRequest(HtmxRequest):
    """A request of somebody who is signed in."""

    user: User


View = Callable[..., HttpResponseBase]


def page_of(find: Callable[..., object], *methods: str, key: str = "") -> Callable[[View], View]:
    """A page of something that is found for the user by its key in the address, before the method is looked at.

    `find(user, key)`, or `find(user)` where the address has no key, raises Http404 for whoever may not see it.
    """

    def wrap(view: View) -> View:
        @wraps(view)
        def answer(request: HtmxRequest, **arguments: Any) -> HttpResponseBase:
            if not isinstance(request.user, User):
                return redirect_to_login(request.get_full_path())
            found = find(request.user, arguments.pop(key)) if key else find(request.user)
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            return view(request, found, **arguments)

        return answer

    return wrap


def staff_page(*methods: str, role: str | None = None) -> Callable[[View], View]:
    """A page of one campaign, for whoever has the role in it; None asks for any. A stranger learns nothing."""
    return page_of(lambda user, code: campaign_for(user, code=code, role=role), *methods, key="code")


def anybody(user: User) -> User:
    """Finds whoever is signed in: for `page_of`."""
    return user


def find_owner(user: User) -> User:
    """Oneself, if one may make campaigns and pools, for the pages beside the campaigns. Raises Http404."""
    if not may_own(user):
        raise Http404
    return user


def may_own(user: User) -> bool:
    """Whether somebody may make campaigns and pools: a superuser, or the admin of a campaign."""
    return user.is_superuser or visible_campaigns(user, role=Role.Name.ADMIN).exists()


def told(request: HttpRequest, act: Callable[[], object], success: str) -> bool:
    """Do it and say so; a refusal is said instead. True where it was done."""
    try:
        act()
    except Refusal as refusal:
        messages.warning(request, str(refusal))
        return False
    if success:
        messages.success(request, success)
    return True
