"""The least that a desk could be, for `desk_floor`: session, user, a row locked and marked, a row stored, a fixed page.

No check, pay, counter, policy or template: what is left is Django, PostgreSQL and the web server.
"""

import uuid

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import re_path  # noqa: E402

settings.MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
settings.ROOT_URLCONF = __name__

PAGE = b"x" * 30_000
TABLES = """
    CREATE TABLE bare_offer (id serial PRIMARY KEY, person bigint, is_done boolean DEFAULT false);
    CREATE INDEX ON bare_offer (person, id) WHERE NOT is_done;
    CREATE TABLE bare_label (id serial PRIMARY KEY, offer bigint, person bigint, answer text);
"""


def make_tables(*, each: int) -> None:
    """Offers for every user there is."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        cursor.execute(
            "INSERT INTO bare_offer (person) SELECT u.id FROM annotation_user u, generate_series(1, %s)", [each]
        )


def answer(request: HttpRequest) -> HttpResponse:
    person = request.user.pk
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM bare_offer WHERE person = %s AND NOT is_done ORDER BY id LIMIT 1 FOR UPDATE", [person]
        )
        (offer,) = cursor.fetchone()
        cursor.execute("UPDATE bare_offer SET is_done = true WHERE id = %s", [offer])
        cursor.execute("INSERT INTO bare_label (offer, person, answer) VALUES (%s, %s, 'first')", [offer, person])
    return HttpResponse(b'<input name="offer" value="%s">%s' % (str(uuid.uuid4()).encode(), PAGE))


urlpatterns = [re_path("^desk/", answer), re_path("", lambda _request: HttpResponse(b"There is nothing here."))]

application = WSGIHandler()
