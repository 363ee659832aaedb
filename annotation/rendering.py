"""Conversations and responses as pages show them: what is shared once, then the turns in which they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from django.utils.safestring import SafeString

from annotation.markdown import LONGEST_MARKDOWN, render_text, show_plainly
from annotation.models import Conversation, Response


@dataclass(frozen=True)
class Turn:
    """One message, ready for a template."""

    role: str
    html: SafeString


@dataclass(frozen=True)
class Side:
    """One response under the letter by which the page calls it."""

    letter: str
    response_id: int
    turns: list[Turn]


@dataclass(frozen=True)
class Sides:
    """Responses as shown: what all of them share, and the turns in which they differ."""

    shared: list[Turn]
    sides: list[Side]
    words: int
    """In the longest of them."""


def render_messages(messages: Sequence[dict[str, Any]]) -> list[Turn]:
    """Formatted, as far as LONGEST_MARKDOWN reaches over all of them; the rest as it is."""
    turns, left = [], LONGEST_MARKDOWN
    for one in messages:
        text = str(one.get("content", ""))
        left -= len(text)
        turns.append(Turn(role=str(one.get("role", "")), html=render_text(text) if left >= 0 else show_plainly(text)))
    return turns


def render_sides(conversation: Conversation, responses: Sequence[Response]) -> Sides:
    """The conversation and the beginning that all responses share once, then the rest of each, in the order given."""
    same = count_shared([response.messages for response in responses])
    rests = [response.messages[same:] for response in responses]
    return Sides(
        shared=render_messages([*conversation.messages, *responses[0].messages[:same]]),
        sides=[
            Side(letter=letter_of(place), response_id=response.pk, turns=render_messages(rest))
            for place, (response, rest) in enumerate(zip(responses, rests, strict=True))
        ],
        words=max(count_words(rest) for rest in rests),
    )


def letter_of(place: int) -> str:
    """A to Z, then AA, AB and so on, as a spreadsheet names its columns."""
    round_before, letter = divmod(place, len(ascii_uppercase))
    return (letter_of(round_before - 1) if round_before else "") + ascii_uppercase[letter]


def count_shared(responses: Sequence[Sequence[dict[str, Any]]]) -> int:
    """How many leading messages are the same in all; the last of each always counts as its own."""
    longest = max(min(len(messages) for messages in responses) - 1, 0)
    for place in range(longest):
        if any(messages[place] != responses[0][place] for messages in responses):
            return place
    return longest


def count_words(messages: Sequence[dict[str, Any]]) -> int:
    return sum(len(str(one.get("content", "")).split()) for one in messages)
