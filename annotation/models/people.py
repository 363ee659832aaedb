"""Users, the teachers among them, and the pools that teachers belong to."""

import secrets
import uuid
from datetime import date
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


def counted_on(row: "Membership | Enrolment", day: date) -> int:
    """Labels that the row counts on that day: none where it speaks of an earlier one.

    It may speak of a later one: whoever went west is a day behind it, and the day is not counted anew.
    """
    return row.day_count if row.day is not None and row.day >= day else 0


class User(AbstractUser):
    """Somebody who signs in. Whether they teach, administer or research is said by Teacher and Role rows."""

    time_zone = models.CharField(max_length=64, default="UTC")
    preferences = models.JSONField(default=dict, blank=True)
    """The user's own settings of the pages: theme, shortcuts, hidden warnings."""


def make_pseudonym() -> str:
    return f"teacher-{secrets.token_hex(4)}"


class Teacher(models.Model):
    """A person (or a simulated or model teacher), once. Exports know the pseudonym only."""

    class Kind(models.TextChoices):
        HUMAN = "human", _("Human")
        SIMULATED = "simulated", _("Simulated")
        RECORDED = "recorded", _("Recorded judge")
        MODEL = "model", _("Model")

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.OneToOneField(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="teacher")
    pseudonym = models.CharField(max_length=64, unique=True, default=make_pseudonym)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.HUMAN)
    last_seen = models.DateTimeField(null=True, blank=True)
    """The heartbeat: written by the desk, at most once in half a minute."""
    away_until = models.DateTimeField(null=True, blank=True)
    """Time off: no offers until then."""
    working_hours = models.JSONField(default=list, blank=True)
    """[[weekday, "09:00", "17:00"], …] in the user's time zone; empty means always."""
    declined_warnings = models.JSONField(default=list, blank=True)
    """Content warnings (category names) that the teacher opted out of."""
    languages = models.JSONField(default=list, blank=True)
    """Codes of the languages that the teacher reads; empty means all that the pool asks for."""
    endpoint = models.JSONField(default=dict, blank=True)
    """For a model teacher: base_url, model, key_name (of a MODEL_KEY_…), rate_per_minute, timeout_seconds."""
    busy_until = models.DateTimeField(null=True, blank=True)
    """For a model teacher: until when a worker has it to itself."""
    external = models.JSONField(default=dict, blank=True)
    """For a panel's teacher: panel, participant, study and session identifiers."""
    news_origin = models.CharField(max_length=200, blank=True)
    """The site's address, as the teacher knows it, for letters that tell of work; empty where they want none."""
    waiting_since = models.DateTimeField(null=True, blank=True)
    """Since when nothing could be offered to somebody who wants to be told; null while there is work."""
    told_at = models.DateTimeField(null=True, blank=True)
    """When the last letter was written that told of work."""
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawal = models.CharField(max_length=16, blank=True)
    """What is to become of the labels, remove or anonymise, while a withdrawal is under way; empty when it is done."""

    class Meta:
        indexes = [models.Index(fields=["last_seen"])]

    def __str__(self) -> str:
        return self.pseudonym


class Pool(models.Model):
    """People who share terms."""

    name = models.CharField(max_length=120, unique=True)
    pay_per_label = models.DecimalField(max_digits=8, decimal_places=4, default=0, validators=[MinValueValidator(0)])
    pay_per_hour = models.DecimalField(max_digits=8, decimal_places=2, default=0, validators=[MinValueValidator(0)])
    currency = models.CharField(max_length=3, default="EUR")
    daily_limit = models.PositiveIntegerField(null=True, blank=True)
    """Labels a teacher may give in a day; null is no limit."""
    languages = models.JSONField(default=list, blank=True)
    categories = models.JSONField(default=list, blank=True)
    """Categories that its teachers take; empty means all."""
    terms = models.TextField(blank=True)
    terms_version = models.PositiveIntegerField(default=1)
    completion_url = models.URLField(blank=True)
    """Where an external panel wants its participant sent at the end."""
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(pay_per_label__gte=0) & Q(pay_per_hour__gte=0), name="pool_pay_not_negative"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A teacher in a pool: what a label costs, how long the queue may be, and whether they may work."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        SUSPENDED = "suspended", _("Suspended")
        DEPARTED = "departed", _("Departed")

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="memberships")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="memberships")
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    cost_per_label = models.DecimalField(
        max_digits=8, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    """What a label of this teacher costs, if other than the pool's pay."""
    capacity = models.PositiveIntegerField(null=True, blank=True)
    """Labels in all that this teacher gives; null is no limit."""
    label_count = models.PositiveIntegerField(default=0)
    """Labels given under these terms, in every campaign of the pool."""
    day = models.DateField(null=True, blank=True)
    """The day that `day_count` speaks of, in the teacher's time zone: for the pool's daily limit."""
    day_count = models.PositiveIntegerField(default=0)
    categories = models.JSONField(default=list, blank=True)
    """Categories this teacher takes; empty means the pool's."""
    rationality = models.JSONField(default=dict, blank=True)
    """Known rationality by category ("" is the default for all): an input where the campaign does not estimate it."""
    accepted_terms = models.PositiveIntegerField(default=0)
    """The version of the pool's terms that the teacher consented to; 0 is none."""
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pool", "teacher"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(cost_per_label__isnull=True) | Q(cost_per_label__gte=0), name="membership_cost_not_negative"
            ),
        ]

    @property
    def own_pay(self) -> str:
        """As a form says it; empty where the pool's pay holds."""
        return "" if self.cost_per_label is None else f"{self.cost_per_label:.4f}"


class Enrolment(models.Model):
    """A teacher's way through one campaign: guidelines read, qualification, counters kept and not counted."""

    class Stage(models.TextChoices):
        GUIDELINES = "guidelines", _("Reading the guidelines")
        TUTORIAL = "tutorial", _("Tutorial")
        QUALIFICATION = "qualification", _("Qualification")
        WORKING = "working", _("Working")
        FAILED = "failed", _("Not qualified")

    campaign = models.ForeignKey("annotation.Campaign", on_delete=models.CASCADE, related_name="enrolments")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="enrolments")
    stage = models.CharField(max_length=16, choices=Stage, default=Stage.GUIDELINES)
    read_version = models.ForeignKey(
        "annotation.GuidelineVersion", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    label_count = models.PositiveIntegerField(default=0)
    skip_count = models.PositiveIntegerField(default=0)
    working_since = models.DateTimeField(null=True, blank=True)
    """When the stage became working: what was answered before may not be taken back."""
    earned = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    day = models.DateField(null=True, blank=True)
    """The day that `day_count` speaks of, in the teacher's time zone."""
    day_count = models.PositiveIntegerField(default=0)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "teacher"], name="enrolment_once")]

    @property
    def is_learning(self) -> bool:
        return self.stage in (self.Stage.TUTORIAL, self.Stage.QUALIFICATION)

    def count_label(self, price: Decimal, *, day: date) -> None:
        """Keep this copy in step with the row, which the service counts on by itself."""
        self.day_count, self.day = counted_on(self, day) + 1, max(day, self.day or day)
        self.label_count, self.earned = self.label_count + 1, self.earned + price

    @property
    def is_shut(self) -> bool:
        """No offers: the guidelines are unread, or the qualification failed."""
        return self.stage in (self.Stage.GUIDELINES, self.Stage.FAILED)


def make_token() -> str:
    return secrets.token_urlsafe(24)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def usable(self) -> "InvitationQuerySet":
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), uses_left__gt=0)


class Invitation(models.Model):
    """A link that makes whoever follows it a teacher of a pool, or gives a role in a campaign."""

    token = models.CharField(max_length=64, unique=True, default=make_token)
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, null=True, blank=True, related_name="invitations")
    campaign = models.ForeignKey(
        "annotation.Campaign", on_delete=models.CASCADE, null=True, blank=True, related_name="invitations"
    )
    role = models.CharField(max_length=16, default="teacher")
    email = models.EmailField(blank=True)
    uses_left = models.PositiveIntegerField(default=1)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(pool__isnull=False) | Q(campaign__isnull=False), name="invitation_leads_somewhere"
            )
        ]


class InvitationLetter(models.Model):
    """The e-mail that carries an invitation: tried until the mail server takes it, or given up with a reason."""

    class State(models.TextChoices):
        WAITING = "waiting", _("On its way")
        SENT = "sent", _("Sent")
        GIVEN_UP = "given_up", _("Not sent")

    invitation = models.OneToOneField(Invitation, on_delete=models.CASCADE, related_name="letter")
    origin = models.CharField(max_length=200)
    """The site's address, as whoever invited knows it, for the link."""
    language = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=300, blank=True)
    """What the mail server, or the way to it, said last."""
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["next_attempt_at"], condition=Q(state="waiting"), name="invitation_letter_due")]


def known_rationality(membership: Membership, category: str) -> float:
    """The stated rationality of a member in a category: 1 where nobody said."""
    stated: dict[str, Any] = membership.rationality
    return float(stated.get(category, stated.get("", 1.0)))
