"""A health check tells whether the site works, however the site is reached, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def a_site_behind_tls(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["labels.example.org"]
    settings.SECURE_SSL_REDIRECT = True


def test_what_the_image_asks_is_answered(client: Client) -> None:
    """As the container does: by address, without TLS."""
    asked = re.search(r"urlopen\('http://([\d.:]+)(/[^']*)'", (ROOT / "Dockerfile").read_text())
    assert asked is not None
    found = client.get(asked[2], HTTP_HOST=asked[1])
    assert (found.status_code, found.content) == (200, b"")
    assert not found.cookies
    assert found["Cache-Control"] == "no-store"


def test_the_rest_keeps_its_host_and_its_redirect(client: Client) -> None:
    assert client.get("/account/login/", HTTP_HOST="127.0.0.1:8000").status_code == 400
    assert client.get("/account/login/", HTTP_HOST="labels.example.org").status_code == 301


def test_it_says_when_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("connection refused: password=secret")

    monkeypatch.setattr(connection, "cursor", refuse)
    found = client.get("/health/")
    assert (found.status_code, found.content) == (503, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_only_read(client: Client, method: str) -> None:
    assert client.generic(method, "/health/").status_code == 405
    assert client.head("/health/").status_code == 200
