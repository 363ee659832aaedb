"""OpenAssistant message trees: sibling replies of the assistant are the responses, their ranks recorded judgements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotation.formats.limits import checked_name, checked_score, kind_of, read_language
from annotation.formats.messages import checked_responses, parse_message
from annotation.formats.types import (
    BadRow,
    Message,
    Parsed,
    ParsedConversation,
    ParsedResponse,
    Refused,
    Row,
    judgements_from_scores,
)

NAME = "openassistant"
DESCRIPTION = "OpenAssistant trees: message_tree_id and prompt, with replies inside replies; rank 0 is the best"

Node = dict[str, Any]


def is_recognised(fields: dict[str, Any]) -> bool:
    return "message_tree_id" in fields and isinstance(fields.get("prompt"), dict)


def parse_row(row: Row) -> list[Parsed]:
    """One conversation for every message with two assistant replies or more; a bad one is named and leaves the rest
    of its tree in place. Raises Refused for a tree without any."""
    if not isinstance(row.fields.get("prompt"), dict):
        raise Refused(f"prompt is {kind_of(row.fields.get('prompt'))}, and must be a message with its replies")
    found = list(walk(row))
    if not found:
        raise Refused("no message of this tree has two replies of the assistant, so there is nothing to compare")
    return found


def walk(row: Row) -> Iterator[Parsed]:
    """Depth first, by a stack: replies may lie deeper than Python recurses."""
    stack: list[tuple[Node, tuple[Message, ...]]] = [(row.fields["prompt"], ())]
    while stack:
        node, before = stack.pop()
        try:
            path = (*before, message_of(node))
            replies = replies_of(node)
        except Refused as error:
            yield BadRow(row.line, str(error))
            continue
        stack.extend((reply, path) for reply in reversed(replies))
        answers = [reply for reply in replies if reply.get("role") == "assistant"]
        if len(answers) > 1:
            try:
                yield conversation(row, node, path, answers)
            except Refused as error:
                yield BadRow(row.line, f"{name_of(node)}: {error}")


def conversation(row: Row, node: Node, path: tuple[Message, ...], answers: list[Node]) -> ParsedConversation:
    responses = [
        ParsedResponse((message_of(answer),), checked_name(answer.get("model_name"), what="model_name"))
        for answer in answers
    ]
    return ParsedConversation(
        line=row.line,
        prompt=path,
        responses=checked_responses(responses),
        language=read_language(node) or read_language(row.fields),
        source="openassistant",
        external_id=checked_name(node.get("message_id"), what="message_id"),
        judgements=judgements_from_scores([score_of(answer) for answer in answers]),
    )


def replies_of(node: Node) -> list[Node]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Refused(f"the replies of {name_of(node)} must be a list of messages")
    return [reply for reply in replies if not reply.get("deleted")]


def message_of(node: Node) -> Message:
    return parse_message({"role": node.get("role", ""), "content": node.get("text")}, what=name_of(node))


def name_of(node: Node) -> str:
    return f"message {checked_name(node.get('message_id'), what='message_id') or 'without an id'}"


def score_of(node: Node) -> float | None:
    rank = checked_score(node.get("rank"), what=f"the rank of {name_of(node)}")
    return None if rank is None else -rank
