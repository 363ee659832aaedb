"""What a worker process keeps of its campaigns, so that what never changes is read once."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activelearning.algorithms.features import Projection as Pca
from activelearning.algorithms.types import Ints, Singles
from activelearning.arrays.rankings import Implied
from activelearning.arrays.rows import Kind, PoolRows, find

KEPT_CAMPAIGNS = 8


@dataclass
class Table:
    """Immutable rows of one kind, as columns by ascending id."""

    columns: tuple[str, ...]
    ids: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    data: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Rows whose first entry is the id; the others follow `columns`."""
        if not rows:
            return
        fresh = list(zip(*rows, strict=True))
        ids = np.concatenate([self.ids, np.array(fresh[0], dtype=np.int64)])
        order = np.argsort(ids, kind="stable")
        for name, values in zip(self.columns, fresh[1:], strict=True):
            added = np.array(values)
            both = added if name not in self.data else np.concatenate([self.data[name], added])
            self.data[name] = both[order]
        self.ids = ids[order]

    def pick(self, ids: Ints) -> dict[str, NDArray[Any]]:
        """Columns of these ids, which must be here."""
        places = find(self.ids, ids)
        return {name: self.data[name][places] if len(ids) else np.empty(0) for name in self.columns}


@dataclass
class Kept:
    """One campaign in this process's memory."""

    comparisons: Table = field(
        default_factory=lambda: Table(("conversation", "a", "b", "category", "is_held_out", "kind"))
    )
    categories: list[str] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    projection: int = 0
    pca: Pca | None = None
    last_response: int = 0
    response_ids: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    phi: Singles = field(default_factory=lambda: np.empty((0, 1), dtype=np.float32))
    pool: PoolRows | None = None
    flagged: PoolRows | None = None
    flagged_at: float = 0.0
    labels: Table = field(
        default_factory=lambda: Table(("comparison", "teacher", "arm", "outcome", "side", "is_ranking"))
    )
    implied: Implied = field(default_factory=Implied)
    offers: Table = field(default_factory=lambda: Table(("comparison", "teacher", "arm", "slot", "b_first")))


_kept: dict[int, Kept] = {}


def forget(campaign_id: int | None = None) -> None:
    """Drop what this process keeps, of one campaign or of all."""
    if campaign_id is None:
        _kept.clear()
    else:
        _kept.pop(campaign_id, None)


def memory_of(campaign_id: int) -> Kept:
    """The campaign's memory, most recently used last; the eldest goes when there are too many."""
    kept = _kept.pop(campaign_id, None) or Kept()
    _kept[campaign_id] = kept
    while len(_kept) > KEPT_CAMPAIGNS:
        _kept.pop(next(iter(_kept)))
    return kept
