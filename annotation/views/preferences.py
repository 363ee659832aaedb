"""How the pages look and answer to keys: settings that belong to the person, not to a campaign."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

THEMES = ("auto", "light", "dark")


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Kept in a cookie, since it suits a screen and must work before anybody has signed in."""
    response = HttpResponseRedirect(next_page(request))
    theme = request.POST.get("theme", "auto")
    if theme in THEMES:
        age = timedelta(days=365)
        response.set_cookie("theme", theme, max_age=age, secure=request.is_secure(), httponly=True, samesite="Lax")
    return response


def next_page(request: HttpRequest) -> str:
    """Where the form said to go on, if that is on this site."""
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return wanted
    return resolve_url("home")
