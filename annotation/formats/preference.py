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
    with_system,
)
from annotation.formats.types import (
    Choice,
    Message,
    ParsedConversation,
    ParsedJudgement,
    ParsedResponse,
    Refused,
    Row,
)

NAME = "preference"
DESCRIPTION = "TRL preference rows: chosen, rejected and (unless they share it) prompt, as texts or lists of messages"
PROMPT_NAMES = ("question", "instruction", "input", "query")
"""What published sets call the prompt."""
CONTEXT_NAMES = ("context", "history", "messages", "conversation", "conversations", "post", "system")
"""Where a prompt, or a part of it, may stand that we do not know how to put together."""

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
        prompt=with_system(prompt, fields.get("system")),
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
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        return split_shared_prompt(parse_messages(chosen, what="chosen"), parse_messages(rejected, what="rejected"))
    if prompt is None:
        prompt = prompt_of_another_name(fields)
    if prompt is None:
        return split_shared_words(chosen, rejected)
    return split_explicit(with_system(parse_prompt(prompt), fields.get("system")), chosen, rejected)


def prompt_of_another_name(fields: dict[str, Any]) -> Any:
    """The prompt under one of PROMPT_NAMES, None where nothing in the row looks like one. Raises Refused where it may
    be in several fields: what two plain answers begin with is their prompt only if it stands nowhere else."""
    found = [name for name in PROMPT_NAMES if is_given(fields.get(name))]
    beside = [name for name in CONTEXT_NAMES if is_given(fields.get(name)) and not (found and name == "system")]
    if len(found) == 1 and not beside:
        return fields[found[0]]
    if found or beside:
        raise Refused(
            f"there is no prompt, but {' and '.join([*found, *beside])}: put all that was asked into one field, prompt"
        )
    return None


def is_given(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def split_explicit(prompt: tuple[Message, ...], chosen: Any, rejected: Any) -> Triple:
    """Public sets often give the prompt and repeat it at the head of both dialogues: there it is taken off."""
    replies = [parse_full_or_reply(chosen, prompt, "chosen"), parse_full_or_reply(rejected, prompt, "rejected")]
    return prompt, replies[0], replies[1]


def parse_full_or_reply(value: Any, prompt: tuple[Message, ...], name: str) -> tuple[Message, ...]:
    """With or without the prompt's system message at its head."""
    what = f"the {name} response"
    if not isinstance(value, list):
        return parse_reply(value, what=what)
    messages = parse_messages(value, what=what)
    for head in (prompt, prompt[1:]) if prompt[0].role == "system" else (prompt,):
        if messages[: len(head)] == head:
            return messages[len(head) :]
    return messages


def split_shared_words(chosen: Any, rejected: Any) -> Triple:
    prompt, one, other = split_shared_text(checked_text(chosen, what="chosen"), checked_text(rejected, what="rejected"))
    return (Message("user", prompt),), (Message("assistant", one),), (Message("assistant", other),)
