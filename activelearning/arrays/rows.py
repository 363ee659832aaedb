"""The comparisons of a campaign as arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from activelearning.algorithms.types import Bools, Ints, Responses, Singles

Kind = tuple[int, str]
"""Number of a category, and the code of a language."""


@dataclass(frozen=True)
class PoolRows:
    """The comparisons of a campaign, ascending by id; axes m comparisons, r responses, d features.

    a, b         (m,) rows of `phi`, -1 while a response has no features; then the design row is zero
    is_askable   (m,) active, neither gold nor tutorial; in a ranking campaign one comparison for each conversation
    is_urgent    (m,) goes first: see `annotation.services.urgency`
    kind         (m,) category and language together, numbered as they came: what a teacher may judge or not
    """

    ids: Ints
    conversation: Ints
    category: Ints
    categories: tuple[str, ...]
    a: Ints
    b: Ints
    phi: Singles
    response_ids: Ints
    design: Singles
    is_held_out: Bools
    is_askable: Bools
    is_urgent: Bools
    kind: Ints
    kinds: tuple[Kind, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def category_of_kind(self) -> Ints:
        return np.array([category for category, _language in self.kinds], dtype=np.int64)

    @cached_property
    def has_features(self) -> Bools:
        return np.asarray((self.a >= 0) & (self.b >= 0))

    def rows_of(self, comparison_ids: Ints) -> Ints:
        """Row numbers of comparisons; -1 for one that is not here."""
        return find(self.ids, comparison_ids)

    def responses(self) -> Responses:
        """What the dueling strategies look at besides. A response without features never gets near them: no room."""
        return Responses(
            features=self.phi.astype(np.float64),
            prompt=np.unique(self.conversation, return_inverse=True)[1].astype(np.int64),
            first=np.maximum(self.a, 0),
            second=np.maximum(self.b, 0),
            radius=2.0,
        )

    def until(self, last_comparison: int, last_response: int) -> "PoolRows":
        """The pool as it was: comparisons up to one id, features up to a response's."""
        size = int(np.searchsorted(self.ids, last_comparison, side="right"))
        seen = int(np.searchsorted(self.response_ids, last_response, side="right"))
        if size == len(self) and seen == len(self.response_ids):
            return self
        a = np.where(self.a[:size] < seen, self.a[:size], -1)
        b = np.where(self.b[:size] < seen, self.b[:size], -1)
        ready = (a >= 0) & (b >= 0)
        return PoolRows(
            ids=self.ids[:size],
            conversation=self.conversation[:size],
            category=self.category[:size],
            categories=self.categories,
            a=a,
            b=b,
            phi=self.phi[:seen],
            response_ids=self.response_ids[:seen],
            design=np.where(ready[:, None], self.design[:size], np.float32(0)),
            is_held_out=self.is_held_out[:size],
            is_askable=self.is_askable[:size],
            is_urgent=self.is_urgent[:size],
            kind=self.kind[:size],
            kinds=self.kinds,
        )


def find(sorted_ids: Ints, wanted: Ints) -> Ints:
    """Places of `wanted` in `sorted_ids`; -1 where missing."""
    if len(sorted_ids) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return np.where(sorted_ids[places] == wanted, places, -1).astype(np.int64)
