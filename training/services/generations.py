"""The closed loop: a policy's responses enter the pool as comparisons, and its rounds stay visible."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils.translation import gettext as _

from annotation.formats.types import Message, ParsedResponse
from annotation.models import Campaign, Comparison, Conversation, Response, User
from annotation.services.ordering import add_in_order
from annotation.services.refusals import Refusal
from training.models import Generation, Policy

MOST_SAMPLES = 8


class CannotGenerate(Refusal):
    """The policy has no model, or the campaign no prompts."""


def start_generation(
    *, policy: Policy, prompts: int, samples: int, seed: int = 0, user: User | None = None
) -> Generation:
    """A waiting generation; the caller enqueues it. raises CannotGenerate"""
    if not policy.is_generative:
        raise CannotGenerate(_("This policy chooses among given responses: it cannot write new ones."))
    if not 1 <= samples <= MOST_SAMPLES or prompts < 1:
        raise CannotGenerate(
            _("Ask for at least one prompt, and for 1 to %(most)d responses to each.") % {"most": MOST_SAMPLES}
        )
    if not Conversation.objects.filter(campaign=policy.campaign).exists():
        raise CannotGenerate(_("The campaign has no prompts. Import conversations first."))
    return Generation.objects.create(policy=policy, prompts=prompts, samples=samples, seed=seed, started_by=user)


def author_of(policy: Policy) -> str:
    """What stands as a response's author: kept from teachers, known to exports and to the lineage."""
    return f"policy {policy.code}"


def prompts_to_ask(generation: Generation) -> list[int]:
    """Ids of the conversations that a generation has yet to ask the policy, fewest responses of any policy first.

    Asked for once, not before each handful: where the policy writes nothing, or what is there already, no response is
    added, and the same conversations would come first again. Those that this policy has answered are left out, and held
    out ones: a policy must not grow the ground it is judged on.
    """
    campaign, author = generation.policy.campaign, author_of(generation.policy)
    rows = (
        Conversation.objects.filter(campaign=campaign, is_held_out=False)
        .annotate(written=Count("responses", filter=Q(responses__origin=Response.Origin.POLICY)))
        .exclude(responses__author=author)
    )
    return list(rows.order_by("written", "id").values_list("id", flat=True)[: generation.prompts - generation.step])


@transaction.atomic
def add_responses(*, policy: Policy, texts: Mapping[int, Sequence[str]], seed: int = 0) -> tuple[int, int]:
    """Enter what a policy wrote to each conversation (by id). Returns how many responses and comparisons were new.

    Each new response is compared with the other new ones and with one that was there before, drawn by the seed. An
    empty text, or one that the conversation already has word for word, adds nothing.
    """
    add_in_order(policy.campaign_id)
    responses_added, made = 0, []
    for pk, written in texts.items():
        conversation = Conversation.objects.get(pk=pk, campaign=policy.campaign)
        before = list(Response.objects.filter(conversation=conversation).order_by("id"))
        fresh = _new_responses(conversation, before, written, author=author_of(policy))
        Response.objects.bulk_create(fresh, ignore_conflicts=True)
        digests = [one.digest for one in fresh]
        ids = list(Response.objects.filter(conversation=conversation, digest__in=digests).values_list("id", flat=True))
        responses_added += len(ids)
        pairs = list(combinations(sorted(ids), 2))
        if before:
            drawn = Random(f"{seed}-{pk}")
            pairs += [(drawn.choice(before).pk, one) for one in ids]  # what was there before has the smaller id
        made += [
            Comparison(
                campaign=policy.campaign,
                conversation=conversation,
                a_id=a,
                b_id=b,
                category=conversation.category,
                is_held_out=conversation.is_held_out,
            )
            for a, b in pairs
        ]
    Comparison.objects.bulk_create(made, ignore_conflicts=True)
    Campaign.objects.filter(pk=policy.campaign.pk).update(comparison_count=F("comparison_count") + len(made))
    return responses_added, len(made)


def _new_responses(
    conversation: Conversation, before: Sequence[Response], written: Sequence[str], *, author: str
) -> list[Response]:
    known = {response.digest for response in before}
    fresh: dict[str, Response] = {}
    for text in written:
        digest = ParsedResponse(messages=(Message(role="assistant", content=text),)).digest
        if text.strip() and digest not in known:
            fresh[digest] = Response(
                conversation=conversation,
                digest=digest,
                messages=[{"role": "assistant", "content": text}],
                origin=Response.Origin.POLICY,
                author=author,
            )
    return list(fresh.values())
