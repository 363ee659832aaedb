"""What of the labels a reward learns from, and how much each implied comparison counts: for pages, exports and fits."""

from annotation.models import Offer

LEARNED_ARMS = (Offer.Arm.DESIGNED, Offer.Arm.CONTROL, Offer.Arm.GOLD)
"""Arms that a reward is fitted on; repeats are for measuring consistency."""


def ranking_weight(responses: int) -> float:
    """Of each of the N(N-1)/2 comparisons that a ranking of N implies: 2/N, since it is one act."""
    return 2.0 / responses
