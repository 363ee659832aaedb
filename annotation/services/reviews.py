"""Reviews: which comparisons wait for a reviewer, and what reviewers decide about them.

A decision is a row of its own beside the labels, which stay as they were given. It is exported with them and enters no
fit: whoever decides has read the labels first, so it is no independent observation.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Adjudication, Campaign, Comparison, Label, Offer, Review, User
from annotation.services.audit import record_audit
from annotation.services.refusals import Refusal

HOLD = timedelta(minutes=10)
"""How long an open page keeps a comparison out of the other reviewers' way."""
GRACE = timedelta(seconds=10)
"""Answers on their way when reviews are switched on have arrived by then, and the looking through begins."""
CLAIM = timedelta(seconds=60)
CHUNK = 500
LESSONS = (Offer.Arm.TUTORIAL, Offer.Arm.GOLD)
"""Their answers are known: teachers who differ there are wrong and not in doubt."""
LONGEST_NOTE = 5000


class DecidedMeanwhile(Refusal):
    """Somebody else decided since the page was opened. `other` is their decision, None where one was taken back."""

    def __init__(self, other: Adjudication | None) -> None:
        self.other = other
        if other is None:
            super().__init__(_("The decision that you saw was taken back meanwhile. Yours is not stored yet."))
        else:
            super().__init__(
                _("%(name)s decided meanwhile: %(verdict)s. Yours is not stored yet; store it to put it in its place.")
                % {"name": reviewer_name(other), "verdict": other.get_verdict_display()}
            )


def reviewer_name(adjudication: Adjudication) -> str:
    return adjudication.reviewer.username if adjudication.reviewer is not None else _("somebody who has left")


# Into the queue and out of it -----------------------------------------------------------------------------------------


def refer_comparisons(*, campaign: Campaign, ids: Collection[int]) -> None:
    """Bring the queue in step with the labels of these comparisons.

    The comparisons are locked before their labels are read: of two answers in the same moment the second waits, and
    sees the first. The caller is in the transaction of the label, after it and before the campaign's row.
    """
    if not campaign.has_reviews:
        return
    _lock(ids)
    disagrees, flagged = _reasons(campaign, ids)
    decided = set(_current(ids).values_list("comparison_id", flat=True))
    reasons = disagrees | flagged
    rows = [
        Review(
            campaign=campaign,
            comparison_id=pk,
            disagrees=pk in disagrees,
            is_flagged=pk in flagged,
            is_waiting=pk not in decided,
        )
        for pk in sorted(reasons)
    ]
    Review.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["comparison"],
        update_fields=["disagrees", "is_flagged", "is_waiting"],
    )
    over = [pk for pk in ids if pk not in reasons]
    Review.objects.filter(comparison__in=over).update(disagrees=False, is_flagged=False, is_waiting=False)


def _lock(ids: Collection[int]) -> None:
    rows = Comparison.objects.filter(pk__in=ids).order_by("pk").values_list("pk", flat=True)
    if connection.features.has_select_for_no_key_update:  # SQLite's transactions stand in line anyway
        rows = rows.select_for_update(no_key=True)
    list(rows)


def _reasons(campaign: Campaign, ids: Collection[int]) -> tuple[set[int], set[int]]:
    """Of the comparisons, those whose teachers disagree and those that are flagged, as far as the campaign asks.

    A tie and "both bad" agree: neither prefers a side. A teacher who contradicts only themselves is no disagreement.
    """
    flagged: set[int] = set()
    outcomes: dict[int, set[float]] = defaultdict(set)
    teachers: dict[int, set[int]] = defaultdict(set)
    labels = Label.objects.filter(comparison__in=ids, state=Label.State.CURRENT).exclude(arm=Offer.Arm.TUTORIAL)
    for label in labels.only("comparison_id", "teacher_id", "arm", "choice", "b_first", "is_flagged"):
        if label.is_flagged:
            flagged.add(label.comparison_id)
        if label.arm not in LESSONS:
            outcomes[label.comparison_id].add(label.outcome)
            teachers[label.comparison_id].add(label.teacher_id)
    differ = {pk for pk, found in outcomes.items() if len(found) > 1 and len(teachers[pk]) > 1}
    return differ if campaign.reviews_disagreements else set(), flagged if campaign.reviews_flags else set()


def _current(ids: Collection[int]) -> QuerySet[Adjudication]:
    return Adjudication.objects.filter(comparison__in=ids, state=Adjudication.State.CURRENT)


def campaigns_to_fill(*, now: datetime | None = None) -> list[int]:
    """Campaigns whose labels are to be looked through, since the setting changed."""
    return list(Campaign.objects.filter(reviews_due_at__lte=now or timezone.now()).values_list("pk", flat=True))


def fill_reviews(campaign_id: int) -> None:
    """Look through the labels that were there before the setting. A killed worker's work begins again after a minute.

    Claimed, and kept, by the due time: another worker, or another change of the setting, moves it and ends this one.
    """
    due = _claim(campaign_id, Q(reviews_due_at__lte=timezone.now()))
    if due is None:
        return
    campaign = Campaign.objects.get(pk=campaign_id)
    for ids in _chunks(campaign) if campaign.has_reviews else ():
        with transaction.atomic():
            refer_comparisons(campaign=campaign, ids=ids)
        due = _claim(campaign_id, Q(reviews_due_at=due))
        if due is None:
            return
    Campaign.objects.filter(pk=campaign_id, reviews_due_at=due).update(reviews_due_at=None)


def _claim(campaign_id: int, condition: Q) -> datetime | None:
    until = timezone.now() + CLAIM
    is_mine = Campaign.objects.filter(condition, pk=campaign_id).update(reviews_due_at=until)
    return until if is_mine else None


def _chunks(campaign: Campaign) -> Iterator[list[int]]:
    """Comparisons with a label or a place in the queue, by key."""
    labels = Label.objects.filter(comparison=OuterRef("pk"), state=Label.State.CURRENT)
    reviews = Review.objects.filter(comparison=OuterRef("pk"))
    wanted = Comparison.objects.filter(Exists(labels) | Exists(reviews), campaign=campaign).order_by("pk")
    last = 0
    while ids := list(wanted.filter(pk__gt=last).values_list("pk", flat=True)[:CHUNK]):
        yield ids
        last = ids[-1]


# At the page ----------------------------------------------------------------------------------------------------------


def hold_review(*, review: Review, user: User) -> Review:
    """Keep it out of the other reviewers' way while its page is open. `held_by` says who has it, which may be another.

    A courtesy and no lock: two may decide, and the second is told.
    """
    now = timezone.now()
    is_free = Q(held_by=user) | Q(held_by__isnull=True) | Q(held_until__lte=now)
    Review.objects.filter(is_free, pk=review.pk).update(held_by=user, held_until=now + HOLD)
    review.refresh_from_db(fields=["held_by", "held_until"])
    return review


def next_review(*, campaign: Campaign, user: User, after: int = 0) -> Review | None:
    """The next in the queue that nobody else has open; past the end it begins again."""
    if not campaign.has_reviews:
        return None
    taken = Q(held_until__gt=timezone.now()) & ~Q(held_by=user)
    waiting = Review.objects.filter(campaign=campaign, is_waiting=True).exclude(taken).order_by("pk")
    return waiting.filter(pk__gt=after).first() or waiting.filter(pk__lte=after).first()


@transaction.atomic
def decide_review(*, review: Review, user: User, verdict: str, note: str = "", seen: int | None) -> Adjudication:
    """Store a decision; the labels stay as they are. The same decision again, by the same person, is one.

    `seen` is the decision that the page showed. Where another is current, nothing is stored: DecidedMeanwhile tells
    which, and sent again with that one as `seen`, the decision takes its place.
    """
    if verdict not in Adjudication.Verdict.values:
        raise Refusal(_("Choose one of the decisions."))
    note = note.strip()[:LONGEST_NOTE]
    _lock([review.comparison_id])
    current = _current([review.comparison_id]).select_related("reviewer").first()
    if current is not None and (current.reviewer_id, current.verdict, current.note) == (user.pk, verdict, note):
        return current
    if (current.pk if current is not None else None) != seen:
        raise DecidedMeanwhile(current)
    if current is not None:
        Adjudication.objects.filter(pk=current.pk).update(state=Adjudication.State.SUPERSEDED)
    decided = Adjudication.objects.create(
        campaign_id=review.campaign_id,
        comparison_id=review.comparison_id,
        reviewer=user,
        verdict=verdict,
        note=note,
        supersedes=current,
    )
    Review.objects.filter(pk=review.pk).update(is_waiting=False, held_by=None, held_until=None)
    _record(decided, user=user, verb="adjudicate")
    return decided


@transaction.atomic
def take_back_decision(*, review: Review, user: User, adjudication_id: int) -> bool:
    """The decision is no longer current and the comparison waits again, if its reason holds. False where it was not.

    What it had superseded stays superseded: the comparison is undecided.
    """
    _lock([review.comparison_id])
    taken = Adjudication.objects.filter(
        pk=adjudication_id, comparison=review.comparison_id, state=Adjudication.State.CURRENT
    )
    if not taken.update(state=Adjudication.State.RETRACTED):
        return False
    refer_comparisons(campaign=review.campaign, ids=[review.comparison_id])
    _record(Adjudication.objects.get(pk=adjudication_id), user=user, verb="take back adjudication")
    return True


def _record(adjudication: Adjudication, *, user: User, verb: str) -> None:
    details = {"verdict": adjudication.verdict, "note": adjudication.note, "adjudication": adjudication.pk}
    if adjudication.supersedes_id is not None:
        details["supersedes"] = adjudication.supersedes_id
    record_audit(
        user=user,
        verb=verb,
        object=f"comparison {adjudication.comparison_id}",
        campaign=adjudication.campaign,
        details=details,
    )
