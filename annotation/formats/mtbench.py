"""MT-Bench: a file of conversations (question, model, messages) and a file of votes about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annotation.formats.limits import RESPONSES, checked_category, checked_judge, checked_name
from annotation.formats.messages import checked_responses, parse_messages
from annotation.formats.types import (
    BadRow,
    Choice,
    Message,
    Parsed,
    ParsedConversation,
    ParsedResponse,
    ParsedVote,
    Refused,
    Row,
)

CONVERSATIONS = "mtbench-conversations"
CONVERSATIONS_DESCRIPTION = (
    "MT-Bench conversations: question_id, model, category, messages; one question's rows together"
)
VOTES = "mtbench-votes"
VOTES_DESCRIPTION = "MT-Bench votes: judge, question_id, turn, model_a, model_b, winner; after their conversations"

WINNERS = {"model_a": Choice.FIRST, "model_b": Choice.SECOND}


@dataclass(frozen=True, slots=True)
class Answer:
    """One row: a model's dialogue about a question, two messages a turn."""

    line: int
    question: str
    model: str
    category: str
    messages: tuple[Message, ...]


def are_conversations(fields: dict[str, Any]) -> bool:
    return {"question_id", "model", "messages"} <= fields.keys()


def are_votes(fields: dict[str, Any]) -> bool:
    return {"question_id", "judge", "model_a", "model_b", "winner"} <= fields.keys()


def external_id(question: str, *, turn: int) -> str:
    return f"mt-bench/{question}/{turn}"


def parse_conversations(rows: Iterable[Row | BadRow]) -> Iterator[Parsed]:
    """One conversation per question and turn, with a response per model.

    Turn 1 compares the first answers; turn 2 compares everything after the first question, as its judges saw it.
    Holds the rows of one question at a time, and the ids of the questions that are done.
    """
    finished: set[str] = set()
    answers: list[Answer] = []
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            answer = parse_answer(row)
            if answers and answer.question != answers[0].question:
                finished.add(answers[0].question)
                yield from question_conversations(answers)
                answers = []
            check_fits(answer, answers, finished=finished)
        except Refused as error:
            yield BadRow(row.line, str(error))
        else:
            answers.append(answer)
    if answers:
        yield from question_conversations(answers)


def parse_answer(row: Row) -> Answer:
    fields = row.fields
    answer = Answer(
        line=row.line,
        question=checked_name(fields.get("question_id"), what="question_id"),
        model=checked_name(fields.get("model"), what="model"),
        category=checked_category(fields.get("category")),
        messages=parse_messages(fields.get("messages"), what="messages"),
    )
    if not answer.question or not answer.model:
        raise Refused("question_id and model must both be given")
    roles = [message.role for message in answer.messages]
    if len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Refused("messages must alternate between user and assistant, and end with the assistant's")
    return answer


def check_fits(answer: Answer, answers: Sequence[Answer], *, finished: set[str]) -> None:
    """Raises Refused where answer cannot stand beside the answers to the same question."""
    if answer.question in finished:
        raise Refused(f"question {answer.question} stood further up already: sort the file by question_id")
    if any(other.model == answer.model for other in answers):
        raise Refused(f"{answer.model} answered question {answer.question} already: keep one of the two rows")
    if answers and answers[0].messages[0] != answer.messages[0]:
        raise Refused(f"question {answer.question} is worded differently on line {answers[0].line}: make them the same")
    if len(answers) == RESPONSES:
        raise Refused(f"question {answer.question} has more than {RESPONSES} answers: this one was left out")


def question_conversations(answers: Sequence[Answer]) -> Iterator[Parsed]:
    first = answers[0]
    for turn in range(1, max(len(answer.messages) for answer in answers) // 2 + 1):
        with_turn = [answer for answer in answers if len(answer.messages) >= 2 * turn]
        try:
            responses = checked_responses(
                [ParsedResponse(answer.messages[1 : 2 * turn], answer.model) for answer in with_turn]
            )
        except Refused as error:
            yield BadRow(first.line, f"question {first.question}, turn {turn}: {error}")
        else:
            yield ParsedConversation(
                line=first.line,
                prompt=first.messages[:1],
                responses=responses,
                category=first.category,
                source="mt-bench",
                external_id=external_id(first.question, turn=turn),
            )


def parse_vote(row: Row) -> list[ParsedVote]:
    """Raises Refused."""
    fields = row.fields
    names = {key: checked_name(fields.get(key), what=key) for key in ("question_id", "model_a", "model_b")}
    names["judge"] = checked_judge(fields.get("judge"))
    for key, name in names.items():
        if not name:
            raise Refused(f"{key} is missing: a vote names its question, its judge and both models")
    turn = fields.get("turn", 1)
    if isinstance(turn, bool) or not isinstance(turn, int) or turn < 1:
        raise Refused("turn must be a whole number from 1")
    if names["model_a"] == names["model_b"]:
        raise Refused("model_a and model_b are the same: remove the row")
    return [
        ParsedVote(
            line=row.line,
            external_id=external_id(names["question_id"], turn=turn),
            first_origin=names["model_a"],
            second_origin=names["model_b"],
            choice=parse_winner(fields.get("winner")),
            judge=names["judge"],
            turn=turn,
        )
    ]


def parse_winner(value: object) -> Choice:
    """The published votes write a tie in two ways: "tie" and "tie (bothbad)"."""
    winner = checked_name(value, what="winner")
    if winner.startswith("tie"):
        return Choice.TIE
    if winner not in WINNERS:
        raise Refused("winner must be model_a, model_b or tie")
    return WINNERS[winner]
