"""Reviews: comparisons that a campaign wants looked at again, and what its reviewers decided about them."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.campaigns import Campaign
from annotation.models.conversations import Comparison


class Review(models.Model):
    """A comparison that came into the queue, and why. It leaves the queue when the reason is gone or it is decided."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="reviews")
    comparison = models.OneToOneField(Comparison, on_delete=models.CASCADE, related_name="review")
    disagrees = models.BooleanField(default=False)
    """Current labels of two teachers prefer different sides."""
    is_flagged = models.BooleanField(default=False)
    is_waiting = models.BooleanField(default=True)
    """One of the reasons holds, and nobody has decided."""
    held_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    """Who has its page open: the others' next one is another."""
    held_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "id"], condition=Q(is_waiting=True), name="review_queue")]


class Adjudication(models.Model):
    """A reviewer's decision about a comparison. Labels stay as they were given; one current decision per comparison."""

    class Verdict(models.TextChoices):
        A = "a", _("A is better")
        B = "b", _("B is better")
        TIE = "tie", _("Tie")
        BOTH_BAD = "both_bad", _("Both bad")
        LEFT = "left", _("No decision")

    class State(models.TextChoices):
        CURRENT = "current", _("Current")
        SUPERSEDED = "superseded", _("Superseded")
        RETRACTED = "retracted", _("Taken back")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="adjudications")
    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="adjudications")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    verdict = models.CharField(max_length=16, choices=Verdict)
    """Of the pair: a is the response with the smaller id, as everywhere."""
    note = models.TextField(blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.CURRENT)
    supersedes = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="superseded_by"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison"], condition=Q(state="current"), name="adjudication_one_current_per_comparison"
            )
        ]
        indexes = [models.Index(fields=["campaign", "-id"], condition=Q(state="current"), name="adjudication_decided")]
