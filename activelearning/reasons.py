"""Why each offer was made, and what became of a comparison: rows for the pages."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from activelearning.models import OfferReason
from annotation.models import Campaign, Label, Offer, Teacher

# One comparison -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One offer of a comparison, its reason, and the answers that were given to it, oldest first."""

    offer: Offer
    why: OfferReason | None
    labels: list[Label]


def read_history(campaign: Campaign, comparison_id: int) -> list[Event]:
    offers = (
        Offer.objects.filter(campaign=campaign, comparison_id=comparison_id)
        .select_related("teacher", "why__plan", "why__estimate")
        .prefetch_related("labels")
        .order_by("id")
    )
    return [
        Event(
            offer=offer,
            why=getattr(offer, "why", None),
            labels=sorted(offer.labels.all(), key=lambda label: label.pk),
        )
        for offer in offers
    ]


# One offer ------------------------------------------------------------------------------------------------------------

OF_STRATEGY: dict[str, Promise] = {
    "dual": _(
        "Among all pairs that could be asked, this one brings the most information for its cost, after everything "
        "already labelled or on its way."
    ),
    "conversation_only": _(
        "Of the comparisons that could be asked, this one tells the most, after everything already labelled or on its "
        "way, if a teacher of rationality 1 answers. The teacher was drawn at random."
    ),
    "teacher_only": _(
        "The comparison was drawn at random. Of the teachers who could be asked about it, this one brings the most "
        "information for the cost."
    ),
    "best_teacher": _(
        "Of the comparisons that could be asked, this one tells the most, after everything already labelled or on its "
        "way, if a teacher of rationality 1 answers. It goes to the most rational teacher who could be asked."
    ),
    "uncertainty": _(
        "Of the comparisons that could be asked, this one has the smallest gap: its answer is the least certain. The "
        "teacher was drawn at random."
    ),
    "apo": _(
        "Of the comparisons that could be asked, this one lies farthest from what was asked before, whatever the gap "
        "and the teacher. The teacher was drawn at random."
    ),
    "delta_ucb": _(
        "The conversation was drawn at random. Of its comparisons, this one has the largest difference in reward that "
        "is still possible. The teacher was drawn at random."
    ),
    "infomax": _(
        "The conversation was drawn at random. Of its comparisons, this one is of the responses whose rewards are "
        "known least. The teacher was drawn at random."
    ),
    "double_thompson": _(
        "The conversation was drawn at random, and two rewards from what is known of the reward: the best response by "
        "the one meets the best other response by the other. The teacher was drawn at random."
    ),
    "drts": _(
        "The conversation was drawn at random, and two rewards from what is known of the reward: the best response by "
        "the one meets the worst by the other. The teacher was drawn at random."
    ),
    "uniform": _(
        "Drawn uniformly among all eligible pairs: that is the campaign's strategy. The figures below had no say in it."
    ),
}


def explain(offer: Offer, why: OfferReason) -> Promise:
    """By which rule this offer was chosen, in a sentence."""
    estimate = why.estimate
    if offer.arm == Offer.Arm.CONTROL:
        return _(
            "Drawn uniformly among all eligible pairs: the control arm, against which the design is measured. The "
            "figures below say what the design thought of it."
        )
    if offer.arm == Offer.Arm.REPEAT:
        return _(
            "Asked of the same person a second time with the order mirrored, drawn uniformly: it measures consistency "
            "and does not enter the estimate."
        )
    if why.gain is None or estimate is None:
        return _("The features were not computed yet: drawn uniformly, so that nobody waits.")
    if why.is_spanning and estimate.label_count >= 2 * estimate.projection.dimensions:
        return _("Chosen to span the features, while the exact choice from so large a pool was still being made ready.")
    if why.is_spanning:
        return _(
            "One of the first labels: they span the features, and go to teachers drawn at random, because an early "
            "estimate is too sure of itself."
        )
    return OF_STRATEGY[why.plan.strategy]


def find_offers(campaign: Campaign, *, arm: str = "", state: str = "", teacher: str = "") -> QuerySet[Offer]:
    """Offers with what their table shows. By the teacher's id: PostgreSQL then begins at the teacher's few."""
    which = Q(campaign=campaign)
    if arm in Offer.Arm.values:
        which &= Q(arm=arm)
    if state in Offer.State.values:
        which &= Q(state=state)
    if teacher:
        which &= Q(teacher__in=list(Teacher.objects.filter(pseudonym=teacher).values_list("pk", flat=True)))
    return Offer.objects.filter(which).select_related("teacher", "comparison", "why")


@dataclass(frozen=True)
class Neighbour:
    """A teacher or comparison that came next, and what it would have brought."""

    teacher: str
    comparison: int | None
    gain: float


def read_runners_up(campaign: Campaign, why: OfferReason | None) -> dict[str, list[Neighbour]]:
    rows = why.runners_up if why is not None else []
    names = dict(Teacher.objects.filter(pk__in=[row.get("teacher") for row in rows]).values_list("pk", "pseudonym"))
    found = [Neighbour(names.get(row.get("teacher"), ""), row.get("comparison"), float(row["gain"])) for row in rows]
    return {
        "teachers": [row for row in found if row.comparison is None],
        "comparisons": [row for row in found if row.comparison is not None],
    }
