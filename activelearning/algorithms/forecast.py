"""Where a campaign is going: its curves carried on with an interval, when to stop, and what the design saved.

Each measure has the shape that theory gives it: log det grows as a multiple of log n, a standard error and the bound
(M13) fall as a power of n, and accuracy nears its limit as 1 / sqrt(n). All three are straight lines in the right
coordinates, y = start + slope x + noise. *Derived*; no paper's formula.

Points of one curve share their labels. Each of the first three is a function of a mean over labels, and so is its
noise, to first order: n noise(n) is a sum of independent terms, one a label, so that cov(noise(n), noise(m)) is
c / max(n, m). The steps of that sum are independent, of variance c times the labels between two points: they are
fitted by least squares, and the forecast starts from the last point. Stretches of accuracy share no labels: their
noise is independent as it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import t as student

from activelearning.algorithms.figures import Figure
from activelearning.algorithms.information import log_det, uncertainties
from activelearning.algorithms.types import Floats

FEWEST = 5
"""Points that a line and its spread need."""
UNSPARED = 1e-9
"""A row without which the others do not span the features has leverage 1, within rounding."""


class Measure(StrEnum):
    """What is forecast; the shape of the curve follows from it."""

    LOG_DET = "log det of the information"
    STANDARD_ERROR = "worst standard error of a reward difference"
    BOUND = "bound on the policy's loss"
    ACCURACY = "accuracy on held-out labels"


@dataclass(frozen=True)
class Forecast:
    """A measure carried on to more labels.

    labels            (t,) float64   the counts asked for
    value, low, high  (t,) float64   expected value and prediction interval
    """

    measure: Measure
    labels: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class StopAdvice:
    """Whether the next labels are worth asking for.

    should_stop  None where the curve is too short to say
    change       expected improvement by the next labels, 0 or more in the measure's own unit, with its interval
    """

    should_stop: bool | None
    change: Figure


def forecast(measure: Measure, labels: Floats, values: Floats, at: Floats, *, level: float = 0.95) -> Forecast | None:
    """Carry a curve on; None while it has fewer than five points.

        value(m) = line(m) + k rest(n),   k = n / m
        variance(m) = c [(m - n) / m^2 + (f_m - k f_n)' G (f_m - k f_n)]

    n the last count, rest(n) how far the curve's last point lies from the line, f = (1, x), G the inverse Gram matrix
    of the fit: the best linear unbiased prediction and its error. For accuracy k = 0, with c [1 + f_m' G f_m].

    labels  (p,) float64   label counts above 0 (or money: the axis is whatever is counted), rising
    values  (p,) float64   the measure at them; above 0 for errors and bounds
    at      (t,) float64   counts to forecast, none below the last of `labels`
    raises  ValueError     shapes disagree, counts that do not rise from above 0, an error at or below 0
    """
    line = _fit_line(measure, labels, values)
    if line is None:
        return None
    if np.any(at < labels[-1]):
        raise ValueError("A forecast looks ahead of the curve.")
    to, back = _coordinates(measure)
    if measure is Measure.ACCURACY:
        kept, fresh = np.zeros(len(at)), np.ones(len(at))
    else:
        kept, fresh = labels[-1] / at, (at - labels[-1]) / at**2
    rows = _rows(measure, at, labels[-1]) - np.outer(kept, [1.0, 0.0])  # (t, 2)
    center = rows @ line.coefficients + kept * to(values[-1:])
    error = np.sqrt(line.variance * (fresh + np.einsum("ij,jk,ik->i", rows, line.scatter, rows)))
    reach = float(student.ppf(0.5 + level / 2, line.freedom)) * error
    ends = back(center - reach), back(center + reach)
    return Forecast(measure, at, back(center), np.minimum(*ends), np.maximum(*ends))


def advise_stop(
    measure: Measure,
    labels: Floats,
    values: Floats,
    *,
    following: float,
    threshold: float,
    level: float = 0.95,
) -> StopAdvice:
    """Stop when the next labels are expected to move the measure by less than the threshold.

    The change is that from the curve's last point to the forecast, with the forecast's interval. Of accuracy, whose
    last point is mostly the noise of a few labels, it is that of the line, with the interval of the slope.

    following  B, the labels that would be bought next, or the money that would be spent
    threshold  in the measure's own unit
    """
    now = float(labels[-1]) if len(labels) else 1.0
    there = forecast(measure, labels, values, np.array([now, now + following]), level=level)
    if there is None:
        reason = "The curve has too few points yet: a forecast needs five."
        return StopAdvice(None, Figure.undefined(reason, count=len(labels)))
    change = float(there.value[1] - there.value[0])
    if measure is Measure.ACCURACY:
        reach = _reach_of_rise(labels, values, following=following, level=level)
        ends = change - reach, change + reach
    else:
        ends = float(there.low[1] - there.value[0]), float(there.high[1] - there.value[0])
    if measure in (Measure.STANDARD_ERROR, Measure.BOUND):
        change, ends = -change, (-ends[1], -ends[0])
    figure = Figure(max(change, 0.0), max(ends[0], 0.0), max(ends[1], 0.0), len(labels))
    return StopAdvice(change < threshold, figure)


def design_saving(designed: Floats, control: Floats, *, level: float = 0.95) -> Figure:
    """How many control labels one designed label is worth: the D-efficiency of the designed arm over the control arm.

        saving = [ det(S_designed) / det(S_control) ]^(1/d),   S = E x x' of an arm

    With saving s, s n control labels have the log det of n designed ones. Rows x are sqrt(w_t) z_t, w_t = rho^2 p (1-p)
    at one and the same estimate for both arms, so that only the choice differs; `expected_log_det` has the interval.

    designed (n, d) float64, control (n', d) float64
    """
    width = designed.shape[1]
    smaller, count = min(len(designed), len(control)), len(designed) + len(control)
    if smaller < 2 * width:
        return Figure.undefined("Each arm needs twice as many labels as there are features.", count=count)
    found = [expected_log_det(rows) for rows in (designed, control)]
    if found[0] is None or found[1] is None:
        return Figure.undefined("The labels of an arm do not span the features yet.", count=count)
    (ours, our_variance), (theirs, their_variance) = found[0], found[1]
    value = (ours - theirs) / width
    reach = float(student.ppf(0.5 + level / 2, smaller - width)) * np.sqrt(our_variance + their_variance) / width
    ends = np.exp([value, value - reach, value + reach])
    return Figure(float(ends[0]), float(ends[1]), float(ends[2]), count)


def expected_log_det(rows: Floats) -> tuple[float, float] | None:
    """log det E[x x'] from a sample of rows, and its variance; None where all rows, or all but one, do not span it.

        log det(X'X / n) - bias,   bias = -sum_t log(1 - l_t) - d - d log(sum_t o_t / d) + d / 2n
        variance = d^2 var(o) / (n mean(o)^2),   l_t = x_t' (X'X)^-1 x_t,   o_t = l_t / (1 - l_t)

    A sample's log det is too low, by about d (d + 1) / 2n for normal rows and by more where their lengths differ.
    *Derived*: for x_t = s_t u_t with many features and u_t of one length, o_t = c s_t^2 with c set by
    sum_t o_t / (1 + o_t) = d, and log det X'X = sum_t log(1 + o_t) - d log c + const. The bias is this less its limit
    for n -> inf with s_t^2 of the same distribution; d / 2n makes it right to the order 1/n for any rows. What is left
    of the rows' noise is that of log mean o, whose variance stands above.

    rows  (n, d) float64
    """
    count, width = rows.shape
    total = rows.T @ rows
    if np.linalg.matrix_rank(total, hermitian=True) < width:
        return None
    leverage = uncertainties(rows, total)  # (n,), their sum is d
    if leverage.max() > 1 - UNSPARED:
        return None
    odds = leverage / (1.0 - leverage)
    bias = -np.log1p(-leverage).sum() - width - width * np.log(odds.sum() / width) + width / (2 * count)
    variance = width**2 * odds.var(ddof=1) / (count * odds.mean() ** 2)
    return float(log_det(total) - width * np.log(count) - bias), float(variance)


@dataclass(frozen=True)
class _Line:
    """The line through a curve in its coordinates.

    coefficients  (2,)            its height at the last point, its slope
    scatter       (2, 2)          inverse Gram matrix of the whitened rows
    variance      c               of the whitened noise
    freedom       degrees of it
    """

    coefficients: Floats
    scatter: Floats
    variance: float
    freedom: int


def _coordinates(measure: Measure) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """What makes the curve a straight line, and the way back."""
    if measure in (Measure.STANDARD_ERROR, Measure.BOUND):
        return np.log, np.exp
    if measure is Measure.ACCURACY:
        return lambda y: y, lambda y: np.clip(y, 0.0, 1.0)
    return lambda y: y, lambda y: y


def _rows(measure: Measure, labels: Floats, last: float) -> Floats:
    """(t, 2): 1 and x, which is 0 at the curve's last count."""
    x = 1.0 / np.sqrt(last) - 1.0 / np.sqrt(labels) if measure is Measure.ACCURACY else np.log(labels / last)
    return np.column_stack([np.ones_like(x), x])


def _fit_line(measure: Measure, labels: Floats, values: Floats) -> _Line | None:
    if labels.shape != values.shape or not np.all(np.diff(labels, prepend=0.0) > 0):
        raise ValueError("Every value needs a label count above 0 and above the one before.")
    if measure in (Measure.STANDARD_ERROR, Measure.BOUND) and not np.all(values > 0):
        raise ValueError("Errors and bounds are above 0.")
    if len(labels) < FEWEST:
        return None
    rows, y = _rows(measure, labels, labels[-1]), _coordinates(measure)[0](values)
    if measure is not Measure.ACCURACY:
        root = np.sqrt(np.diff(labels, prepend=0.0))
        rows = np.diff(labels[:, None] * rows, axis=0, prepend=np.zeros((1, 2))) / root[:, None]
        y = np.diff(labels * y, prepend=0.0) / root
    coefficients = np.asarray(np.linalg.lstsq(rows, y, rcond=None)[0], dtype=np.float64)
    scatter = np.asarray(np.linalg.inv(rows.T @ rows), dtype=np.float64)  # 2 by 2
    rest, freedom = y - rows @ coefficients, len(y) - 2
    return _Line(coefficients, scatter, float(rest @ rest) / freedom, freedom)


def _reach_of_rise(labels: Floats, values: Floats, *, following: float, level: float) -> float:
    """Half-width of the interval of accuracy's rise: the slope's error, which both ends share."""
    line = _fit_line(Measure.ACCURACY, labels, values)
    if line is None:
        return np.inf
    step = float(_rows(Measure.ACCURACY, labels[-1:] + following, labels[-1])[0, 1])
    return float(student.ppf(0.5 + level / 2, line.freedom) * np.sqrt(line.variance * line.scatter[1, 1]) * step)
