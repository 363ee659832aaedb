"""A figure as a page shows it: a value with its interval, or the reason why there is none."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from activelearning.algorithms.types import Floats

RESAMPLES = 500
"""Of the observations, drawn anew with replacement, behind an interval that has no formula."""


@dataclass(frozen=True)
class Figure:
    """A statistic of `count` observations.

    value      None where it is undefined; then `reason` is a sentence that says why and what would help
    low, high  interval of the level asked for, None where it is undefined
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    reason: str = ""

    @classmethod
    def undefined(cls, reason: str, *, count: int = 0) -> "Figure":
        return cls(None, None, None, count, reason)


def proportion(
    successes: float, count: int, *, level: float = 0.95, reason: str = "There are no labels yet."
) -> Figure:
    """A share with Wilson's interval, which stays honest at 0, at 1 and for a handful of labels.

    successes  may hold halves (a tie counted as half right)
    """
    if count == 0:
        return Figure.undefined(reason)
    z = float(ndtri(0.5 + level / 2))
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)))
    return Figure(share, min(share, middle - reach), max(share, middle + reach), count)


def mean(values: Floats, *, level: float = 0.95, reason: str = "There are no labels yet.") -> Figure:
    """A mean with its normal interval; one observation has no interval."""
    if values.size == 0:
        return Figure.undefined(reason)
    value = float(values.mean())
    if values.size == 1:
        return Figure(value, None, None, 1, "One label gives no interval.")
    reach = float(ndtri(0.5 + level / 2) * values.std(ddof=1) / np.sqrt(values.size))
    return Figure(value, value - reach, value + reach, int(values.size))


def percentile_interval(resamples: Floats, *, level: float = 0.95) -> tuple[float, float] | None:
    """Of a statistic's values in resamples, NaN where undefined; None where most resamples leave it so."""
    values = resamples[np.isfinite(resamples)]
    if values.size < resamples.size / 2:
        return None
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
