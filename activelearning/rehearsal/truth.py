"""What simulated teachers believe: a recorded human choice where the data has one, else a stated reward."""

import math
from dataclasses import dataclass
from random import Random

import numpy as np

from activelearning.algorithms.types import Floats, Ints
from annotation.models import Campaign, Comparison, Label, RecordedJudgement
from annotation.services.judgements import shown_choice

RECORDED_MARGIN = 2.0
"""Log odds that a teacher of rationality 1 repeats a recorded choice: 88 in 100."""


@dataclass(frozen=True)
class Truth:
    """For each comparison the log odds, at rationality 1, that response a is preferred.

    is_recorded  whether they come from recorded judgements; else from a planted reward
    """

    margins: dict[int, float]
    is_recorded: bool

    def answer(self, comparison_id: int, *, rationality: float, b_first: bool, rng: Random) -> str:
        """A choice as shown, drawn by (M2); where the record is a tie, a tie half of the time."""
        margin = self.margins.get(comparison_id, 0.0)
        if margin == 0.0 and rng.random() < 0.5:
            return str(Label.Choice.TIE)
        prefers_a = rng.random() < 1 / (1 + math.exp(-max(-500.0, min(500.0, rationality * margin))))
        return shown_choice(1.0 if prefers_a else 0.0, b_first=b_first)


def recorded_truth(campaign: Campaign) -> Truth:
    """The mean recorded outcome of each comparison, as a margin; a recorded strength scales it."""
    found: dict[int, list[float]] = {}
    rows = RecordedJudgement.objects.filter(comparison__campaign=campaign).values_list(
        "comparison_id", "outcome", "margin"
    )
    for comparison_id, outcome, margin in rows.iterator(chunk_size=10_000):
        strength = RECORDED_MARGIN if margin is None else float(margin)
        found.setdefault(comparison_id, []).append((2 * outcome - 1) * strength)
    return Truth({pk: sum(margins) / len(margins) for pk, margins in found.items()}, is_recorded=True)


def planted_truth(ids: Ints, design: Floats, *, seed: int) -> Truth:
    """A reward theta*'phi with theta* normal, scaled so that its differences have a standard deviation of 2.

    ids (m,), design (m, d): the campaign's comparisons and z.
    """
    direction = np.random.default_rng(seed).normal(size=design.shape[1])
    margins = design @ direction
    scale = float(margins.std()) or 1.0
    return Truth(dict(zip(ids.tolist(), (2 * margins / scale).tolist(), strict=True)), is_recorded=False)


def judged_by(campaign: Campaign, judge: str) -> dict[int, float]:
    """What one recorded judge answered: comparison id -> outcome."""
    rows = RecordedJudgement.objects.filter(comparison__campaign=campaign, judge=judge)
    return dict(rows.values_list("comparison_id", "outcome"))


def is_rehearsable(campaign: Campaign) -> bool:
    """Whether the data has recorded choices for most of its comparisons."""
    recorded = RecordedJudgement.objects.filter(comparison__campaign=campaign).values("comparison_id").distinct()
    return recorded.count() >= Comparison.objects.filter(campaign=campaign).count() / 2
