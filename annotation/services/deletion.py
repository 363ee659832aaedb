"""A campaign deleted, with everything that hangs on it; what that is can be seen before."""

from django.apps import apps
from django.db import models, transaction
from django.utils.translation import gettext as _

from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    Label,
    Offer,
    RecordedJudgement,
    Response,
    User,
)
from annotation.services.audit import record_audit
from annotation.services.payouts import is_owing
from annotation.services.refusals import Refusal

CHUNK = 2000


def preview_deletion(campaign: Campaign) -> list[tuple[str, int]]:
    """What a deletion removes: (kind, count) for every table that hangs on the campaign, of every room; none empty.

    Ledger and audit entries stay, and lose their campaign.
    """
    counts = [
        ("responses", Response.objects.filter(conversation__campaign=campaign).count()),
        ("recorded judgements", RecordedJudgement.objects.filter(comparison__campaign=campaign).count()),
    ]
    for relation in Campaign._meta.related_objects:
        if relation.on_delete is models.SET_NULL or relation.many_to_many:
            continue
        model = apps.get_model(relation.related_model._meta.label)
        counts.append(
            (
                str(model._meta.verbose_name_plural),
                model._default_manager.filter(**{relation.field.name: campaign}).count(),
            )
        )
    return sorted((kind, count) for kind, count in counts if count)


def delete_campaign(*, campaign: Campaign, user: User | None, confirmed_name: str) -> None:
    """Gone for good. The name is asked for, and the campaign must be archived or a draft, so that nobody is at work.
    What teachers are owed must be booked as paid, since the pages of pay go too.

    The large tables first, in chunks of short transactions; a crash leaves an archived campaign that can be deleted
    again. Taken out of the archive meanwhile, it keeps what is left. Files go with the rows that name them: see
    annotation/leftovers.py.
    """
    if confirmed_name.strip() != campaign.name:
        raise Refusal(_("Type the campaign's name to delete it."))
    with transaction.atomic():
        _ask_for_rest(campaign)
        _ask_for_even_books(campaign)
    counts = dict(preview_deletion(campaign))
    for rows in (Label, Offer, Comparison, Conversation):
        while ids := list(rows.objects.filter(campaign=campaign).values_list("pk", flat=True)[:CHUNK]):
            with transaction.atomic():
                rows.objects.filter(pk__in=ids).delete()
                _ask_for_rest(campaign)  # last, as offers are locked before campaigns everywhere
    with transaction.atomic():
        _ask_for_rest(campaign)
        _ask_for_even_books(campaign)
        record_audit(user=user, verb="delete campaign", object=campaign.name, details={"removed": counts})
        campaign.delete()


def _ask_for_rest(campaign: Campaign) -> None:
    """Nobody opens it until the transaction ends. raises  Refusal"""
    at_rest = Campaign.objects.filter(pk=campaign.pk, state__in=(Campaign.State.ARCHIVED, Campaign.State.DRAFT))
    if not at_rest.select_for_update(no_key=True).exists():
        raise Refusal(_("Archive the campaign before you delete it."))


def _ask_for_even_books(campaign: Campaign) -> None:
    if is_owing(campaign):
        raise Refusal(_("Teachers are still owed pay. Book it as paid on the campaign's page of pay first."))
