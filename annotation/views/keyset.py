"""Pages by key, never by offset: the thousandth costs what the first one does."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

Row = TypeVar("Row", bound=Model)
PAGE = 50


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows of one page, and the key that the next one begins after; None on the last."""

    rows: list[Row]
    next_key: int | None


def newest_first(request: HttpRequest, rows: QuerySet[Row], *, size: int = PAGE) -> Page[Row]:
    """Rows before the key `before` of the request, newest first."""
    key = read_key(request, "before")
    found = rows.order_by("-pk") if key is None else rows.filter(pk__lt=key).order_by("-pk")
    return cut(list(found[: size + 1]), size)


def oldest_first(request: HttpRequest, rows: QuerySet[Row], *, size: int = PAGE) -> Page[Row]:
    """Rows after the key `after` of the request, oldest first."""
    return cut(list(rows.filter(pk__gt=read_key(request, "after") or 0).order_by("pk")[: size + 1]), size)


def cut(rows: list[Row], size: int) -> Page[Row]:
    """One row more than a page was read, to know whether there is another page."""
    return Page(rows[:size], rows[size - 1].pk if len(rows) > size else None)


def read_ticked(request: HttpRequest, name: str, *, most: int = PAGE) -> list[int]:
    """The keys that a form's boxes of this name sent; what is no key is passed over."""
    return [int(value) for value in request.POST.getlist(name)[:most] if is_key(value)]


def read_key(request: HttpRequest, name: str) -> int | None:
    """A key from the address; None for what is none, or no key of a table could be."""
    value = request.GET.get(name, "")
    return int(value) if is_key(value) else None


def read_sent(request: HttpRequest, name: str) -> int:
    """A key or a version that a form sent; 0, which is neither, for anything else."""
    value = request.POST.get(name, "")
    return int(value) if is_key(value) else 0


def is_key(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 19
