"""The best teacher for a comparison without trying them all: the two-neighbour rule, and short lists across costs."""

import math
from typing import NamedTuple

import numba
import numpy as np

from .information import log_value, log_weight
from .types import Bools, Floats, Ints, Teachers

FAST = {"reassoc", "contract", "arcp", "nsz"}  # sums may be reordered; NaN and infinity stay themselves
TIE = 1e-10
PER_OCTAVE = 6, 3  # 64 buckets of the gap per octave for breakpoints, 8 for short lists
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
    head: Ints  # (c, buckets, octaves of q)
    arena: Ints  # (ARENA,); its first entry is the number of entries in use
    judged: Ints  # (j,) sorted keys comparison * k + teacher
    asked: Ints  # (<= batch,) the same, of this batch


def build_choice(teachers: Teachers, *, able: Bools, judged: Ints, asked: Ints) -> Choice:
    """Tables over the teachers that `able` (k, c) allows and whose rationality is above 0."""
    k, c = teachers.rationality.shape
    alive = able & (teachers.rationality > 0.0)
    one_cost = len(np.unique(teachers.cost[alive.any(axis=1)])) <= 1
    octaves = LOWEST[1] - LOWEST[0]
    choice = Choice(
        one_cost=one_cost,
        rationality=np.ascontiguousarray(teachers.rationality),
        log_cost=np.log(teachers.cost),
        alive=alive,
        order=np.argsort(teachers.rationality.T, axis=1, kind="stable"),
        first=np.zeros((c, k), dtype=np.int64),
        last=np.zeros((c, k), dtype=np.int64),
        groups=np.zeros(c, dtype=np.int64),
        rho=np.zeros((c, k)),
        breaks=np.zeros((c, k)),
        bucket=np.zeros((c, (octaves << PER_OCTAVE[0]) + 2), dtype=np.int64),
        head=np.full(
            (1, 1, 1) if one_cost else (c, (octaves << PER_OCTAVE[1]) + 2, Q_OCTAVES[1] - Q_OCTAVES[0]), UNBUILT
        ),
        arena=np.ones(1 if one_cost else ARENA, dtype=np.int64),
        judged=judged,
        asked=asked,
    )
    for category in range(c):
        build_groups(choice, category)
    return choice


def drop_teacher(choice: Choice, teacher: int) -> None:
    """Take one teacher out of every table: no capacity left, too dear for the budget, or gone."""
    categories = np.flatnonzero(choice.alive[teacher])
    choice.alive[teacher] = False
    for category in categories:
        if choice.one_cost:
            drop_from_group(choice, int(category), teacher)
        else:
            drop_from_lists(choice, int(category), teacher)


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
def is_judged(choice: Choice, row: int, teacher: int) -> bool:
    """Whether this teacher may not be asked this comparison (again)."""
    key = row * choice.rationality.shape[0] + teacher
    for keys in (choice.judged, choice.asked):
        place = np.searchsorted(keys, key)
        if place < keys.shape[0] and keys[place] == key:
            return True
    return False


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


@numba.njit(cache=True, nogil=True)
def value_for(choice: Choice, teacher: int, c: int, gap: float, log_q: float) -> float:
    """log(gain / cost) of one teacher."""
    return log_gain(log_w(choice.rationality[teacher, c], gap) + log_q) - float(choice.log_cost[teacher])


@numba.njit(cache=True, nogil=True)
def best_by_trying(choice: Choice, c: int, gap: float, log_q: float, row: int, flagged: bool) -> tuple[int, float]:
    """Teacher and log(gain / cost) over all: where no short list is built, or the listed have judged this one."""
    best, value = -1, -np.inf
    for teacher in range(choice.alive.shape[0]):
        if choice.alive[teacher, c] and not (flagged and is_judged(choice, row, teacher)):
            other = value_for(choice, teacher, c, gap, log_q)
            if other > value + TIE:
                best = teacher
            value = max(value, other)
    return best, value


@numba.njit(cache=True, nogil=True)
def best_of_list(choice: Choice, c: int, gap: float, log_q: float, row: int, flagged: bool) -> tuple[int, float]:
    """Teacher and log(gain / cost) through the short list of this (gap, q)."""
    e = math.floor(log_q / math.log(2.0)) - Q_OCTAVES[0]
    b = bucket_of(gap, PER_OCTAVE[1])
    inside = 0 <= e < choice.head.shape[2] and b < choice.head.shape[1] - 1
    head = choice.head[c, b, e] if inside else UNBUILT
    if head == UNBUILT:
        return best_by_trying(choice, c, gap, log_q, row, flagged)
    best, value = -1, -np.inf
    for place in range(head + 1, head + 1 + choice.arena[head]):
        teacher = choice.arena[place]
        if flagged and is_judged(choice, row, teacher):
            return best_by_trying(choice, c, gap, log_q, row, flagged)
        other = value_for(choice, teacher, c, gap, log_q)
        if other > value + TIE:
            best = teacher
        value = max(value, other)
    return best, value


@numba.njit(cache=True, nogil=True)
def best_teacher(choice: Choice, c: int, gap: float, q: float, row: int, flagged: bool) -> tuple[int, float]:
    """The eligible teacher with the largest gain per cost, and the log of it; (-1, -inf) when there is none."""
    if q <= 0.0:
        return -1, -np.inf
    log_q = math.log(q)
    if not choice.one_cost:
        return best_of_list(choice, c, gap, log_q, row, flagged)
    if choice.groups[c] == 0:
        return -1, -np.inf
    teacher, w = best_of_one_cost(choice, c, gap, row, flagged)
    return (teacher, log_gain(w + log_q) - choice.log_cost[teacher]) if teacher >= 0 else (-1, -np.inf)


@numba.njit(cache=True, nogil=True)
def best_value(choice: Choice, c: int, gap: float, q: float, row: int, flagged: bool) -> float:
    """The value that `best_teacher` gives, without looking who else ties."""
    if flagged or not choice.one_cost or choice.groups[c] == 0 or q <= 0.0:
        return best_teacher(choice, c, gap, q, row, flagged)[1]
    g = winning_group(choice, c, gap)
    someone = choice.order[c, choice.first[c, g]]
    return log_gain(log_w(choice.rho[c, g], gap) + math.log(q)) - float(choice.log_cost[someone])


@numba.njit(cache=True, nogil=True)
def drop_from_lists(choice: Choice, c: int, teacher: int) -> None:
    """Forget every short list that names the teacher: whom only this one beat may win now."""
    for b in range(choice.head.shape[1]):
        for e in range(choice.head.shape[2]):
            head = choice.head[c, b, e]
            if head == UNBUILT:
                continue
            for place in range(head + 1, head + 1 + choice.arena[head]):
                if choice.arena[place] == teacher:
                    choice.head[c, b, e] = UNBUILT
                    break


@numba.njit(cache=True, nogil=True)
def build_lists(choice: Choice, category: Ints, gap: Floats, q: Floats) -> None:
    """Build the short lists that these rows fall into, where not yet built; one thread at a time.

    Two teachers cross at most once in the gap for given q, and at most once in q for given gap: so who is better at
    all four corners of a bucket is better all over it. A list keeps who is not beaten so by any corner's winner.
    """
    corner = np.empty((choice.alive.shape[0], 4))
    for i in range(gap.shape[0]):
        if not q[i] > 0.0:
            continue
        e = math.floor(math.log(q[i]) / math.log(2.0))
        b, c = bucket_of(gap[i], PER_OCTAVE[1]), category[i]
        if not (Q_OCTAVES[0] <= e < Q_OCTAVES[1] and b < choice.head.shape[1] - 1):
            continue
        if choice.head[c, b, e - Q_OCTAVES[0]] != UNBUILT:
            continue
        if choice.arena[0] + choice.alive.shape[0] + 1 > choice.arena.shape[0]:
            choice.head[:] = UNBUILT
            choice.arena[0] = 1
        for k in range(choice.alive.shape[0]):
            for j in range(4):
                m = edge_of(b + j // 2, PER_OCTAVE[1])
                value = -np.inf
                if choice.alive[k, c]:
                    value = value_for(choice, k, c, m, (e + j % 2) * math.log(2.0))
                corner[k, j] = value
        head, n = choice.arena[0], 0
        for k in range(choice.alive.shape[0]):
            if choice.alive[k, c] and not is_beaten(corner, k):
                n += 1
                choice.arena[head + n] = k
        choice.arena[head] = n
        choice.arena[0] += n + 1
        choice.head[c, b, e - Q_OCTAVES[0]] = head


@numba.njit(cache=True, nogil=True)
def is_beaten(corner: Floats, k: int) -> bool:
    """Whether the winner of some corner is better than k at all four, by more than a tie."""
    for j in range(4):
        winner = np.argmax(corner[:, j])
        beaten = True
        for i in range(4):
            beaten = beaten and corner[winner, i] > corner[k, i] + 2.0 * TIE
        if beaten:
            return True
    return False


def table_choice(teachers: Teachers, *, category: Ints, gap: Floats, q: Floats) -> Ints:
    """(m,) best teacher by the m x K table: the independent check, and what the rule is measured against."""
    rho = teachers.rationality[:, category].T  # (m, k)
    with np.errstate(divide="ignore"):
        values = log_value(log_weight(gap[:, None], rho), np.log(q)[:, None], np.log(teachers.cost))
    values[~teachers.may_judge[:, category].T] = -np.inf
    return np.asarray(values.argmax(axis=1))
