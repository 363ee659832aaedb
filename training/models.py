"""Frozen label sets, training runs as state machines in rows, and the policies they leave."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from activelearning.models import Estimate
from annotation.models import Campaign


class LabelSet(models.Model):
    """A frozen, content-addressed set of labels: the same labels freeze to the same digest."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="label_sets")
    digest = models.CharField(max_length=64)
    file = models.FileField(upload_to="label_sets/", max_length=255)
    """JSON lines, one label a line, gzip."""
    label_count = models.PositiveIntegerField()
    tombstones = models.JSONField(default=list, blank=True)
    """Ids of labels that their teachers withdrew after the freeze."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["campaign", "digest"], name="label_set_once")]


class Run(models.Model):
    """One training run."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    FINISHED = (State.DONE, State.FAILED, State.CANCELLED)

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="runs")
    label_set = models.ForeignKey(LabelSet, on_delete=models.PROTECT, null=True, blank=True, related_name="runs")
    estimate = models.ForeignKey(Estimate, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    parent = models.ForeignKey("training.Policy", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    """The policy that this one starts from, if any."""
    config = models.JSONField()
    """training.algorithms.config.TrainingConfig as JSON, frozen."""
    method = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    stage = models.CharField(max_length=64, blank=True)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    holder = models.UUIDField(null=True, blank=True)
    heartbeat = models.DateTimeField(null=True, blank=True)
    is_cancel_asked = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    """Why it failed or was refused, in a sentence."""
    log = models.TextField(blank=True)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    trigger = models.CharField(max_length=64, default="by hand")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state"], condition=Q(state__in=("waiting", "running")), name="run_unfinished")]


class RunMetric(models.Model):
    """What a run said at a step."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    values = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["step"]
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="run_metric_once")]


class Policy(models.Model):
    """Weights or a reranker, and the manifest that says what it is."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="policy")
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="policies")
    folder = models.CharField(max_length=255)
    """Below MEDIA_ROOT."""
    manifest = models.JSONField()
    certificate = models.JSONField(default=dict)
    evaluation = models.JSONField(default=dict)
    is_flagged = models.BooleanField(default=False)
    """A teacher whose labels it learned from has withdrawn since."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]


class StartRule(models.Model):
    """When a run starts by itself."""

    class Kind(models.TextChoices):
        LABELS = "labels", _("At a number of labels")
        EVERY = "every", _("Every so many labels")
        LOG_DET = "log_det", _("At an information gain in nats")
        CERTIFICATE = "certificate", _("When the certificate falls to")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="start_rules")
    kind = models.CharField(max_length=16, choices=Kind)
    threshold = models.FloatField()
    config = models.JSONField()
    is_active = models.BooleanField(default=True)
    last_label_count = models.PositiveIntegerField(default=0)
    """The label count at which it last started a run."""
    created_at = models.DateTimeField(auto_now_add=True)
