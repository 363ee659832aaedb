"""A ranking of all responses of a conversation, read as a choice between the two of an offer."""

from annotation.models import Label, Offer, Response
from annotation.services.refusals import InvalidAnswer


def choice_from_ranking(offer: Offer, ranking: list[list[int]]) -> Label.Choice:
    """The choice, as shown, that the tiers (best first) imply for the offer's pair.

    Raises InvalidAnswer where the tiers do not hold every response of the conversation exactly once.
    """
    tiers = {response: tier for tier, responses in enumerate(ranking) for response in responses}
    comparison = offer.comparison
    asked = set(Response.objects.filter(conversation=comparison.conversation_id).values_list("pk", flat=True))
    if set(tiers) != asked or sum(len(responses) for responses in ranking) != len(asked) or not all(ranking):
        raise InvalidAnswer
    first, second = (comparison.b_id, comparison.a_id) if offer.b_first else (comparison.a_id, comparison.b_id)
    if tiers[first] == tiers[second]:
        return Label.Choice.TIE
    return Label.Choice.FIRST if tiers[first] < tiers[second] else Label.Choice.SECOND
