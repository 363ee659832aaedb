"""Rows as a CSV that a spreadsheet opens without running anything, streamed in flat memory."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.http import StreamingHttpResponse

RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula when it comes first: OWASP's list, the full-width signs last."""
BLANKS = " \u00a0\u3000\ufeff\u200b"
"""What a spreadsheet may drop before it."""


class _Line:
    """What `csv.writer` writes into: it hands the line back."""

    def write(self, line: str) -> str:
        return line


def safe_cell(value: Any) -> Any:
    """A text that would run as a formula gets an apostrophe before it; numbers are what they are."""
    if isinstance(value, str) and value.lstrip(BLANKS).startswith(RUNS):
        return f"'{value}"
    return value


def write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(header)
    for row in rows:
        yield writer.writerow([safe_cell(cell) for cell in row])


def answer_csv(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(write_csv(header, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
