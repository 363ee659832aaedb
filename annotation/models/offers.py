"""Offers and labels: what is put before a teacher, and what came back. The constraints are the contract."""

import uuid
from datetime import datetime

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.campaigns import Campaign, GuidelineVersion
from annotation.models.conversations import Comparison
from annotation.models.people import Membership, Teacher


class Offer(models.Model):
    """A comparison for a teacher, in the order shown."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        HELD = "held", _("Held")
        ANSWERED = "answered", _("Answered")
        SKIPPED = "skipped", _("Skipped")
        LAPSED = "lapsed", _("Lapsed")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    class Arm(models.TextChoices):
        DESIGNED = "designed", _("Designed")
        CONTROL = "control", _("Control")
        GOLD = "gold", _("Gold")
        REPEAT = "repeat", _("Repeat")
        TUTORIAL = "tutorial", _("Tutorial")

    LIVE = (State.QUEUED, State.HELD)
    TAKEN = (State.QUEUED, State.HELD, State.ANSWERED)

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="offers")
    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="offers")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="offers")
    membership = models.ForeignKey(Membership, on_delete=models.SET_NULL, null=True, related_name="+")
    """Whose terms pay for it."""
    arm = models.CharField(max_length=16, choices=Arm, default=Arm.DESIGNED)
    slot = models.PositiveSmallIntegerField(null=True, blank=True)
    """0 is kept for control, 1..overlap_limit are designed; null outside these two arms."""
    b_first = models.BooleanField(default=False)
    """The order shown, drawn by the server: True shows response b first."""
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    rank = models.FloatField(default=0)
    """Order within the teacher's queue, smallest first."""
    cost = models.DecimalField(max_digits=8, decimal_places=4, default=0)
    """Reserved from the campaign's budget while the offer is live."""
    created_at = models.DateTimeField(auto_now_add=True)
    held_at = models.DateTimeField(null=True, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)
    seconds_before = models.FloatField(default=0)
    """Spent on it before it was held: an undo took its answer back, or put it back in favour of the last one."""
    closed_at = models.DateTimeField(null=True, blank=True)
    skip_reason = models.CharField(max_length=500, blank=True)
    replaces = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="replaced_by")
    """The lapsed or withdrawn offer whose place this one took."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "teacher"],
                condition=Q(state__in=("queued", "held", "answered")) & ~Q(arm="repeat"),
                name="offer_one_per_teacher",
            ),
            models.UniqueConstraint(
                fields=["comparison", "teacher"],
                condition=Q(state__in=("queued", "held", "answered"), arm="repeat"),
                name="offer_one_repeat_per_teacher",
            ),
            models.UniqueConstraint(
                fields=["comparison", "slot"],
                condition=Q(state__in=("queued", "held", "answered"), slot__isnull=False),
                name="offer_one_per_slot",
            ),
            models.CheckConstraint(
                # "is not null" said aloud: a check that comes out as unknown passes.
                condition=Q(arm="control", slot=0, slot__isnull=False)
                | Q(arm="designed", slot__gte=1, slot__isnull=False)
                | Q(arm__in=("gold", "repeat", "tutorial"), slot__isnull=True),
                name="offer_slot_by_arm",
            ),
            models.CheckConstraint(
                condition=~Q(state="held") | Q(held_until__isnull=False), name="offer_held_has_an_end"
            ),
            models.UniqueConstraint(
                fields=["campaign", "teacher"], condition=Q(state="held"), name="offer_one_held_per_teacher"
            ),
        ]
        indexes = [
            models.Index(
                fields=["campaign", "teacher", "rank", "id"],
                condition=Q(state__in=("queued", "held")),
                name="offer_queue",
            ),
            models.Index(fields=["held_until"], condition=Q(state="held"), name="offer_ends"),
            models.Index(fields=["teacher", "-closed_at"], name="offer_history"),
            models.Index(fields=["campaign"], condition=Q(state="lapsed", arm="designed"), name="offer_lapsed"),
        ]

    def seconds_until(self, now: datetime) -> float:
        """Before the teacher's eyes so far, by the server's clock."""
        return self.seconds_before + (now - (self.held_at or now)).total_seconds()


class Label(models.Model):
    """One answer. Never overwritten: an edit supersedes, an undo retracts, one current label per offer."""

    class Choice(models.TextChoices):
        FIRST = "first", _("First")
        SECOND = "second", _("Second")
        TIE = "tie", _("Tie")
        BOTH_BAD = "both_bad", _("Both bad")

    class State(models.TextChoices):
        CURRENT = "current", _("Current")
        SUPERSEDED = "superseded", _("Superseded")
        RETRACTED = "retracted", _("Retracted")
        WITHDRAWN = "withdrawn", _("Withdrawn by the teacher")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="labels")
    offer = models.ForeignKey(Offer, on_delete=models.CASCADE, related_name="labels")
    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="labels")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="labels")
    guidelines = models.ForeignKey(GuidelineVersion, on_delete=models.RESTRICT, null=True, related_name="+")
    arm = models.CharField(max_length=16, choices=Offer.Arm)
    b_first = models.BooleanField()
    choice = models.CharField(max_length=16, choices=Choice)
    """As shown. `outcome_of` maps it to the pair."""
    strength = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3)]
    )
    """1 slightly, 2 clearly, 3 much."""
    criteria = models.JSONField(default=dict, blank=True)
    """Criterion -> choice as shown."""
    ranking = models.JSONField(null=True, blank=True)
    """Where the campaign ranks: response ids in tiers, best first, [[id], [id, id], …]."""
    reason = models.TextField(blank=True)
    is_flagged = models.BooleanField(default=False)
    seconds = models.FloatField(default=0)
    """Before the teacher's eyes, in all looks that it took, by the server's clock."""
    state = models.CharField(max_length=16, choices=State, default=State.CURRENT)
    supersedes = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="superseded_by"
    )
    cost = models.DecimalField(max_digits=8, decimal_places=4, default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["offer"], condition=Q(state="current"), name="label_one_current_per_offer"),
            models.CheckConstraint(
                condition=Q(strength__isnull=True) | Q(strength__gte=1, strength__lte=3), name="label_strength"
            ),
        ]
        indexes = [
            models.Index(fields=["campaign", "id"]),
            models.Index(fields=["teacher", "-id"]),
            models.Index(fields=["comparison"]),
        ]

    @property
    def outcome(self) -> float:
        return outcome_of(self.choice, b_first=self.b_first)

    @property
    def verdict(self) -> str:
        return verdict_of(self.choice, b_first=self.b_first)


def outcome_of(choice: str, *, b_first: bool) -> float:
    """The choice as shown, mapped to the pair: 1 if response a was preferred, 0 if b, 1/2 for a tie or both bad."""
    if choice in (Label.Choice.TIE, Label.Choice.BOTH_BAD):
        return 0.5
    if choice not in (Label.Choice.FIRST, Label.Choice.SECOND):
        raise ValueError(f"{choice!r} is no choice: first, second, tie or both_bad.")
    return float((choice == Label.Choice.FIRST) != b_first)


def verdict_of(choice: str, *, b_first: bool) -> str:
    """The choice as shown, in words for the pair: a, b, tie or both_bad."""
    return {1.0: "a", 0.0: "b"}.get(outcome_of(choice, b_first=b_first), choice)
