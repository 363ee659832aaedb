"""Rows to arrays: the only file that knows both.

What is immutable (features, comparisons, labels, closed offers) is read once per worker process and kept; each call
asks the database for what is new and for what is still current. Rows are numbered in ascending id, so that a number
means the same comparison in every process.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
from django.db.models import Q
from django.utils import timezone
from numpy.typing import NDArray

from activelearning.algorithms.features import Projection as Pca
from activelearning.algorithms.types import Bools, Floats, Ints, Labels, Responses, Singles
from activelearning.models import Embedding, Projection
from activelearning.storage import read_arrays
from annotation.models import Campaign, Comparison, Enrolment, Label, Membership, Offer, Teacher
from annotation.models.offers import outcome_of
from annotation.models.people import known_rationality
from annotation.services.terms import PRESENCE, is_at_work, labels_left, members_of

KEPT_CAMPAIGNS = 8
LARGE = 20_000
FLAGS_KEPT = 5.0
"""Seconds for which a larger pool's flags are not asked anew: what an admin takes out is gone within them."""
LEARNED_ARMS = (Offer.Arm.DESIGNED, Offer.Arm.CONTROL, Offer.Arm.GOLD)
SHUT_STAGES = (Enrolment.Stage.TUTORIAL, Enrolment.Stage.QUALIFICATION, Enrolment.Stage.FAILED)
SECONDS_PER_LABEL = 60.0
"""What a label is assumed to take where a pool pays by the hour."""
FREE = 0.1
"""A free label counts as this share of the cheapest paid one: it is preferred, and the criterion stays finite."""


# Comparisons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolRows:
    """The comparisons of a campaign, ascending by id; axes m comparisons, r responses, d features.

    a, b         (m,) rows of `phi`, -1 while a response has no features; then the design row is zero
    is_askable   (m,) active, neither gold nor tutorial; in a ranking campaign one comparison for each conversation
    is_urgent    (m,) priority above 0, or due within a day
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

    def __len__(self) -> int:
        return len(self.ids)

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
        )


def find(sorted_ids: Ints, wanted: Ints) -> Ints:
    """Places of `wanted` in `sorted_ids`; -1 where missing."""
    if len(sorted_ids) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return np.where(sorted_ids[places] == wanted, places, -1).astype(np.int64)


@dataclass
class _Table:
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
class _Kept:
    """One campaign in this process's memory."""

    comparisons: _Table = field(default_factory=lambda: _Table(("conversation", "a", "b", "category", "is_held_out")))
    categories: list[str] = field(default_factory=list)
    projection: int = 0
    pca: Pca | None = None
    last_response: int = 0
    response_ids: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    phi: Singles = field(default_factory=lambda: np.empty((0, 1), dtype=np.float32))
    pool: PoolRows | None = None
    flagged: PoolRows | None = None
    flagged_at: float = 0.0
    labels: _Table = field(
        default_factory=lambda: _Table(("comparison", "teacher", "arm", "outcome", "side", "is_ranking"))
    )
    rankings: dict[int, list[list[int]]] = field(default_factory=dict)
    offers: _Table = field(default_factory=lambda: _Table(("comparison", "teacher", "arm", "slot", "b_first")))


_kept: dict[int, _Kept] = {}


def forget(campaign_id: int | None = None) -> None:
    """Drop what this process keeps, of one campaign or of all."""
    if campaign_id is None:
        _kept.clear()
    else:
        _kept.pop(campaign_id, None)


def _memory_of(campaign_id: int) -> _Kept:
    """The campaign's memory, most recently used last; the eldest goes when there are too many."""
    kept = _kept.pop(campaign_id, None) or _Kept()
    _kept[campaign_id] = kept
    while len(_kept) > KEPT_CAMPAIGNS:
        _kept.pop(next(iter(_kept)))
    return kept


def load_pool(campaign: Campaign, projection: Projection | None) -> PoolRows:
    """Every comparison of the campaign, with the features of `projection`; without one, a single feature of zeros."""
    kept = _memory_of(campaign.pk)
    has_news = _read_features(kept, campaign, projection)
    has_news |= _read_comparisons(kept, campaign)
    if kept.pool is None or has_news:
        kept.pool = _assemble(kept)
    is_fresh = time.monotonic() < kept.flagged_at + FLAGS_KEPT
    if kept.flagged is None or has_news or not (is_fresh and len(kept.pool) > LARGE):
        kept.flagged, kept.flagged_at = _flagged(kept.pool, campaign), time.monotonic()
    return kept.flagged


def _read_features(kept: _Kept, campaign: Campaign, projection: Projection | None) -> bool:
    """Take in the shards that are new; all of them when the projection changed."""
    wanted = projection.pk if projection is not None else 0
    is_new = kept.projection != wanted
    if is_new:
        kept.projection, kept.last_response, kept.pca = wanted, 0, None
        kept.response_ids = np.empty(0, dtype=np.int64)
        kept.phi = np.empty((0, projection.dimensions if projection is not None else 1), dtype=np.float32)
    if projection is None:
        return is_new
    if kept.pca is None:
        kept.pca = Pca(**read_arrays(projection.file))
    shards = Embedding.objects.filter(
        campaign=campaign, encoder=projection.encoder, last_response__gt=kept.last_response
    ).order_by("last_response")
    ids, rows = [kept.response_ids], [kept.phi]
    for shard in shards:
        stored = read_arrays(shard.file)
        ids.append(stored["response_ids"].astype(np.int64))
        rows.append(kept.pca(stored["features"]))
        kept.last_response = shard.last_response
    if len(ids) > 1:
        kept.response_ids, kept.phi = np.concatenate(ids), np.concatenate(rows)
    return is_new or len(ids) > 1


def _read_comparisons(kept: _Kept, campaign: Campaign) -> bool:
    if campaign.comparison_count < len(kept.comparisons.ids):  # some were deleted
        kept.comparisons, kept.categories = _Kept().comparisons, []
    last = int(kept.comparisons.ids[-1]) if len(kept.comparisons.ids) else 0
    fresh = list(
        Comparison.objects.filter(campaign=campaign, id__gt=last)
        .order_by("id")
        .values_list("id", "conversation_id", "a_id", "b_id", "category", "is_held_out")
    )
    numbers = {name: number for number, name in enumerate(kept.categories)}
    rows = [(*row[:4], numbers.setdefault(row[4], len(numbers)), row[5]) for row in fresh]
    kept.categories = list(numbers)
    kept.comparisons.add(rows)
    return bool(rows)


def _assemble(kept: _Kept) -> PoolRows:
    ids, data = kept.comparisons.ids, kept.comparisons.data
    empty = np.empty(0, dtype=np.int64)
    a = find(kept.response_ids, data["a"]) if len(ids) else empty
    b = find(kept.response_ids, data["b"]) if len(ids) else empty
    design = np.zeros((len(ids), kept.phi.shape[1]), dtype=np.float32)
    ready = (a >= 0) & (b >= 0)
    design[ready] = kept.phi[a[ready]] - kept.phi[b[ready]]
    return PoolRows(
        ids=ids,
        conversation=data["conversation"] if len(ids) else empty,
        category=data["category"].astype(np.int64) if len(ids) else empty,
        categories=tuple(kept.categories) or ("",),
        a=a,
        b=b,
        phi=kept.phi,
        response_ids=kept.response_ids,
        design=design,
        is_held_out=data["is_held_out"].astype(bool) if len(ids) else empty.astype(bool),
        is_askable=np.ones(len(ids), dtype=bool),
        is_urgent=np.zeros(len(ids), dtype=bool),
    )


def _flagged(pool: PoolRows, campaign: Campaign) -> PoolRows:
    """What an admin may change while the campaign runs, asked anew each time."""
    soon = timezone.now() + timedelta(days=1)
    special = Comparison.objects.filter(campaign=campaign).filter(
        Q(is_active=False)
        | Q(gold_outcome__isnull=False)
        | Q(is_tutorial=True)
        | Q(priority__gt=0)
        | Q(due_at__lte=soon)
    )
    askable, urgent = np.ones(len(pool), dtype=bool), np.zeros(len(pool), dtype=bool)
    rows = list(special.values_list("id", "is_active", "gold_outcome", "is_tutorial", "priority", "due_at"))
    places = pool.rows_of(np.array([row[0] for row in rows], dtype=np.int64))
    for place, (_id, is_active, gold, is_tutorial, priority, due_at) in zip(places, rows, strict=True):
        if place >= 0:
            askable[place] = is_active and gold is None and not is_tutorial
            urgent[place] = priority > 0 or (due_at is not None and due_at <= soon)
    if campaign.answer_mode == Campaign.AnswerMode.RANKING and len(pool):
        open_rows = np.flatnonzero(askable)
        askable = np.zeros(len(pool), dtype=bool)
        askable[open_rows[np.unique(pool.conversation[open_rows], return_index=True)[1]]] = True
    return replace(pool, is_askable=askable, is_urgent=urgent)


# Labels ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelRows:
    """The current labels of a campaign by ascending id; `row` numbers comparisons of the pool, -1 for one not there."""

    ids: Ints
    row: Ints
    teacher: Ints
    arm: NDArray[np.str_]
    outcome: Floats
    side: Floats
    rankings: dict[int, list[list[int]]]

    def __len__(self) -> int:
        return len(self.ids)

    def learned(self, pool: PoolRows) -> Bools:
        """(n,) which labels enter the fit: designed, control and gold, with features, and not held out."""
        known = self.row >= 0
        fits = np.isin(self.arm, LEARNED_ARMS) & known
        fits[known] &= pool.has_features[self.row[known]] & ~pool.is_held_out[self.row[known]]
        return np.asarray(fits)


def load_labels(campaign: Campaign, pool: PoolRows) -> LabelRows:
    """Current labels. A label never changes but in its state, so only those not yet seen are read in full."""
    kept = _memory_of(campaign.pk)
    current = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT).order_by("id")
    ids = np.fromiter(current.values_list("id", flat=True).iterator(chunk_size=10_000), dtype=np.int64)
    missing = ids[find(kept.labels.ids, ids) < 0]
    wanted = current if len(missing) > 500 else current.filter(id__in=missing.tolist())
    if len(missing):
        known = set(kept.labels.ids.tolist())
        fresh = []
        for pk, comparison, teacher, arm, choice, b_first, ranking in wanted.values_list(
            "id", "comparison_id", "teacher_id", "arm", "choice", "b_first", "ranking"
        ).iterator(chunk_size=10_000):
            if pk not in known:
                side = -1.0 if b_first else 1.0
                fresh.append((pk, comparison, teacher, arm, outcome_of(choice, b_first=b_first), side, bool(ranking)))
                if ranking:
                    kept.rankings[pk] = ranking
        kept.labels.add(fresh)
        ids = ids[find(kept.labels.ids, ids) >= 0]  # one may have been superseded between the two questions
    found = kept.labels.pick(ids)
    ranked = ids[found["is_ranking"].astype(bool)]
    return LabelRows(
        ids=ids,
        row=pool.rows_of(found["comparison"].astype(np.int64)),
        teacher=found["teacher"].astype(np.int64),
        arm=found["arm"].astype(np.str_),
        outcome=found["outcome"].astype(np.float64),
        side=found["side"].astype(np.float64),
        rankings={pk: kept.rankings[pk] for pk in ranked.tolist()},
    )


def teacher_axis(labels: LabelRows, mask: Bools) -> Ints:
    """(k,) the teachers behind the labels in the fit, by their first label: who comes later is appended."""
    teachers, first = np.unique(labels.teacher[mask], return_index=True)
    return np.asarray(teachers[np.argsort(first)], dtype=np.int64)


def fit_labels(labels: LabelRows, mask: Bools, pool: PoolRows, *, teachers: Ints) -> Labels:
    """The labels of the fit as arrays. A ranking of N responses becomes its implied comparisons, of weight 2/N each."""
    order = np.argsort(teachers)
    index = order[np.searchsorted(teachers[order], labels.teacher[mask])]
    row = labels.row[mask]
    pairs = Labels(
        design=pool.design[row].astype(np.float64),
        outcome=labels.outcome[mask],
        teacher=index,
        category=pool.category[row],
        side=labels.side[mask],
        weight=np.ones(len(row)),
    )
    if not labels.rankings:
        return pairs
    return _with_rankings(pairs, labels.ids[mask], labels.rankings, pool)


def _with_rankings(pairs: Labels, ids: Ints, rankings: dict[int, list[list[int]]], pool: PoolRows) -> Labels:
    """Replace each ranking's row by the comparisons that it implies; they have no order shown, hence side 0."""
    design, outcome, source, side, weight = [], [], [], [], []
    for number, pk in enumerate(ids.tolist()):
        tiers = rankings.get(pk)
        if tiers is None:
            design.append(pairs.design[number])
            outcome.append(pairs.outcome[number])
            source.append(number)
            side.append(pairs.side[number])
            weight.append(1.0)
            continue
        placed = [(tier, response) for tier, names in enumerate(tiers) for response in names]
        rows = find(pool.response_ids, np.array([response for _, response in placed], dtype=np.int64))
        for first in range(len(placed)):
            for second in range(first + 1, len(placed)):
                if rows[first] < 0 or rows[second] < 0:
                    continue
                design.append(pool.phi[rows[first]].astype(np.float64) - pool.phi[rows[second]])
                outcome.append(0.5 if placed[first][0] == placed[second][0] else 1.0)
                source.append(number)
                side.append(0.0)
                weight.append(2.0 / len(placed))
    places = np.array(source, dtype=np.int64)
    return Labels(
        design=np.array(design).reshape(len(places), pairs.design.shape[1]),
        outcome=np.array(outcome),
        teacher=pairs.teacher[places],
        category=pairs.category[places],
        side=np.array(side),
        weight=np.array(weight),
    )


# Offers ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfferRows:
    """Offers that take a place (queued, held, answered) or close a pair (skipped); `row` numbers the pool's rows."""

    ids: Ints
    row: Ints
    teacher: Ints
    arm: NDArray[np.str_]
    b_first: Bools
    takes_slot: Bools
    is_queued: Bools
    is_live: Bools

    def __len__(self) -> int:
        return len(self.ids)


def load_offers(campaign: Campaign, pool: PoolRows) -> OfferRows:
    """Every offer that matters to a plan; the closed ones are remembered, since they only leave (an undo)."""
    kept = _memory_of(campaign.pk)
    S = Offer.State
    offers = Offer.objects.filter(campaign=campaign)
    columns = ("id", "comparison_id", "teacher_id", "arm", "slot", "b_first")
    closed = np.array(
        list(offers.filter(state__in=(S.ANSWERED, S.SKIPPED)).order_by("id").values_list("id", "state")), dtype=object
    ).reshape(-1, 2)
    closed_ids = closed[:, 0].astype(np.int64)
    missing = closed_ids[find(kept.offers.ids, closed_ids) < 0]
    if len(missing):
        wanted = offers.filter(state__in=(S.ANSWERED, S.SKIPPED))
        wanted = wanted if len(missing) > 500 else offers.filter(id__in=missing.tolist())
        known = set(kept.offers.ids.tolist())
        kept.offers.add(
            [
                (pk, comparison, teacher, arm, -1 if slot is None else slot, b_first)
                for pk, comparison, teacher, arm, slot, b_first in wanted.values_list(*columns)
                if pk not in known
            ]
        )
    live = list(offers.filter(state__in=Offer.LIVE).order_by("id").values_list(*columns, "state"))
    live_ids = np.array([row[0] for row in live], dtype=np.int64)
    is_closed = ~np.isin(closed_ids, live_ids)
    closed_ids, states = closed_ids[is_closed], closed[is_closed, 1]
    found = kept.offers.pick(closed_ids)
    both = {
        name: np.concatenate([found[name].astype(kind), np.array([row[place] for row in live], dtype=kind)])
        for name, place, kind in (
            ("comparison", 1, np.int64),
            ("teacher", 2, np.int64),
            ("arm", 3, np.str_),
            ("b_first", 5, bool),
        )
    }
    old, new = len(closed_ids), len(live)
    return OfferRows(
        ids=np.concatenate([closed_ids, live_ids]),
        row=pool.rows_of(both["comparison"]),
        teacher=both["teacher"],
        arm=both["arm"].astype(np.str_),
        b_first=both["b_first"],
        takes_slot=np.concatenate([states != S.SKIPPED, np.ones(new, dtype=bool)]).astype(bool),
        is_queued=np.concatenate(
            [np.zeros(old, dtype=bool), np.array([row[6] == S.QUEUED for row in live], dtype=bool)]
        ),
        is_live=np.concatenate([np.zeros(old, dtype=bool), np.ones(new, dtype=bool)]),
    )


# Teachers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A teacher who could be asked now, under the terms that cost least.

    price       what a label costs, reserved with the offer
    cost        the same as the criterion sees it, above 0
    room        how many more live offers the terms and the queue allow, those already live counted off
    known       rationality by category, as stated by an admin
    is_new      has never come
    """

    teacher_id: int
    membership_id: int
    pseudonym: str
    price: Decimal
    cost: float
    room: int
    may_judge: tuple[bool, ...]
    known: tuple[float, ...]
    is_new: bool


def load_members(
    campaign: Campaign, *, categories: Iterable[str], live: dict[int, int], holding: set[int], now: datetime
) -> list[Member]:
    """The teachers who could take an offer now, by ascending id.

    live      live offers by teacher, in this campaign
    holding   who has an offer on the desk: present, however long they have been reading
    Present is besides who showed a sign of life, who has never come yet (they find a first queue waiting), and every
    teacher that is no person.
    """
    is_here = (
        ~Q(teacher__kind=Teacher.Kind.HUMAN)
        | Q(teacher__last_seen__gte=now - PRESENCE)
        | Q(teacher__last_seen__isnull=True)
        | Q(teacher_id__in=holding)
    )
    shut = set(Enrolment.objects.filter(campaign=campaign, stage__in=SHUT_STAGES).values_list("teacher_id", flat=True))
    lapsed_unseen = set(
        Offer.objects.filter(campaign=campaign, teacher__last_seen__isnull=True, teacher__kind=Teacher.Kind.HUMAN)
        .exclude(state__in=Offer.LIVE)
        .values_list("teacher_id", flat=True)
    )
    names = tuple(categories)
    found: dict[int, Member] = {}
    for membership in members_of(campaign).filter(is_here):
        teacher = membership.teacher
        if teacher.pk in shut or teacher.pk in lapsed_unseen or not is_at_work(teacher, now=now):
            continue  # whose first queue lapsed unseen gets another one when they come
        member = _member(membership, campaign, names, live.get(teacher.pk, 0))
        best = found.get(teacher.pk)
        if best is None or (member.room == 0, member.price) < (best.room == 0, best.price):
            found[teacher.pk] = member
    return _with_costs([found[teacher] for teacher in sorted(found)])


def _member(
    membership: Membership,
    campaign: Campaign,
    categories: tuple[str, ...],
    live: int,
) -> Member:
    teacher, pool = membership.teacher, membership.pool
    price = membership.cost_per_label if membership.cost_per_label is not None else pool.pay_per_label
    if not price and pool.pay_per_hour:
        price = pool.pay_per_hour * Decimal(SECONDS_PER_LABEL / 3600)
    left = labels_left(membership, teacher=teacher)
    depth = campaign.queue_depth if left is None else min(campaign.queue_depth, left)
    taken = set(membership.categories or pool.categories)
    declined = set(teacher.declined_warnings) & set(campaign.content_warnings)
    return Member(
        teacher_id=teacher.pk,
        membership_id=membership.pk,
        pseudonym=teacher.pseudonym,
        price=price,
        cost=1.0,
        room=max(0, depth - live),
        may_judge=tuple((not taken or name in taken) and name not in declined for name in categories),
        known=tuple(known_rationality(membership, name) for name in categories),
        is_new=teacher.last_seen is None and teacher.kind == Teacher.Kind.HUMAN,
    )


def _with_costs(members: list[Member]) -> list[Member]:
    paid = [float(member.price) for member in members if member.price > 0]
    least = min(paid) if paid else 1.0 / FREE
    return [replace(member, cost=float(member.price) if member.price > 0 else FREE * least) for member in members]


def load_removable(campaign: Campaign, teachers: set[int], *, now: datetime) -> set[int]:
    """Which of these teachers may not work here now: no longer a member, on time off, outside hours, not qualified.

    Who is only silent keeps the queue until the lease ends, and then it lapses by itself.
    """
    if not teachers:
        return set()
    shut = set(
        Enrolment.objects.filter(campaign=campaign, stage=Enrolment.Stage.FAILED).values_list("teacher_id", flat=True)
    )
    members = members_of(campaign).filter(teacher_id__in=teachers)
    able = {row.teacher_id for row in members if row.teacher_id not in shut and is_at_work(row.teacher, now=now)}
    return teachers - able


def stated_rationality(campaign: Campaign, teachers: Ints, categories: tuple[str, ...]) -> Floats:
    """(k, c) what an admin said of each teacher, in the first pool that knows them; 1 where nobody did."""
    memberships = Membership.objects.filter(pool__campaigns=campaign, teacher_id__in=set(teachers.tolist()))
    of: dict[int, Membership] = {}
    for membership in memberships.order_by("-id"):
        of[membership.teacher_id] = membership
    return np.array(
        [[known_rationality(of[pk], name) if pk in of else 1.0 for name in categories] for pk in teachers.tolist()]
    ).reshape(len(teachers), len(categories))
