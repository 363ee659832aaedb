"""Pages are compressed for whoever takes it, pages' tokens stay masked, and downloads are left alone."""

import gzip
import re
from collections.abc import Callable

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from annotation.compression import Compression
from annotation.models import Teacher, User

pytestmark = pytest.mark.django_db
GZIP = {"HTTP_ACCEPT_ENCODING": "gzip, br"}


def test_a_page_is_compressed_for_whoever_takes_it(
    bob: User, teacher: Teacher, sign_in: Callable[[User], Client]
) -> None:
    client = sign_in(bob)
    plain, packed = client.get(reverse("account")), client.get(reverse("account"), **GZIP)
    assert "Content-Encoding" not in plain
    assert packed["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed["Vary"]
    assert len(packed.content) < len(plain.content) / 2
    assert b"My work and data" in gzip.decompress(packed.content)


def test_neither_size_nor_token_repeats(bob: User, sign_in: Callable[[User], Client]) -> None:
    """What an attacker would measure: padding and mask are drawn anew for each answer."""
    client = sign_in(bob)
    pages = [client.get(reverse("account"), **GZIP).content for _time in range(12)]
    assert len({len(page) for page in pages}) > 3
    tokens = [re.findall(rb'x-csrftoken": "(\w+)"', gzip.decompress(page))[0] for page in pages]
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize(
    "response",
    [
        StreamingHttpResponse(iter([b"x" * 999]), content_type="text/html"),
        HttpResponse(b"x" * 999, content_type="application/zip"),
        HttpResponse(b"x" * 999, content_type="text/csv; charset=utf-8"),
    ],
    ids=["streamed", "zip", "csv"],
)
def test_downloads_are_left_as_they_are(response: HttpResponse, rf: RequestFactory) -> None:
    answered = Compression(lambda request: response)(rf.get("/", **GZIP))
    assert "Content-Encoding" not in answered


def test_a_picture_is_compressed(rf: RequestFactory) -> None:
    picture = HttpResponse(b"<svg>" * 200, content_type="image/svg+xml")
    assert Compression(lambda request: picture)(rf.get("/", **GZIP))["Content-Encoding"] == "gzip"
