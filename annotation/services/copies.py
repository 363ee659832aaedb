"""A campaign copied: its settings and guidelines, and where asked its conversations."""

from collections.abc import Iterator

from django.db import transaction
from django.db.models import F

from annotation.models import Campaign, Comparison, Conversation, GuidelineVersion, Response, Role, User
from annotation.services.audit import record_audit
from annotation.services.campaigns import COPIED
from annotation.services.ordering import add_in_order

CHUNK = 500


def clone_campaign(*, campaign: Campaign, user: User, name: str, with_conversations: bool = False) -> Campaign:
    """A new draft with the same settings, pools and latest guidelines; never labels, offers, people's roles or money.

    Conversations are copied in chunks, so that a large campaign does not lie in memory.
    """
    with transaction.atomic():
        clone = Campaign.objects.create(
            name=name, created_by=user, **{field: getattr(campaign, field) for field in COPIED}
        )
        clone.pools.set(campaign.pools.all())
        Role.objects.create(campaign=clone, user=user, name=Role.Name.ADMIN)
        if latest := campaign.guidelines.first():
            GuidelineVersion.objects.create(campaign=clone, version=1, text=latest.text)
        record_audit(user=user, verb="clone", object=name, campaign=clone, details={"from": str(campaign.code)})
    if with_conversations:
        for conversations in _chunks(campaign):
            _copy(conversations, clone)
    clone.refresh_from_db()
    return clone


def _chunks(campaign: Campaign) -> Iterator[list[Conversation]]:
    """By key, not by offset."""
    last = 0
    while chunk := list(Conversation.objects.filter(campaign=campaign, pk__gt=last).order_by("pk")[:CHUNK]):
        last = chunk[-1].pk  # before the copy gives the rows new keys
        yield chunk


@transaction.atomic
def _copy(conversations: list[Conversation], clone: Campaign) -> None:
    """Conversations, responses and comparisons; responses keep their order, so that a stays before b."""
    add_in_order(clone.pk)
    ids = [conversation.pk for conversation in conversations]
    responses = list(Response.objects.filter(conversation__in=ids).order_by("pk"))
    response_ids = [response.pk for response in responses]
    comparisons = list(Comparison.objects.filter(conversation__in=ids).order_by("pk"))
    for conversation in conversations:
        conversation.pk, conversation.campaign = None, clone
    new_conversations = dict(zip(ids, Conversation.objects.bulk_create(conversations), strict=True))
    for response in responses:
        response.pk, response.conversation = None, new_conversations[response.conversation_id]
    new_responses = dict(zip(response_ids, Response.objects.bulk_create(responses), strict=True))
    for comparison in comparisons:
        comparison.conversation = new_conversations[comparison.conversation_id]
        comparison.a, comparison.b = new_responses[comparison.a_id], new_responses[comparison.b_id]
        comparison.pk, comparison.campaign = None, clone
    Comparison.objects.bulk_create(comparisons)
    Campaign.objects.filter(pk=clone.pk).update(
        conversation_count=F("conversation_count") + len(conversations),
        comparison_count=F("comparison_count") + len(comparisons),
    )
