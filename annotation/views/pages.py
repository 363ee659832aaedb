"""What every staff page has in common: sign-in, then a role in the campaign, and only then the method."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from annotation.access import campaign_for, lacks_second_factor, may_own
from annotation.models import User
from annotation.services.refusals import Refusal


class HtmxRequest(HttpRequest):
    htmx: HtmxDetails
    user: User | AnonymousUser


class PageRequest(HtmxRequest):
    """A request of somebody who is signed in."""

    user: User


View = Callable[..., HttpResponseBase]


def page_of(
    find: Callable[..., object], *methods: str, key: str = "", is_own: bool = False, page: str = "home"
) -> Callable[[View], View]:
    """A page of something that is found for the user by its key in the address, before the method is looked at.

    `find(user, key)`, or `find(user)` where the address has no key, raises Http404 for whoever may not see it. Pages on
    which something can be changed ask for a second factor, but for one's own. Of a verb, the sign-in leads to `page`.
    """
    asks_more = not is_own and set(methods) != {"GET"}

    def wrap(view: View) -> View:
        @wraps(view)
        def answer(request: HtmxRequest, **arguments: Any) -> HttpResponseBase:
            if not isinstance(request.user, User):
                return lead_to_sign_in(request, request.get_full_path() if "GET" in methods else reverse(page))
            found = find(request.user, arguments.pop(key)) if key else find(request.user)
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            if asks_more and lacks_second_factor(request.user):
                return lead_to_second_factor(request)
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


def lead_to_sign_in(request: HtmxRequest, page: str) -> HttpResponseBase:
    """To the sign-in, and from there to the page. A fragment leads the browser, or it would swap the sign-in in."""
    if not request.htmx:
        return redirect_to_login(page)
    where = redirect_to_login(request.htmx.current_url_abs_path or reverse("home"))
    return HttpResponseClientRedirect(where["Location"])


def lead_to_second_factor(request: HttpRequest) -> HttpResponseBase:
    messages.warning(
        request, _("Whoever runs campaigns or pools signs in with a second factor. Set it up, then go on.")
    )
    if request.headers.get("HX-Request"):
        return HttpResponseClientRedirect(reverse("mfa_activate_totp"))
    return redirect("mfa_activate_totp")


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
