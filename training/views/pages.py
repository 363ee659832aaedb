"""What every researcher's page has in common: who may see it, and how its pictures are answered."""

from functools import partial

from django.http import HttpRequest, HttpResponse

from annotation.models import Role
from annotation.views.pages import PageRequest, staff_page

__all__ = ["PageRequest", "research_page", "svg", "theme_of"]

research_page = partial(staff_page, role=Role.Name.RESEARCHER)
"""A page of one campaign, for its researchers and admins."""


def theme_of(request: HttpRequest) -> str:
    return "dark" if request.GET.get("theme") == "dark" else "light"


def svg(picture: str) -> HttpResponse:
    response = HttpResponse(picture, content_type="image/svg+xml")
    response["Cache-Control"] = "private, max-age=5"
    return response
