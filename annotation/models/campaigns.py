"""Campaigns: what is asked, of whom, how, and who may see it."""

import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Round
from django.utils.translation import gettext_lazy as _


class Campaign(models.Model):
    """Conversations, guidelines and the settings of choosing and estimating."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        OPEN = "open", _("Open")
        PAUSED = "paused", _("Paused")
        CLOSED = "closed", _("Closed")
        ARCHIVED = "archived", _("Archived")

    class AnswerMode(models.TextChoices):
        PAIR = "pair", _("Compare two responses")
        RANKING = "ranking", _("Rank all responses of a conversation")

    class LatePolicy(models.TextChoices):
        ACCEPT = "accept", _("Accept while nobody else took the slot")
        REFUSE = "refuse", _("Refuse, and say so")

    class RationalityMode(models.TextChoices):
        KNOWN = "known", _("As stated by the admin")
        ESTIMATED = "estimated", _("Estimated from the labels")

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.DRAFT)
    pools = models.ManyToManyField("annotation.Pool", related_name="campaigns", blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # The question
    answer_mode = models.CharField(max_length=16, choices=AnswerMode, default=AnswerMode.PAIR)
    asks_strength = models.BooleanField(default=True)
    criteria = models.JSONField(default=list, blank=True)
    """Names of criteria asked beside the overall choice, such as helpful, harmless, honest."""
    content_warnings = models.JSONField(default=dict, blank=True)
    """Category -> warning shown before its conversations."""

    # Choosing
    encoder = models.CharField(max_length=200, default="default")
    """`default` (the MiniLM that comes with the platform), a hub id, or a folder below MODEL_FOLDER."""
    dimensions = models.PositiveIntegerField(default=32, validators=[MinValueValidator(1), MaxValueValidator(4096)])
    strategy = models.CharField(max_length=32, default="dual")
    rationality_mode = models.CharField(max_length=16, choices=RationalityMode, default=RationalityMode.ESTIMATED)
    control_share = models.FloatField(default=0.10, validators=[MinValueValidator(0), MaxValueValidator(1)])
    repeat_share = models.FloatField(default=0.0, validators=[MinValueValidator(0), MaxValueValidator(0.5)])
    gold_share = models.FloatField(default=0.0, validators=[MinValueValidator(0), MaxValueValidator(0.5)])
    qualification_size = models.PositiveIntegerField(default=0)
    """Gold comparisons that a new teacher answers before working; 0 asks for no qualification."""
    qualification_pass = models.FloatField(default=0.7, validators=[MinValueValidator(0), MaxValueValidator(1)])
    """Share of them that must be right."""
    holdout_share = models.FloatField(default=0.10, validators=[MinValueValidator(0), MaxValueValidator(0.9)])
    overlap_limit = models.PositiveIntegerField(default=3, validators=[MinValueValidator(1)])
    """Designed judgements of one comparison by different teachers; slot 0 beside them is kept for control."""
    queue_depth = models.PositiveIntegerField(default=4, validators=[MinValueValidator(1), MaxValueValidator(50)])
    ridge = models.FloatField(null=True, blank=True, validators=[MinValueValidator(1e-6)])
    """Null: 1, and d / (||theta||^2 + tr H^-1) once there is an estimate, bounded to [0.1, 10]."""
    seed = models.PositiveIntegerField(default=1)

    # Time and money
    lease_seconds = models.PositiveIntegerField(default=900, validators=[MinValueValidator(5)])
    late_policy = models.CharField(max_length=16, choices=LatePolicy, default=LatePolicy.ACCEPT)
    label_target = models.PositiveIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="EUR")
    """Of budget, promises and spending; every pool that the campaign draws on pays in it."""
    budget = models.DecimalField(max_digits=12, decimal_places=4, null=True, blank=True)
    reserved = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    """Money promised to live offers."""
    spent = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    """Money owed or paid for labels."""

    # Review
    reviews_disagreements = models.BooleanField(default=False)
    """Comparisons whose current labels disagree wait for a reviewer."""
    reviews_flags = models.BooleanField(default=False)
    """So do those that a teacher flagged."""
    reviews_due_at = models.DateTimeField(null=True, blank=True)
    """When the labels that are there are to be looked through for them; null once they were."""

    # Counters kept, not counted
    conversation_count = models.PositiveIntegerField(default=0)
    comparison_count = models.PositiveIntegerField(default=0)
    label_count = models.PositiveIntegerField(default=0)
    """Current labels of every arm."""
    label_version = models.PositiveBigIntegerField(default=0)
    """Grows with every label, edit and undo, and with whatever else a fit depends on, such as a member's stated
    rationality: an estimate older than this is stale."""

    class Meta:
        constraints = [
            models.CheckConstraint(
                # Rounded: SQLite adds decimals as floats, and 0.1 + 0.2 must fit into 0.3.
                condition=Q(budget__isnull=True) | Q(budget__gte=Round(F("reserved") + F("spent"), precision=4)),
                name="campaign_within_budget",
            ),
            models.CheckConstraint(condition=Q(reserved__gte=0) & Q(spent__gte=0), name="campaign_money_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        return self.state == self.State.OPEN

    @property
    def has_reviews(self) -> bool:
        return self.reviews_disagreements or self.reviews_flags


class GuidelineVersion(models.Model):
    """What teachers are told. Never edited: a change is a new version, and each label knows the one it was under."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="guidelines")
    version = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["campaign", "version"], name="guideline_version_once")]


class Role(models.Model):
    """What a user may do in a campaign, besides teaching."""

    class Name(models.TextChoices):
        ADMIN = "admin", _("Admin")
        RESEARCHER = "researcher", _("Researcher")
        REVIEWER = "reviewer", _("Reviewer")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="roles")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="roles")
    name = models.CharField(max_length=16, choices=Name)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "user", "name"], name="role_once")]
