"""HH-RLHF flat text: chosen and rejected dialogues written as "\\n\\nHuman: … \\n\\nAssistant: …"."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from annotation.formats.limits import checked_text
from annotation.formats.messages import split_shared_prompt
from annotation.formats.preference import preference_conversation
from annotation.formats.types import Message, ParsedConversation, Refused, Row

NAME = "hh"
DESCRIPTION = r"HH-RLHF dialogues: chosen and rejected as texts with \n\nHuman: and \n\nAssistant:"

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def is_recognised(fields: dict[str, Any]) -> bool:
    dialogues = [fields.get("chosen"), fields.get("rejected")]
    return not fields.get("prompt") and all(isinstance(text, str) and TURN.match(text) for text in dialogues)


def parse_row(row: Row) -> list[ParsedConversation]:
    """Raises Refused."""
    chosen = parse_dialogue(row.fields.get("chosen"), what="chosen")
    rejected = parse_dialogue(row.fields.get("rejected"), what="rejected")
    return [preference_conversation(row, *split_shared_prompt(chosen, rejected))]


def parse_dialogue(text: object, *, what: str) -> tuple[Message, ...]:
    """The turns of a flat dialogue; neighbouring turns of one speaker are one message, since chat templates want
    speakers to alternate, and the empty "Assistant:" that ends some published rows falls away with that."""
    parts = TURN.split(checked_text(text, what=what))  # "", speaker, words, speaker, words, …
    if parts[0].strip():
        raise Refused(f'{what} does not begin with "\\n\\nHuman:" or "\\n\\nAssistant:"')
    turns = zip(parts[1::2], parts[2::2], strict=True)
    dialogue: list[Message] = []
    for speaker, group in groupby(turns, key=lambda turn: turn[0]):
        content = "\n\n".join(words.strip() for _, words in group if words.strip())
        where = f"turn {len(dialogue) + 1} of {what}"
        dialogue.append(Message(ROLES[speaker], checked_text(content, what=where)))
    return tuple(dialogue)
