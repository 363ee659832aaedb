"""Who could be asked now, and under which terms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import numpy as np
from django.db.models import Q

from activelearning.algorithms.types import Floats, Ints
from activelearning.arrays.rows import Kind
from annotation.languages import may_read
from annotation.models import Campaign, Enrolment, Membership, Offer, RecordedJudgement, Teacher
from annotation.models.people import known_rationality
from annotation.services import budget
from annotation.services.terms import PRESENCE, has_consented, is_at_work, labels_left, members_of

SHUT_STAGES = (Enrolment.Stage.TUTORIAL, Enrolment.Stage.QUALIFICATION, Enrolment.Stage.FAILED)
SECONDS_PER_LABEL = 60.0
"""What a label is expected to take where a pool pays by the hour: for gain per cost alone, never for a promise."""
FREE = 0.1
"""A free label counts as this share of the cheapest paid one: it is preferred, and the criterion stays finite."""


@dataclass(frozen=True)
class Member:
    """A teacher who could be asked now, under the terms that cost least.

    price       what an offer reserves: the whole lease where hours are paid
    cost        what a label is expected to cost, as the criterion sees it, above 0
    room        how many more live offers the terms and the queue allow, those already live counted off
    may_judge   by kind: the teacher takes the category and reads the language
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
    campaign: Campaign,
    *,
    categories: Iterable[str],
    kinds: Sequence[Kind],
    live: dict[int, int],
    holding: set[int],
    now: datetime,
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
        if not has_consented(membership, teacher=teacher):
            continue  # none of it could be claimed
        member = _member(membership, campaign, names, kinds, live.get(teacher.pk, 0))
        best = found.get(teacher.pk)
        if best is None or (member.room == 0, member.cost, member.price) < (best.room == 0, best.cost, best.price):
            found[teacher.pk] = member
    return _with_costs([found[teacher] for teacher in sorted(found)])


def _member(
    membership: Membership,
    campaign: Campaign,
    categories: tuple[str, ...],
    kinds: Sequence[Kind],
    live: int,
) -> Member:
    teacher, pool = membership.teacher, membership.pool
    price = budget.cost_of(membership, campaign=campaign)
    left = labels_left(membership, teacher=teacher)
    depth = campaign.queue_depth if left is None else min(campaign.queue_depth, left)
    taken = set(membership.categories or pool.categories)
    declined = set(teacher.declined_warnings) & set(campaign.content_warnings)
    takes = [(not taken or name in taken) and name not in declined for name in categories]
    reads = {language: may_read(language, pool.languages, teacher.languages) for _category, language in kinds}
    return Member(
        teacher_id=teacher.pk,
        membership_id=membership.pk,
        pseudonym=teacher.pseudonym,
        price=price,
        cost=float(budget.price_of(membership, reserved=price, seconds=SECONDS_PER_LABEL)),
        room=max(0, depth - live),
        may_judge=tuple(takes[category] and reads[language] for category, language in kinds),
        known=tuple(known_rationality(membership, name) for name in categories),
        is_new=teacher.last_seen is None and teacher.kind == Teacher.Kind.HUMAN,
    )


def _with_costs(members: list[Member]) -> list[Member]:
    """Free labels get a cost above 0."""
    paid = [member.cost for member in members if member.cost > 0]
    least = min(paid) if paid else 1.0 / FREE
    return [member if member.cost > 0 else replace(member, cost=FREE * least) for member in members]


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


def load_unrecorded(campaign: Campaign, teachers: Ints, comparisons: Ints) -> Ints:
    """(j, 2) comparison and teacher ids that must not be asked: a recorded judge answers what the data holds, only.

    teachers (k,), comparisons (m,): ids. None for a campaign without recorded judges among its teachers.
    """
    judges = dict(
        Teacher.objects.filter(pk__in=teachers.tolist(), kind=Teacher.Kind.RECORDED).values_list(
            "pk", "external__judge"
        )
    )
    if not judges:
        return np.zeros((0, 2), dtype=np.int64)
    held: dict[str, list[int]] = {}
    judgements = RecordedJudgement.objects.filter(comparison__campaign=campaign, judge__in=set(judges.values()))
    for judge, comparison in judgements.values_list("judge", "comparison_id").iterator(chunk_size=10_000):
        held.setdefault(judge, []).append(comparison)
    closed = [
        (np.setdiff1d(comparisons, np.array(held.get(judge, []), dtype=np.int64)), teacher)
        for teacher, judge in judges.items()
    ]
    return np.concatenate([np.column_stack([ids, np.full(len(ids), teacher)]) for ids, teacher in closed])
