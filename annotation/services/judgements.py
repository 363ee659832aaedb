"""Recorded judgements become labels of a named teacher, when an admin says so."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, groupby, islice
from uuid import uuid4

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from annotation.models import Campaign, Enrolment, Label, Offer, RecordedJudgement, Teacher, User
from annotation.services.audit import record_audit
from annotation.services.refusals import CampaignNotOpen, NotAllowed
from annotation.services.reviews import refer_comparisons
from annotation.services.teachers import lock_unless_withdrawn

BATCH = 200
"""Labels per transaction."""
PSEUDONYM = 64
"""Characters of a teacher's name; a file may call a judge by 128."""
UNNAMED = "unnamed"
JUDGE = "judge "
"""How the names of their teachers begin, and no others'."""
SHUT = (Campaign.State.CLOSED, Campaign.State.ARCHIVED)


@dataclass(frozen=True)
class Verdict:
    """What a judge said about a comparison: the outcome of the pair, and the tiers where it was a ranking."""

    comparison_id: int
    outcome: float
    ranking: list[list[int]] | None = None


def judges_of(campaign: Campaign) -> QuerySet[RecordedJudgement, str]:
    """The names of the judges that the campaign's data records; "" are the unnamed ones."""
    recorded = RecordedJudgement.objects.filter(comparison__campaign=campaign)
    return recorded.order_by("judge").values_list("judge", flat=True).distinct()


def teacher_of_judge(judge: str) -> Teacher:
    """The teacher that stands for a recorded judge; the same one for the same name."""
    pseudonym = f"{JUDGE}{judge or UNNAMED}"
    is_anothers = Teacher.objects.filter(pseudonym=pseudonym).exclude(kind=Teacher.Kind.RECORDED).exists()
    if len(pseudonym) > PSEUDONYM or judge == UNNAMED or is_anothers:
        digest = sha256(judge.encode()).hexdigest()[:16]  # two names that begin alike are two judges
        pseudonym = f"{pseudonym[: PSEUDONYM - 17]}~{digest}"
    return Teacher.objects.get_or_create(pseudonym=pseudonym, kind=Teacher.Kind.RECORDED)[0]


def judgements_to_labels(
    *,
    campaign: Campaign,
    judge: str,
    teacher: Teacher,
    user: User | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> int:
    """Labels of `teacher` from all that `judge` recorded; returns how many are new, none the second time.

    A ranking of three responses or more becomes one label with its tiers, since it was one act (its pairs follow from
    it and are no independent labels). Comparisons held out stay without, for they judge policies. The order that the
    judge saw is not known; it is drawn here, so that it leans to no side. Nothing is paid.

    Raises CampaignNotOpen for a closed campaign, NotAllowed for a teacher who withdrew, also where that happens on the
    way: what was taken over before stays.
    """
    if campaign.state in SHUT:
        raise CampaignNotOpen
    if teacher.withdrawn_at is not None:
        raise NotAllowed
    verdicts = read_verdicts(campaign, judge)
    added = 0
    while batch := list(islice(verdicts, BATCH)):
        while batch:
            new, batch = _add_labels(campaign, teacher, batch)
            added += new
            if on_batch is not None:
                on_batch(new)
    record_audit(
        user=user,
        verb="adopt judgements",
        object=f"judge {judge!r} as {teacher}",
        campaign=campaign,
        details={"judge": judge, "teacher": str(teacher.code), "labels": added},
    )
    return added


def read_verdicts(campaign: Campaign, judge: str) -> Iterator[Verdict]:
    recorded = (
        RecordedJudgement.objects.filter(comparison__campaign=campaign, judge=judge)
        .filter(comparison__is_held_out=False, comparison__is_active=True)
        .select_related("comparison")
        .order_by("comparison__conversation_id", "comparison_id")
    )
    rows = recorded.iterator(chunk_size=2000)
    for _, group in groupby(rows, key=lambda judgement: judgement.comparison.conversation_id):
        yield from _verdicts_of(list(group))


def _verdicts_of(judgements: Sequence[RecordedJudgement]) -> Iterator[Verdict]:
    """Of one conversation: a choice of its own has no margin; choices with margins follow from one scoring."""
    scored = [judgement for judgement in judgements if judgement.margin is not None]
    tiers = tiers_of((judgement.comparison.a_id, judgement.comparison.b_id, judgement.outcome) for judgement in scored)
    if tiers is not None and len(scored) > 1:
        widest = max(scored, key=lambda judgement: (judgement.margin or 0.0, -judgement.comparison_id))
        yield Verdict(widest.comparison_id, widest.outcome, tiers)
        judgements = [judgement for judgement in judgements if judgement.margin is None]
    for judgement in judgements:
        yield Verdict(judgement.comparison_id, judgement.outcome)


def tiers_of(pairs: Iterable[tuple[int, int, float]]) -> list[list[int]] | None:
    """The tiers (best first) of responses of which every pair has an outcome; None where pairs are missing.

    By wins, ties counting one half: exact where the outcomes follow from one score.
    """
    wins: dict[int, float] = defaultdict(float)
    number = 0
    for a, b, outcome in pairs:
        wins[a] += outcome
        wins[b] += 1 - outcome
        number += 1
    if not wins or number != len(wins) * (len(wins) - 1) // 2:
        return None
    best_first = sorted(wins, key=lambda response: (-wins[response], response))
    return [list(tier) for _, tier in groupby(best_first, key=lambda response: wins[response])]


@transaction.atomic
def _add_labels(campaign: Campaign, teacher: Teacher, verdicts: Sequence[Verdict]) -> tuple[int, list[Verdict]]:
    """Answered offers and their labels, where the teacher has none yet. Returns how many, and what is to be tried anew.

    That is what lost its slot to a plan in the same moment. Offers go in in one order, as everywhere, which a second
    try in the same transaction would not keep. The teacher's lock makes a withdrawal wait, and find these labels.
    """
    if not lock_unless_withdrawn(teacher.pk):
        raise NotAllowed
    campaign = Campaign.objects.get(pk=campaign.pk)  # reviews may have been switched on since the last batch
    now = timezone.now()
    drafts = _draft_offers(campaign, teacher, verdicts)
    Offer.objects.bulk_create(
        sorted((offer for offer, _ in drafts), key=lambda offer: offer.comparison_id), ignore_conflicts=True
    )
    stored = dict(Offer.objects.filter(code__in=[offer.code for offer, _ in drafts]).values_list("code", "id"))
    labels = [
        Label(
            campaign=campaign,
            offer_id=stored[offer.code],
            comparison_id=offer.comparison_id,
            teacher=teacher,
            arm=offer.arm,
            b_first=offer.b_first,
            choice=shown_choice(verdict.outcome, b_first=offer.b_first),
            ranking=verdict.ranking,
        )
        for offer, verdict in drafts
        if offer.code in stored
    ]
    refused = [verdict for offer, verdict in drafts if offer.code not in stored]
    if not labels:
        return 0, refused
    Label.objects.bulk_create(labels)
    refer_comparisons(campaign=campaign, ids={label.comparison_id for label in labels})
    Enrolment.objects.get_or_create(
        campaign=campaign,
        teacher=teacher,
        defaults={"stage": Enrolment.Stage.WORKING, "working_since": now},
    )
    Enrolment.objects.filter(campaign=campaign, teacher=teacher).update(label_count=F("label_count") + len(labels))
    if (
        not Campaign.objects.filter(pk=campaign.pk)
        .exclude(state__in=SHUT)
        .update(label_count=F("label_count") + len(labels), label_version=F("label_version") + 1)
    ):
        raise CampaignNotOpen
    return len(labels), refused


def _draft_offers(campaign: Campaign, teacher: Teacher, verdicts: Sequence[Verdict]) -> list[tuple[Offer, Verdict]]:
    """In the smallest free designed slots: what a judge said counts towards the overlap, and is not kept out by it."""
    ids = [verdict.comparison_id for verdict in verdicts]
    taken: dict[int, set[int]] = defaultdict(set)
    met = set()
    offers = Offer.objects.filter(comparison_id__in=ids, state__in=Offer.TAKEN)
    for comparison_id, teacher_id, slot in offers.values_list("comparison_id", "teacher_id", "slot"):
        if teacher_id == teacher.pk:
            met.add(comparison_id)
        if slot is not None:
            taken[comparison_id].add(slot)
    now = timezone.now()
    return [
        (
            Offer(
                code=uuid4(),
                campaign=campaign,
                comparison_id=verdict.comparison_id,
                teacher=teacher,
                arm=Offer.Arm.DESIGNED,
                slot=next(slot for slot in count(1) if slot not in taken[verdict.comparison_id]),
                b_first=random.Random(f"{teacher.code}/{verdict.comparison_id}").random() < 0.5,
                state=Offer.State.ANSWERED,
                held_at=now,
                held_until=now,
                closed_at=now,
            ),
            verdict,
        )
        for verdict in verdicts
        if verdict.comparison_id not in met
    ]


def shown_choice(outcome: float, *, b_first: bool) -> Label.Choice:
    """The choice as shown that `outcome_of` maps to this outcome."""
    if outcome == 0.5:
        return Label.Choice.TIE
    return Label.Choice.FIRST if (outcome > 0.5) != b_first else Label.Choice.SECOND
