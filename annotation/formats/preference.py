"""TRL preference rows: chosen and rejected, standard or conversational, with the prompt given or shared."""

from __future__ import annotations

from typing import Any

from annotation.formats.limits import checked_category, checked_judge, checked_name, checked_text, read_language
from annotation.formats.messages import (
    checked_reply,
    checked_responses,
    parse_messages,
    parse_prompt,
    parse_reply,
    split_shared_prompt,
    split_shared_text,
)
from annotation.formats.types import (
    Choice,
    Message,
    ParsedConversation,
    ParsedJudgement,
    ParsedResponse,
    Row,
)

NAME = "preference"
DESCRIPTION = "TRL preference rows: chosen, rejected and (unless they share it) prompt, as texts or lists of messages"

Triple = tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]


def is_recognised(fields: dict[str, Any]) -> bool:
    return "chosen" in fields and "rejected" in fields


def parse_row(row: Row) -> list[ParsedConversation]:
    """Raises Refused."""
    return [preference_conversation(row, *split(row.fields))]


def preference_conversation(
    row: Row, prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> ParsedConversation:
    fields = row.fields
    return ParsedConversation(
        line=row.line,
        prompt=prompt,
        responses=checked_responses(
            [
                ParsedResponse(
                    checked_reply(chosen, what="the chosen response"),
                    checked_name(fields.get("chosen_origin"), what="chosen_origin"),
                ),
                ParsedResponse(
                    checked_reply(rejected, what="the rejected response"),
                    checked_name(fields.get("rejected_origin"), what="rejected_origin"),
                ),
            ]
        ),
        category=checked_category(fields.get("category")),
        language=read_language(fields),
        source=checked_name(fields.get("source"), what="source"),
        external_id=checked_name(fields.get("id"), what="id"),
        judgements=(ParsedJudgement(0, 1, Choice.FIRST, checked_judge(fields.get("judge"))),),
    )


def split(fields: dict[str, Any]) -> Triple:
    chosen, rejected, prompt = fields.get("chosen"), fields.get("rejected"), fields.get("prompt")
    if prompt is None:
        return split_implicit(chosen, rejected)
    return split_explicit(parse_prompt(prompt), chosen, rejected)


def split_explicit(prompt: tuple[Message, ...], chosen: Any, rejected: Any) -> Triple:
    """Public sets often give the prompt and repeat it at the head of both dialogues: there it is taken off."""
    replies = [parse_full_or_reply(chosen, prompt, "chosen"), parse_full_or_reply(rejected, prompt, "rejected")]
    return prompt, replies[0], replies[1]


def parse_full_or_reply(value: Any, prompt: tuple[Message, ...], name: str) -> tuple[Message, ...]:
    what = f"the {name} response"
    if not isinstance(value, list):
        return parse_reply(value, what=what)
    messages = parse_messages(value, what=what)
    return messages[len(prompt) :] if messages[: len(prompt)] == prompt else messages


def split_implicit(chosen: Any, rejected: Any) -> Triple:
    if isinstance(chosen, list) and isinstance(rejected, list):
        return split_shared_prompt(parse_messages(chosen, what="chosen"), parse_messages(rejected, what="rejected"))
    prompt, one, other = split_shared_text(checked_text(chosen, what="chosen"), checked_text(rejected, what="rejected"))
    return (Message("user", prompt),), (Message("assistant", one),), (Message("assistant", other),)
