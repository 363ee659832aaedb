"""Teachers of one cost: the two-neighbour rule, by the gaps where neighbouring rationalities tie."""

import math

import numba
import numpy as np

from .choice_tables import PER_OCTAVE, TIE, Choice, bucket_of, edge_of, is_judged, log_w


@numba.njit(cache=True, nogil=True)
def break_between(low: float, high: float) -> float:
    """The one gap where rationalities low < high are worth the same: Newton inside a bracket, in log m.

    log f is strictly concave in log u, so h(m) = log w_high - log w_low falls from above 0 at m = u*/high to below
    0 at u*/low, with slope d h / d log m = low m tanh(low m / 2) - high m tanh(high m / 2).
    """
    peak = 2.3993572805154676  # u*, the root of u tanh(u/2) = 2
    left, right = math.log(peak / high), math.log(peak / low)
    x = 0.5 * (left + right)
    for _ in range(80):
        m = math.exp(x)
        h = log_w(high, m) - log_w(low, m)
        if h > 0.0:
            left = x
        else:
            right = x
        slope = low * m * math.tanh(0.5 * low * m) - high * m * math.tanh(0.5 * high * m)
        step = x - h / slope if slope < 0.0 else left
        moved = step if left < step < right else 0.5 * (left + right)
        if abs(moved - x) < 1e-15:
            break
        x = moved
    return math.exp(x)


@numba.njit(cache=True, nogil=True)
def build_groups(choice: Choice, category: int) -> None:
    """Group the living teachers of a category by rationality, ascending, and find where neighbours tie."""
    n, c = 0, category
    for place in range(choice.order.shape[1]):
        teacher = choice.order[c, place]
        rho = choice.rationality[teacher, c]
        if not choice.alive[teacher, c]:
            continue
        if n > 0 and choice.rho[c, n - 1] == rho:
            choice.last[c, n - 1] = place + 1
            continue
        choice.rho[c, n], choice.first[c, n], choice.last[c, n] = rho, place, place + 1
        n += 1
    choice.groups[c] = n
    for g in range(n - 1):
        choice.breaks[c, g] = break_between(choice.rho[c, g], choice.rho[c, g + 1])
    fill_buckets(choice, c)


@numba.njit(cache=True, nogil=True)
def fill_buckets(choice: Choice, c: int) -> None:
    """bucket[b] = the group that wins at the upper edge of bucket b; breaks fall as g rises."""
    g, bits = 0, PER_OCTAVE[0]
    for b in range(choice.bucket.shape[1] - 1, -1, -1):
        edge = edge_of(b + 1, bits)
        while g < choice.groups[c] - 1 and edge <= choice.breaks[c, g]:
            g += 1
        choice.bucket[c, b] = g


@numba.njit(cache=True, nogil=True)
def build_roof(choice: Choice, c: int) -> None:
    """roof[b] = w of the winner at the lower edge of bucket b, a hair above rounding; w falls in the gap."""
    for b in range(choice.roof.shape[1]):
        edge = edge_of(b, PER_OCTAVE[2])
        w = 0.0
        if choice.groups[c] > 0:
            w = math.exp(log_w(choice.rho[c, winning_group(choice, c, edge)], edge))
        choice.roof[c, b] = w * (1.0 + 1e-9)


@numba.njit(cache=True, nogil=True)
def winning_group(choice: Choice, c: int, gap: float) -> int:
    """The two-neighbour rule by breakpoints: no exponential, about one comparison."""
    g = int(choice.bucket[c, bucket_of(gap, PER_OCTAVE[0])])
    while g < choice.groups[c] - 1 and gap <= choice.breaks[c, g]:
        g += 1
    return g


@numba.njit(cache=True, nogil=True)
def drop_from_group(choice: Choice, c: int, teacher: int) -> None:
    """Remove a teacher; an emptied group leaves, and its two neighbours meet at a new breakpoint."""
    n, rho = choice.groups[c], choice.rationality[teacher, c]
    g = np.searchsorted(choice.rho[c, :n], rho)
    for place in range(choice.first[c, g], choice.last[c, g]):
        if choice.alive[choice.order[c, place], c]:
            choice.first[c, g] = place  # the dead before it are skipped from now on
            return
    for later in range(g, n - 1):
        choice.rho[c, later] = choice.rho[c, later + 1]
        choice.first[c, later], choice.last[c, later] = choice.first[c, later + 1], choice.last[c, later + 1]
        choice.breaks[c, later] = choice.breaks[c, later + 1]
    choice.groups[c] = n - 1
    if 0 < g < n - 1:
        choice.breaks[c, g - 1] = break_between(choice.rho[c, g - 1], choice.rho[c, g])
    fill_buckets(choice, c)


@numba.njit(cache=True, nogil=True)
def member(choice: Choice, c: int, g: int, row: int, flagged: bool) -> int:
    """The first eligible teacher of a group, by index; -1 when this comparison has used them up."""
    for place in range(choice.first[c, g], choice.last[c, g]):
        teacher = choice.order[c, place]
        if choice.alive[teacher, c] and not (flagged and is_judged(choice, row, teacher)):
            return int(teacher)
    return -1


@numba.njit(cache=True, nogil=True)
def best_of_one_cost(choice: Choice, c: int, gap: float, row: int, flagged: bool) -> tuple[int, float]:
    """Teacher and log w among teachers of one cost; past judged ones, the nearest eligible on either side."""
    g = winning_group(choice, c, gap)
    best, value = -1, -np.inf
    for step in (-1, 1):  # downward from the winner, itself included; then upward
        h = g if step == -1 else g + 1
        while 0 <= h < choice.groups[c]:
            teacher = member(choice, c, h, row, flagged)
            if teacher >= 0:
                w = log_w(choice.rho[c, h], gap)
                if w < value - TIE:
                    break
                if w > value + TIE or teacher < best:
                    best = teacher
                value = max(value, w)
            h += step
    return best, value
