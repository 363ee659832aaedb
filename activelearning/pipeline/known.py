"""An estimate in a worker's memory: its row, its arrays, and what it says of any teacher."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from activelearning.algorithms.estimation import Estimate as Fit
from activelearning.algorithms.rationality import JointEstimate, RationalityPrior
from activelearning.algorithms.types import Bools, Floats, Ints
from activelearning.models import Estimate
from activelearning.storage import Arrays, read_arrays
from annotation.models import Campaign

LEAST_DRAW = 0.05
"""Of a rationality drawn from its posterior: nobody is left without work by one draw."""


@dataclass(frozen=True)
class Known:
    """An estimate in memory: its row, and the arrays of its file."""

    row: Estimate
    arrays: Arrays
    categories: tuple[str, ...]
    start: JointEstimate | Fit | None

    @property
    def theta(self) -> Floats:
        return self.arrays["theta"]

    @property
    def information(self) -> Floats:
        return self.arrays["information"]

    def rationality_of(self, teachers: Ints, categories: int, *, stated: Floats | None) -> Floats:
        """(k, c) rationality of any teachers: as stated, or estimated, the prior's mean for who has no label."""
        if stated is not None:
            return stated
        found = np.full((len(teachers), categories), RationalityPrior().mean)
        places, known = self._places(teachers)
        found[known, : self.arrays["rationality"].shape[1]] = self.arrays["rationality"][places]
        return found

    def hopeful_rationality(self, teachers: Ints, categories: int, *, stated: Floats | None) -> Floats:
        """(k, c) the estimate and one standard error more; 0 where a whole interval lies below 0.

        What is taken back from a teacher is judged by this: nobody loses work on a wide interval.
        """
        hoped = self.rationality_of(teachers, categories, stated=stated).copy()
        places, known = self._places(teachers)
        if stated is not None or not isinstance(self.start, JointEstimate) or not len(places):
            return np.maximum(hoped, 0.0)
        width = self.start.rationality.shape[1]
        upper = np.maximum(self.start.rationality + self.start.rationality_error, LEAST_DRAW)
        hoped[known, :width] = np.where(self.start.is_inverted(), 0.0, upper)[places]
        return hoped

    def draw_rationality(self, teachers: Ints, categories: int, rng: np.random.Generator) -> Floats:
        """(k, c) a draw of each from its posterior (Thompson); 0 where a whole interval lies below 0.

        Who is not known to invert is never drawn at 0 or below: nobody is left without work by one draw.
        """
        prior = RationalityPrior()
        shared = rng.standard_normal((len(teachers), 1))
        own = rng.standard_normal((len(teachers), categories))
        drawn = prior.mean + prior.between * shared + prior.within * own
        drawn = np.maximum(drawn, LEAST_DRAW)
        places, known = self._places(teachers)
        if isinstance(self.start, JointEstimate) and len(places):
            width = self.start.rationality.shape[1]
            learned = np.maximum(self.start.draw_rationality(rng), LEAST_DRAW)
            drawn[known, :width] = np.where(self.start.is_inverted(), 0.0, learned)[places]
        return drawn

    def bias_of(self, teachers: Ints) -> Floats:
        places, known = self._places(teachers)
        found = np.zeros(len(teachers))
        found[known] = self.arrays["bias"][places]
        return found

    def _places(self, teachers: Ints) -> tuple[Ints, Bools]:
        """Where these teachers stand in the estimate, and which of them do."""
        axis = self.arrays["teachers"]
        order = np.argsort(axis)
        if not len(axis):
            return np.empty(0, dtype=np.int64), np.zeros(len(teachers), dtype=bool)
        spots = np.minimum(np.searchsorted(axis[order], teachers), len(axis) - 1)
        known = axis[order][spots] == teachers
        return order[spots][known], known


_latest: dict[int, Known] = {}


def forget() -> None:
    """Drop what this process remembers of every campaign."""
    _latest.clear()


def remember(known: Known) -> Known:
    _latest[known.row.campaign_id] = known
    return known


def latest(campaign: Campaign) -> Known | None:
    """The newest estimate, from memory where this process made or read it."""
    row = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if row is None:
        return None
    kept = _latest.get(campaign.pk)
    if kept is None or kept.row.pk != row.pk:
        kept = remember(open_known(row))
    return kept


def open_known(row: Estimate) -> Known:
    arrays = read_arrays(row.arrays)
    return Known(row, arrays, tuple(arrays["categories"].tolist()), start_of(row, arrays))


def start_of(row: Estimate, arrays: Arrays) -> JointEstimate | Fit | None:
    """The algorithm's own estimate, to begin the next fit from; None where an older version stored other fields."""
    kind: type[JointEstimate] | type[Fit] = JointEstimate if row.is_joint else Fit
    try:
        values: dict[str, Any] = {
            name.name: arrays[name.name] if arrays[name.name].ndim else arrays[name.name].item()
            for name in fields(kind)
        }
    except KeyError:
        return None
    return kind(**values)
