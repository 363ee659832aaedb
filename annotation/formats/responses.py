"""A prompt with any number of responses, and what is known of their worth: ranks or qualities."""

from __future__ import annotations

from typing import Any

from annotation.formats.limits import (
    checked_category,
    checked_judge,
    checked_name,
    checked_score,
    kind_of,
    read_language,
)
from annotation.formats.messages import checked_responses, parse_prompt, parse_reply, with_system
from annotation.formats.types import ParsedConversation, ParsedResponse, Refused, Row, judgements_from_scores

NAME = "responses"
DESCRIPTION = (
    "a prompt with responses: prompt, responses (texts or lists of messages); category, origins, ranks (0 is best) "
    "or quality (higher is better), judge, id if you have them"
)


def is_recognised(fields: dict[str, Any]) -> bool:
    return "prompt" in fields and "responses" in fields


def parse_row(row: Row) -> list[ParsedConversation]:
    """Raises Refused."""
    fields = row.fields
    replies = fields.get("responses")
    if not isinstance(replies, list):
        raise Refused(f"responses is {kind_of(replies)}, and must be a list")
    origins = parse_origins(fields.get("origins"), count=len(replies))
    responses = [
        ParsedResponse(parse_reply(reply, what=f"response {number}"), origin)
        for number, (reply, origin) in enumerate(zip(replies, origins, strict=True), start=1)
    ]
    return [
        ParsedConversation(
            line=row.line,
            prompt=with_system(parse_prompt(fields.get("prompt")), fields.get("system")),
            responses=checked_responses(responses),
            category=checked_category(fields.get("category")),
            language=read_language(fields),
            source=checked_name(fields.get("source"), what="source"),
            external_id=checked_name(fields.get("id"), what="id"),
            judgements=judgements_from_scores(
                parse_scores(fields, count=len(replies)), judge=checked_judge(fields.get("judge"))
            ),
        )
    ]


def parse_origins(value: Any, *, count: int) -> list[str]:
    if value is None:
        return [""] * count
    check_one_each(value, count=count, what="origins")
    return [checked_name(origin, what="an origin") for origin in value]


def parse_scores(fields: dict[str, Any], *, count: int) -> list[float | None]:
    """Higher is better; ranks count the other way."""
    if fields.get("quality") is not None:
        return parse_numbers(fields["quality"], count=count, what="quality")
    if fields.get("ranks") is not None:
        ranks = parse_numbers(fields["ranks"], count=count, what="ranks")
        return [None if rank is None else -rank for rank in ranks]
    return [None] * count


def parse_numbers(value: Any, *, count: int, what: str) -> list[float | None]:
    check_one_each(value, count=count, what=what)
    return [checked_score(number, what=what) for number in value]


def check_one_each(value: Any, *, count: int, what: str) -> None:
    if not isinstance(value, list) or len(value) != count:
        found = len(value) if isinstance(value, list) else kind_of(value)
        raise Refused(f"{what} must be a list with one entry for each of the {count} responses, and is {found}")
