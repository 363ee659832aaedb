"""Tables of who may be asked what, and the few formulas that every reader of them shares."""

import math
from typing import NamedTuple

import numba
import numpy as np

from .types import Bools, Floats, Ints

FAST = {"reassoc", "contract", "arcp", "nsz"}  # sums may be reordered; NaN and infinity stay themselves
TIE = 1e-10
PER_OCTAVE = 6, 3, 8  # 64 buckets of the gap per octave for breakpoints, 8 for short lists, 256 for roofs
LOWEST = -20, 12  # gaps from 2^-20 to 2^12 have buckets of their own; one more at either end
Q_OCTAVES = -60, 20
ARENA = 1 << 20
UNBUILT = -1


class Choice(NamedTuple):
    """Tables of who may be asked, per category; arrays only, so that compiled code can read them.

    order (c, k) teachers by (rationality, index); group g holds those of one rationality, order[c, first:last].
    One cost: breaks[c, g] is the gap where groups g and g + 1 tie, so g wins on (breaks[g], breaks[g - 1]];
    bucket[c, b] is the group that wins at the upper edge of bucket b. Several costs: head[c, b, e] points into the
    arena at the short list (its length, then teachers) of every teacher that can win for a gap in bucket b and a q
    in [2^e, 2^(e+1)).
    """

    one_cost: bool
    rationality: Floats  # (k, c)
    log_cost: Floats  # (k,)
    alive: Bools  # (k, c)
    order: Ints  # (c, k)
    first: Ints  # (c, k)
    last: Ints  # (c, k)
    groups: Ints  # (c,)
    rho: Floats  # (c, k)
    breaks: Floats  # (c, k)
    bucket: Ints  # (c, buckets)
    roof: Floats  # (c, buckets) w of the best teacher at a bucket's lower edge: none is worth more across its gaps
    head: Ints  # (c, buckets, octaves of q)
    arena: Ints  # (ARENA,); its first entry is the number of entries in use
    judged: Ints  # (j,) sorted keys comparison * k + teacher
    asked: Ints  # (<= batch,) the same, of this batch


@numba.njit(cache=True, nogil=True)
def bucket_of(gap: float, bits: int) -> int:
    """Bucket of a gap: exponent and leading mantissa bits of the double, clamped at both ends."""
    place = (np.float64(gap).view(np.int64) >> (52 - bits)) - ((1023 + LOWEST[0]) << bits)
    last = ((LOWEST[1] - LOWEST[0]) << bits) + 1
    return 0 if place < 0 else last if place >= last else int(place) + 1


@numba.njit(cache=True, nogil=True)
def edge_of(bucket: int, bits: int) -> float:
    """Lower edge of a bucket; 0 for the first, infinity one past the last."""
    if bucket == 0:
        return 0.0
    if bucket > ((LOWEST[1] - LOWEST[0]) << bits) + 1:
        return np.inf
    return np.int64((bucket - 1 + ((1023 + LOWEST[0]) << bits)) << (52 - bits)).view(np.float64)


@numba.njit(cache=True, nogil=True)
def log_w(rho: float, gap: float) -> float:
    """log of rho^2 sigma'(rho m) (M6), for rho > 0."""
    u = rho * gap
    return 2.0 * math.log(rho) - u - 2.0 * math.log1p(math.exp(-u))


@numba.njit(cache=True, nogil=True)
def log_gain(log_wq: float) -> float:
    """log log(1 + e^s): the log of the gain (M8) of log weight plus log uncertainty s."""
    if log_wq < -30.0:
        return log_wq
    if log_wq > 30.0:
        return math.log(log_wq)
    return math.log(math.log1p(math.exp(log_wq)))


with np.errstate(divide="ignore"):
    GAIN_ROOF = np.log(np.log1p([edge_of(b + 1, PER_OCTAVE[2]) for b in range(((LOWEST[1] - LOWEST[0]) << 8) + 2)]))
"""Largest log gain of a w q in each bucket; the first and the last are too wide to use."""


@numba.njit(cache=True, nogil=True)
def is_judged(choice: Choice, row: int, teacher: int) -> bool:
    """Whether this teacher may not be asked this comparison (again)."""
    key = row * choice.rationality.shape[0] + teacher
    for keys in (choice.judged, choice.asked):
        place = np.searchsorted(keys, key)
        if place < keys.shape[0] and keys[place] == key:
            return True
    return False
