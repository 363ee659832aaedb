"""Rankings as the comparisons that they imply: taken apart once for each label, and kept in memory."""

from collections import defaultdict
from dataclasses import dataclass, field, fields

import numpy as np

from activelearning.algorithms.types import Floats, Ints
from activelearning.learned import ranking_weight

Tiers = list[list[int]]
"""Responses by rank, the best first; those of one tier are tied."""


def _none() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Implied:
    """N(N-1)/2 comparisons for each ranking of N; axis p, those of one label together.

    label          (p,) the label's id
    first, second  (p,) responses' ids, the first ranked no lower
    outcome        (p,) 1, or 1/2 where they are tied
    weight         (p,) 2/N
    """

    label: Ints = field(default_factory=_none)
    first: Ints = field(default_factory=_none)
    second: Ints = field(default_factory=_none)
    outcome: Floats = field(default_factory=lambda: np.empty(0))
    weight: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.label)

    def followed_by(self, *others: "Implied") -> "Implied":
        parts = (self, *others)
        return Implied(*(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(self)))


def imply(rankings: dict[int, Tiers]) -> Implied:
    """What these rankings, by label, say of every two of their responses. One array for all rankings of a size."""
    by_size: dict[int, list[tuple[int, Tiers]]] = defaultdict(list)
    for label, tiers in rankings.items():
        by_size[sum(map(len, tiers))].append((label, tiers))
    return Implied().followed_by(*(_imply(size, alike) for size, alike in by_size.items()))


def _imply(size: int, rankings: list[tuple[int, Tiers]]) -> Implied:
    labels = np.array([label for label, _ in rankings], dtype=np.int64)
    names = [[response for names in tiers for response in names] for _, tiers in rankings]
    ranks = [[rank for rank, names in enumerate(tiers) for _ in names] for _, tiers in rankings]
    response, rank = (np.array(rows, dtype=np.int64).reshape(-1, size) for rows in (names, ranks))  # (r, N)
    above, below = np.triu_indices(size, 1)
    return Implied(
        label=np.repeat(labels, len(above)),
        first=response[:, above].ravel(),
        second=response[:, below].ravel(),
        outcome=np.where(rank[:, above] == rank[:, below], 0.5, 1.0).ravel(),
        weight=np.full(len(labels) * len(above), ranking_weight(size) if size else 0.0),
    )
