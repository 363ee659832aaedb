"""Judgements of one judge on their way to labels: asked for by a page, done by a worker, followed on the page."""

from datetime import timedelta

from django.db import OperationalError
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from annotation.models import Adoption, Campaign, ImportJob, User
from annotation.services.judgements import judgements_to_labels, teacher_of_judge
from annotation.services.refusals import CampaignNotOpen, Refusal

State = ImportJob.State
STALE_AFTER = timedelta(seconds=60)
"""One that was silent for so long has lost its worker."""


class TakenOver(Exception):
    """Another worker carried it on."""


def ask_for_adoption(*, campaign: Campaign, judge: str, user: User | None) -> Adoption:
    """The one that is on its way, or a new one; the caller sends it. Raises CampaignNotOpen for a closed campaign."""
    if campaign.state in (Campaign.State.CLOSED, Campaign.State.ARCHIVED):
        raise CampaignNotOpen
    return Adoption.objects.get_or_create(
        campaign=campaign, judge=judge, state__in=(State.WAITING, State.RUNNING), defaults={"created_by": user}
    )[0]


def adoptions_to_run() -> list[int]:
    return list(_free().order_by("id").values_list("id", flat=True))


def _free() -> QuerySet[Adoption]:
    silent = Q(state=State.RUNNING, heartbeat__lt=timezone.now() - STALE_AFTER)
    return Adoption.objects.filter(silent | Q(state=State.WAITING))


def adopt(adoption_id: int) -> None:
    """See one through. Carried on after a killed worker it goes over all again, and adds what is missing.

    The heartbeat is the claim: whoever finds another one there has been taken for dead and stops.
    """
    now = timezone.now()
    if not _free().filter(pk=adoption_id).update(state=State.RUNNING, heartbeat=now):
        return
    adoption = Adoption.objects.select_related("campaign", "created_by").get(pk=adoption_id)

    def note(added: int) -> None:
        nonlocal now
        before, now = now, timezone.now()
        mine = Adoption.objects.filter(pk=adoption_id, heartbeat=before)
        if not mine.update(heartbeat=now, labels_added=F("labels_added") + added):
            raise TakenOver

    try:
        judgements_to_labels(
            campaign=adoption.campaign,
            judge=adoption.judge,
            teacher=teacher_of_judge(adoption.judge),
            user=adoption.created_by,
            on_batch=note,
        )
    except TakenOver:
        return
    except Refusal as refusal:
        _finish(adoption, state=State.FAILED, reason=str(refusal))
    except OperationalError:  # a database that is away: the beat finds it silent
        raise
    except Exception as error:
        _finish(adoption, state=State.FAILED, reason=f"{type(error).__name__}: {error}")
        raise
    else:
        _finish(adoption, state=State.DONE, reason="")


def _finish(adoption: Adoption, *, state: ImportJob.State, reason: str) -> None:
    Adoption.objects.filter(pk=adoption.pk).update(state=state, reason=reason)
