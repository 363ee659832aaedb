"""Which format the rows of a source have, and the rows read in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from annotation.formats import hh, mtbench, openassistant, preference, responses
from annotation.formats.types import BadRow, Parsed, Refused, Row, UnreadableSource

ROWS_LOOKED_AT = 100
"""How many rows may be unknown before the source as a whole is refused."""

NAME_SHOWN = 40
"""Characters of a field's name that a reason repeats."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way of writing conversations that this platform reads."""

    name: str
    description: str
    is_recognised: Callable[[dict[str, Any]], bool]
    parse: Callable[[Iterable[Row | BadRow]], Iterator[Parsed]]


def each_row(
    parse_row: Callable[[Row], Iterable[Parsed]],
) -> Callable[[Iterable[Row | BadRow]], Iterator[Parsed]]:
    """A reader of rows that stand for themselves, from a reader of one."""

    def parse(rows: Iterable[Row | BadRow]) -> Iterator[Parsed]:
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield from parse_row(row)
            except Refused as error:
                yield BadRow(row.line, str(error))

    return parse


# The narrower a format, the further up: flat dialogues are preference rows too, trees have a prompt too.
FORMATS = (
    Format(mtbench.VOTES, mtbench.VOTES_DESCRIPTION, mtbench.are_votes, each_row(mtbench.parse_vote)),
    Format(
        mtbench.CONVERSATIONS,
        mtbench.CONVERSATIONS_DESCRIPTION,
        mtbench.are_conversations,
        mtbench.parse_conversations,
    ),
    Format(
        openassistant.NAME, openassistant.DESCRIPTION, openassistant.is_recognised, each_row(openassistant.parse_row)
    ),
    Format(responses.NAME, responses.DESCRIPTION, responses.is_recognised, each_row(responses.parse_row)),
    Format(hh.NAME, hh.DESCRIPTION, hh.is_recognised, each_row(hh.parse_row)),
    Format(preference.NAME, preference.DESCRIPTION, preference.is_recognised, each_row(preference.parse_row)),
)


def detect(fields: dict[str, Any]) -> Format | None:
    return next((candidate for candidate in FORMATS if candidate.is_recognised(fields)), None)


def parse_rows(rows: Iterable[Row | BadRow]) -> tuple[Format, Iterator[Parsed]]:
    """The format of the first row that any format recognises, and everything in it, bad rows among them.

    One source has one format. Reads ahead by at most ROWS_LOOKED_AT rows; raises UnreadableSource where none of them
    is known.
    """
    iterator = iter(rows)
    seen: list[Row | BadRow] = []
    for row in islice(iterator, ROWS_LOOKED_AT):
        seen.append(row)
        if isinstance(row, Row) and (found := detect(row.fields)):
            return found, found.parse(chain(seen, iterator))
    raise UnreadableSource(unknown_format(seen))


def unknown_format(seen: list[Row | BadRow]) -> str:
    if not seen:
        return "The source is empty: there is no row in it."
    known = "; ".join(candidate.description for candidate in FORMATS)
    first = next((row for row in seen if isinstance(row, Row)), None)
    if first is None:
        bad = next(row for row in seen if isinstance(row, BadRow))
        return f"No row could be read. Line {bad.line}: {bad.reason}. What can be read: {known}."
    # A name may hold what no database stores (NUL, halves of surrogate pairs), or be a megabyte long.
    keys = ", ".join(repr(name[:NAME_SHOWN]) for name in sorted(first.fields)[:12]) or "no fields at all"
    return f"The rows are in no known format; the first has {keys}. What can be read: {known}."
