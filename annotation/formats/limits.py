"""How large a source, a row and a text may be, and what no text may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annotation.formats.types import Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """Refused beyond these: generous for text that people read, tight enough that no file fills the memory."""

    line_bytes: int = 8 * 2**20
    """Longest line of a text file, or element of a JSON array, in bytes."""
    rows: int = 5_000_000
    """Most rows of one source."""
    source_bytes: int = 64 * 2**30
    """Most bytes of one source once decompressed: stops a compression bomb."""
    depth: int = 200
    """Deepest nesting of lists and objects in a row; a reply in an OpenAssistant tree costs two."""

    def __post_init__(self) -> None:
        if min(self.line_bytes, self.rows, self.source_bytes, self.depth) < 1:
            raise ValueError("every limit must be at least 1")


DEFAULT_LIMITS = Limits()

TEXT_CHARACTERS = 100_000
"""Longest single message, in characters: about forty printed pages."""
CATEGORY_CHARACTERS = 64
JUDGE_CHARACTERS = 128
NAME_CHARACTERS = 200
"""Longest origin, source or external id, in characters."""
LARGEST_SCORE = 1e100
"""The difference of two scores is finite too, and can be stored."""
MESSAGES = 100
"""Most messages of a prompt or of a response."""
RESPONSES = 32
"""Most responses of one conversation: 496 pairs."""


def checked_text(value: object, *, what: str) -> str:
    """value as a text that people can read and PostgreSQL can store; raises Refused."""
    if not isinstance(value, str):
        raise Refused(f"{what} is {kind_of(value)}, and must be a text")
    if not value.strip():
        raise Refused(f"{what} is empty: give it a text, or remove the row")
    if len(value) > TEXT_CHARACTERS:
        raise Refused(f"{what} has {len(value):,} characters, more than {TEXT_CHARACTERS:,}: shorten it")
    check_characters(value, what=what)
    return value


def checked_name(value: object, *, what: str, limit: int = NAME_CHARACTERS) -> str:
    """value as a short name; None and a missing field are the empty name; numbers are written out; raises Refused."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused(f"{what} is {kind_of(value)}, and must be a short text")
    name = str(value).strip()
    if len(name) > limit:
        raise Refused(f"{what} has {len(name):,} characters, more than {limit}: shorten it")
    check_characters(name, what=what)
    return name


def checked_score(value: object, *, what: str) -> float | None:
    """value as a number that can be compared and stored; None was not judged; raises Refused."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{what} holds {kind_of(value)}, and must hold numbers (null where nobody judged)")
    if not -LARGEST_SCORE <= value <= LARGEST_SCORE:  # nor is NaN
        raise Refused(
            f"{what} holds NaN or a number beyond {LARGEST_SCORE:.0e}, and must hold numbers that can be compared "
            "(null where nobody judged)"
        )
    return value


def checked_category(value: object) -> str:
    return checked_name(value, what="category", limit=CATEGORY_CHARACTERS)


def read_language(fields: dict[str, Any]) -> str:
    """What the row calls its `language` or `lang`, as it is written; "" where that is no short text."""
    named = (fields.get("language"), fields.get("lang"))
    return next((text for text in named if isinstance(text, str) and 0 < len(text) <= NAME_CHARACTERS), "")


def checked_judge(value: object) -> str:
    return checked_name(value, what="judge", limit=JUDGE_CHARACTERS)


def check_characters(text: str, *, what: str) -> None:
    if "\0" in text:
        raise Refused(f"{what} holds a NUL character (\\u0000), which the database cannot store: remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{what} holds half of a surrogate pair at character {error.start + 1}, which is no text: "
            "write the file again as UTF-8"
        ) from None


def check_depth(value: object, *, limit: int) -> None:
    """Raises Refused where lists and objects stand inside each other more than limit deep; walks without recursion."""
    level: list[object] = [value]
    for _ in range(limit + 1):
        level = [child for parent in level for child in children_of(parent)]
        if not level:
            return
    raise Refused(f"the row is nested more than {limit} deep: flatten it")


def children_of(value: object) -> list[object]:
    """The containers directly inside value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inside if isinstance(child, dict | list)]


def kind_of(value: object) -> str:
    """What a person would call a JSON value."""
    if value is None:
        return "missing"
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
