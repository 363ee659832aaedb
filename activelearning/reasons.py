"""Why each offer was made, and what became of a comparison: rows for the pages."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet

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
