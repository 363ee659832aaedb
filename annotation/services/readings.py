"""A page of conversations for the staff: what of each is compared, labelled, taken out or gold, in few statements."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Q

from annotation.models import Comparison, Conversation, Label


@dataclass(frozen=True)
class Reading:
    """A conversation, the beginning of what was last said, and counts of its comparisons."""

    conversation: Conversation
    excerpt: str
    comparisons: int = 0
    inactive: int = 0
    golds: int = 0

    @property
    def is_out(self) -> bool:
        return bool(self.comparisons) and self.inactive == self.comparisons


def read_conversations(conversations: Sequence[Conversation]) -> list[Reading]:
    """One statement for the counts of all of these."""
    counts = {
        row[0]: row[1:]
        for row in Comparison.objects.filter(conversation__in=conversations)
        .values_list("conversation")
        .annotate(
            comparisons=Count("id"),
            inactive=Count("id", filter=Q(is_active=False)),
            golds=Count("id", filter=Q(gold_outcome__isnull=False)),
        )
        .order_by()
    }
    return [Reading(one, excerpt_of(one), *counts.get(one.pk, (0, 0, 0))) for one in conversations]


def excerpt_of(conversation: Conversation, *, characters: int = 160) -> str:
    last = conversation.messages[-1] if conversation.messages else {}
    text = " ".join(str(last.get("content", ""))[: 4 * characters].split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def count_labels(comparisons: Sequence[Comparison]) -> dict[int, int]:
    """Comparison -> its current labels."""
    found = Label.objects.filter(comparison__in=comparisons, state=Label.State.CURRENT)
    return dict(found.values_list("comparison").annotate(count=Count("id")).order_by())
