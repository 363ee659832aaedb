"""What every format is read into: a conversation with its responses, a vote about one, or a bad row with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Choice(StrEnum):
    """Which of the two responses of a recorded judgement was preferred."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


class Refused(ValueError):
    """A row that cannot go in; its text says what is wrong and what to do."""


class UnreadableSource(ValueError):
    """The source as a whole cannot be read (further); its text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a source and where it stood: a line in text files, a row number (from 1) elsewhere."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """What one author (a model, a person) said after the prompt: several messages where turns follow."""

    messages: tuple[Message, ...]
    origin: str = ""

    @property
    def digest(self) -> str:
        return sha256_of(canonical_messages(self.messages))


@dataclass(frozen=True, slots=True)
class ParsedJudgement:
    """A choice that the file records between responses[first] and responses[second]; an empty judge is unnamed."""

    first: int
    second: int
    choice: Choice
    judge: str = ""
    turn: int = 1
    margin: float | None = None
    """How far apart the two scores were, where the choice follows from scores; None for a choice of its own."""


@dataclass(frozen=True, slots=True)
class ParsedConversation:
    """A prompt with two responses or more."""

    line: int
    prompt: tuple[Message, ...]
    responses: tuple[ParsedResponse, ...]
    category: str = ""
    source: str = ""
    external_id: str = ""
    judgements: tuple[ParsedJudgement, ...] = ()
    language: str = ""
    """As the source writes it: de, German; "" where it does not say."""

    @property
    def digest(self) -> str:
        """sha256 over category, prompt and responses; the same whichever order the responses came in, and whatever
        file they came from, so that a second import of the same conversation is recognised."""
        responses = sorted({json.dumps(canonical_messages(response.messages)) for response in self.responses})
        return sha256_of([self.category, canonical_messages(self.prompt), responses])


@dataclass(frozen=True, slots=True)
class ParsedVote:
    """A choice about a conversation of another file, found by its external id and the responses' origins."""

    line: int
    external_id: str
    first_origin: str
    second_origin: str
    choice: Choice
    judge: str
    turn: int = 1


Parsed = ParsedConversation | ParsedVote | BadRow


def canonical_messages(messages: Sequence[Message]) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


def sha256_of(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def judgements_from_scores(scores: Sequence[float | None], *, judge: str = "") -> tuple[ParsedJudgement, ...]:
    """Every pair of responses with a score, the higher one preferred, equal ones tied; None was not judged."""
    return tuple(
        ParsedJudgement(first, second, choice_between(a, b), judge, margin=abs(a - b))
        for first, a in enumerate(scores)
        for second, b in enumerate(scores[first + 1 :], start=first + 1)
        if a is not None and b is not None
    )


def choice_between(first: float, second: float) -> Choice:
    if first == second:
        return Choice.TIE
    return Choice.FIRST if first > second else Choice.SECOND
