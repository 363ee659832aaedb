"""The arrays that pass between the algorithms: one frozen dataclass per noun.

Axes everywhere: n labels, m candidates, d features, k teachers, c categories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """n answered comparisons, as shown to the teacher.

    design    (n, d) float64  z = phi(a) - phi(b), in the comparison's own order (not the order shown)
    outcome   (n,)   float64  1 if a was preferred, 0 if b, 1/2 for a tie or both bad
    teacher   (n,)   int64    index of the teacher who answered
    category  (n,)   int64    index of the comparison's category
    side      (n,)   float64  +1 if a was shown first, -1 if b was
    weight    (n,)   float64  observation weight, 1 unless the label is an implied comparison of a ranking
    """

    design: Floats
    outcome: Floats
    teacher: Ints
    category: Ints
    side: Floats
    weight: Floats

    def __len__(self) -> int:
        return int(self.outcome.shape[0])


@dataclass(frozen=True)
class Pool:
    """m candidate comparisons.

    design    (m, d) float32  z, possibly a memory map
    category  (m,)   int64    category index
    room      (m,)   int64    how many more judgements the overlap limit leaves
    """

    design: Singles
    category: Ints
    room: Ints

    def __len__(self) -> int:
        return int(self.design.shape[0])


@dataclass(frozen=True)
class Teachers:
    """k teachers who could be asked.

    rationality  (k, c) float64  rho, 0 a coin flip; a negative entry is never used for selection
    cost         (k,)   float64  expected price of one label, > 0: what a gain is divided by
    capacity     (k,)   int64    how many more offers the teacher's queue takes
    may_judge    (k, c) bool     categories the teacher takes
    reserved     (k,)   float64  what an offer takes off the budget, >= 0; None: its cost
    """

    rationality: Floats
    cost: Floats
    capacity: Ints
    may_judge: Bools
    reserved: Floats | None = None

    def __len__(self) -> int:
        return int(self.cost.shape[0])

    @property
    def price(self) -> Floats:
        return self.cost if self.reserved is None else self.reserved


@dataclass(frozen=True)
class Pick:
    """One chosen (comparison, teacher) pair and why: q, |m|, rho, w (M6) and gain (M8, nats).

    propensity is the chance of this pair given the picks before it: 1 for a deterministic design.
    """

    comparison: int
    teacher: int
    uncertainty: float
    gap: float
    rationality: float
    weight: float
    gain: float
    propensity: float = 1.0


@dataclass(frozen=True)
class Responses:
    """r responses behind the m comparisons of a pool: what the dueling strategies look at besides.

    features  (r, d) float64  phi
    prompt    (m,)   int64    index of the conversation that a comparison belongs to
    first     (m,)   int64    its two responses, so that z = phi(first) - phi(second)
    second    (m,)   int64
    radius    half-width of a reward's interval in standard errors (M11)
    """

    features: Floats
    prompt: Ints
    first: Ints
    second: Ints
    radius: float = 1.0
