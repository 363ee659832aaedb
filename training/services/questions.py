"""Asking the reward about a text: the row that the page leaves and the worker answers."""

from django.utils.translation import gettext as _

from activelearning.models import Estimate
from annotation.models import Campaign, User
from annotation.services.refusals import Refusal
from training.models import RewardQuestion

MOST_CHARACTERS = 20_000
MOST_RESPONSES = 6


class CannotAsk(Refusal):
    """There is no estimate, or nothing to compare."""


def ask_reward(*, campaign: Campaign, prompt: str, responses: list[str], user: User | None = None) -> RewardQuestion:
    """A waiting question; the caller enqueues it. raises CannotAsk"""
    texts = [text for text in responses if text.strip()]
    if not prompt.strip() or len(texts) < 2:
        raise CannotAsk(
            _("Give a prompt and at least two responses: only differences can be learned from comparisons.")
        )
    if len(texts) > MOST_RESPONSES or max(map(len, [prompt, *texts])) > MOST_CHARACTERS:
        raise CannotAsk(
            _("Give at most %(responses)d responses of at most %(characters)d characters.")
            % {"responses": MOST_RESPONSES, "characters": MOST_CHARACTERS}
        )
    if not Estimate.objects.filter(campaign=campaign).exists():
        raise CannotAsk(_("There is no estimate yet. It comes with the first labels."))
    return RewardQuestion.objects.create(campaign=campaign, prompt=prompt, responses=texts, asked_by=user)
