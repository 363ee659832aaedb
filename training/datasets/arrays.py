"""From frozen lines to the arrays and rows that a run learns from: the only file of this app that knows both."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from django.db.models import Exists, OuterRef
from numpy.typing import NDArray

from activelearning.algorithms.types import Floats, Ints, Labels
from activelearning.learned import LEARNED_ARMS
from annotation.models import Campaign, Comparison, Conversation, RecordedJudgement
from training.algorithms.data import Candidates, Preference
from training.datasets.exports import Rationalities, implied_pairs, rationality_of
from training.datasets.frozen import Line

CANDIDATE_LIMIT = 20_000  # conversations that a policy answers at the end of its run


@dataclass(frozen=True)
class Features:
    """phi of responses.

    ids     (r,)    int64   response ids, ascending
    matrix  (r, d)  float   one row per id
    """

    ids: Ints
    matrix: NDArray[np.floating[Any]]

    def has(self, response: int) -> bool:
        place = int(np.searchsorted(self.ids, response))
        return place < self.ids.shape[0] and int(self.ids[place]) == response

    def of(self, response: int) -> Floats:
        """(d,) float64. raises KeyError for a response without features"""
        place = int(np.searchsorted(self.ids, response))
        if place == self.ids.shape[0] or int(self.ids[place]) != response:
            raise KeyError(response)
        return np.asarray(self.matrix[place], dtype=np.float64)


@dataclass(frozen=True)
class Pair:
    """One implied comparison of a frozen label: a before b in the comparison's own order.

    side    +1 if a was shown first, -1 if b was, 0 where a ranking showed them all
    weight  1, or 2/N within a ranking of N responses
    label   its id; None for a judgement that came with the conversation
    """

    conversation: int
    prompt: list[dict[str, str]]
    a: dict[str, Any]
    b: dict[str, Any]
    outcome: float
    teacher: str
    category: str
    side: float = 0.0
    weight: float = 1.0
    label: int | None = None


@dataclass(frozen=True)
class Judged:
    """A label set, read: what may be fitted, what is kept for judging, and who and what they speak of."""

    fitted: list[Pair]
    held_out: list[Pair]
    teachers: list[str]
    categories: list[str]

    @property
    def responses(self) -> Ints:
        """Ids of all responses in it, ascending."""
        ids = {one["id"] for pair in (*self.fitted, *self.held_out) for one in (pair.a, pair.b)}
        return np.array(sorted(ids), dtype=np.int64)


def read_pairs(lines: Iterable[Line]) -> Judged:
    """The pairs of a label set. Repeats are left out: they measure consistency and do not count twice."""
    fitted: list[Pair] = []
    held_out: list[Pair] = []
    for line in lines:
        if line["arm"] not in LEARNED_ARMS:
            continue
        side = 0.0 if line.get("ranking") else (-1.0 if line["b_first"] else 1.0)
        for a, b, outcome, weight in implied_pairs(line):
            pair = Pair(
                conversation=line["conversation"],
                prompt=line["prompt"],
                a=a,
                b=b,
                outcome=outcome,
                teacher=line["teacher"],
                category=line["category"],
                side=side,
                weight=weight,
                label=line["id"],
            )
            (held_out if line["is_held_out"] else fitted).append(pair)
    return Judged(
        fitted=fitted,
        held_out=held_out,
        teachers=sorted({pair.teacher for pair in fitted}),
        categories=sorted({pair.category for pair in fitted}),
    )


def recorded_pairs(campaign: Campaign, *, known: Sequence[Pair], limit: int = 5000) -> list[Pair]:
    """Human choices that came with the held-out conversations, for pairs that nobody labelled here.

    They are judged as by a teacher of rationality 1, and are never trained on.
    """
    labelled = {(pair.a["id"], pair.b["id"]) for pair in known}
    rows = (
        RecordedJudgement.objects.filter(comparison__campaign=campaign, comparison__is_held_out=True)
        .select_related("comparison__conversation", "comparison__a", "comparison__b")
        .order_by("id")
    )
    found = []
    for row in rows[:limit].iterator():
        comparison = row.comparison
        if (comparison.a_id, comparison.b_id) not in labelled:
            found.append(
                Pair(
                    conversation=comparison.conversation_id,
                    prompt=comparison.conversation.messages,
                    a={"id": comparison.a_id, "messages": comparison.a.messages},
                    b={"id": comparison.b_id, "messages": comparison.b.messages},
                    outcome=row.outcome,
                    teacher="",
                    category=comparison.category,
                )
            )
    return found


def labels_of(judged: Judged, features: Features) -> Labels:
    """The labels to fit on, teachers and categories numbered as in `judged`. raises KeyError without a feature"""
    pairs = judged.fitted
    teacher = {name: index for index, name in enumerate(judged.teachers)}
    category = {name: index for index, name in enumerate(judged.categories)}
    width = features.matrix.shape[1]
    design = np.zeros((len(pairs), width))  # (n, d)
    for index, pair in enumerate(pairs):
        design[index] = features.of(pair.a["id"]) - features.of(pair.b["id"])
    return Labels(
        design=design,
        outcome=np.array([pair.outcome for pair in pairs], dtype=np.float64),
        teacher=np.array([teacher[pair.teacher] for pair in pairs], dtype=np.int64),
        category=np.array([category[pair.category] for pair in pairs], dtype=np.int64),
        side=np.array([pair.side for pair in pairs], dtype=np.float64),
        weight=np.array([pair.weight for pair in pairs], dtype=np.float64),
    )


def preferences_of(pairs: Iterable[Pair], features: Features, *, rationality: Rationalities) -> list[Preference]:
    """Rows to train on or to judge by. A teacher whose rationality is not above 0 tells nothing that DPO could use."""
    found = []
    for pair in pairs:
        rho = rationality_of(rationality, pair.teacher, pair.category)
        if rho <= 0:
            continue
        chosen, rejected = (pair.b, pair.a) if pair.outcome < 0.5 else (pair.a, pair.b)
        found.append(
            Preference(
                conversation=str(pair.conversation),
                prompt=pair.prompt,
                chosen=chosen["messages"],
                rejected=rejected["messages"],
                chosen_features=features.of(chosen["id"]),
                rejected_features=features.of(rejected["id"]),
                rationality=float(rho),
                target=max(pair.outcome, 1 - pair.outcome),
                weight=pair.weight,
                label="" if pair.label is None else str(pair.label),
            )
        )
    return found


def candidate_ids(campaign: Campaign, *, limit: int = CANDIDATE_LIMIT) -> list[int]:
    """Conversations that a policy answers, by id: those with two responses or more, up to the limit."""
    rows = Conversation.objects.filter(campaign=campaign, comparisons__isnull=False).order_by("id")
    return list(rows.values_list("id", flat=True).distinct()[:limit])


def candidates_of(conversations: Sequence[int], features: Features) -> Iterator[Candidates]:
    """The given responses to each conversation; responses without features are left out.

    A conversation is held out where any of its comparisons is: their labels are what policies are judged by.
    """
    ids = iter(conversations)
    held_out = Exists(Comparison.objects.filter(conversation=OuterRef("pk"), is_held_out=True))
    while chunk := list(islice(ids, 500)):
        found = Conversation.objects.filter(id__in=chunk).annotate(has_held_out=held_out)
        for conversation in found.prefetch_related("responses").order_by("id"):
            known = sorted(
                (response for response in conversation.responses.all() if features.has(response.pk)),
                key=lambda response: response.pk,
            )
            if known:
                yield Candidates(
                    conversation=str(conversation.pk),
                    prompt=conversation.messages,
                    responses=[response.messages for response in known],
                    names=[str(response.pk) for response in known],
                    features=np.stack([features.of(response.pk) for response in known]),
                    is_held_out=conversation.is_held_out or conversation.has_held_out,
                )
