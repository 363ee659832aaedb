"""Whether this process answers and reaches its database: for whoever starts containers again, and for balancers."""

from collections.abc import Callable

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

PATH = "/health/"


class Health:
    """Middleware, the first: a check comes from 127.0.0.1 without TLS, whatever the site's names and redirects are.

    It says nothing but 200 or 503, reads no session, and asks the database one word.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info != PATH:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return HttpResponse(
            status=200 if is_database_there() else 503,
            content_type="text/plain",
            headers={"Cache-Control": "no-store"},
        )


def is_database_there() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return False
    return True
