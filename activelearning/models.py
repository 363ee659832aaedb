"""Features, estimates, plans, and why each offer was made."""

import uuid

from django.db import models

from annotation.models import Campaign, Comparison, Label, Offer, Teacher


class PlanLease(models.Model):
    """One planner per campaign at a time: whoever moved `until` forward by conditional UPDATE."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="plan_lease")
    holder = models.UUIDField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)


class Embedding(models.Model):
    """A shard of frozen features: one float32 row per response, in the order of `response_ids`, kept in storage.

    Never recomputed for an unchanged text: a response is immutable, so its id is its text.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="embeddings")
    encoder = models.CharField(max_length=200)
    file = models.FileField(upload_to="features/", max_length=255)
    """npz with `response_ids` (r,) int64 and `features` (r, d) float32."""
    rows = models.PositiveIntegerField()
    dimensions = models.PositiveIntegerField()
    last_response = models.BigIntegerField()
    """The largest response id inside: shards are made in order, so a resumed run begins after it."""
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["last_response"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "encoder", "last_response"], name="embedding_shard_once")
        ]


class Projection(models.Model):
    """PCA of the pool: from the encoder's dimensions to the campaign's."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="projections")
    encoder = models.CharField(max_length=200)
    dimensions = models.PositiveIntegerField()
    kept_variance = models.FloatField()
    file = models.FileField(upload_to="projections/", max_length=255)
    rows = models.PositiveIntegerField()
    """How many comparisons it was fitted on."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]


class Estimate(models.Model):
    """Reward and rationalities at a point in time. Arrays lie in `arrays`, an npz in storage."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="estimates")
    projection = models.ForeignKey(Projection, on_delete=models.PROTECT, related_name="estimates")
    label_version = models.PositiveBigIntegerField()
    """The campaign's label_version that it saw."""
    label_count = models.PositiveIntegerField()
    """Labels in the fit: current, of the designed, control and gold arms, not held out."""
    last_label = models.BigIntegerField(default=0)
    arrays = models.FileField(upload_to="estimates/", max_length=255)
    """npz: theta (d,), information (d, d), rationality (k, c) and its errors, bias (k,), teacher ids, categories."""
    ridge = models.FloatField()
    log_det = models.FloatField()
    """log det of the earned information, relative to ridge I, in nats."""
    certificate = models.FloatField(null=True, blank=True)
    """g / d (Kiefer-Wolfowitz): 1 is the limit."""
    worst_error = models.FloatField(null=True, blank=True)
    """Largest standard error of a reward difference over the pool."""
    smallest_eigenvalue = models.FloatField()
    cost = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    seconds = models.FloatField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        get_latest_by = "id"
        indexes = [models.Index(fields=["campaign", "-id"])]


class TeacherRationality(models.Model):
    """One teacher in one category, as the latest estimate has it: rows for the pages."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="rationalities")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="rationalities")
    category = models.CharField(max_length=64, blank=True)
    value = models.FloatField()
    error = models.FloatField()
    bias = models.FloatField(default=0)
    bias_error = models.FloatField(default=0)
    label_count = models.PositiveIntegerField(default=0)
    estimate = models.ForeignKey(Estimate, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "teacher", "category"], name="teacher_rationality_once")
        ]


class Plan(models.Model):
    """What a selection chose, from what, with which seed: enough to replay it."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="plans")
    estimate = models.ForeignKey(Estimate, on_delete=models.CASCADE, related_name="plans")
    strategy = models.CharField(max_length=32)
    seed = models.PositiveBigIntegerField()
    inputs = models.FileField(upload_to="plans/", max_length=255, blank=True)
    """npz of the eligible ids, capacities, costs, rooms, judged pairs and in-flight information."""
    offered = models.PositiveIntegerField(default=0)
    withdrawn = models.PositiveIntegerField(default=0)
    candidates = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"])]


class OfferReason(models.Model):
    """Why this comparison, why this teacher."""

    offer = models.OneToOneField(Offer, on_delete=models.CASCADE, related_name="why")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="reasons")
    estimate = models.ForeignKey(Estimate, on_delete=models.CASCADE, related_name="+")
    gain = models.FloatField()
    """nats (M8)"""
    propensity = models.FloatField()
    uncertainty = models.FloatField()
    """q = z' H^-1 z"""
    gap = models.FloatField()
    """|theta_hat' z|"""
    rationality = models.FloatField()
    weight = models.FloatField()
    """w (M6)"""
    runners_up = models.JSONField(default=list, blank=True)
    """[{"teacher": pseudonym, "gain": nats}, …] and [{"comparison": id, "gain": nats}, …]"""


class ControlScore(models.Model):
    """A control label, scored by the estimate that preceded it: predict, then learn."""

    label = models.OneToOneField(Label, on_delete=models.CASCADE, related_name="control_score")
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="control_scores")
    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="+")
    estimate = models.ForeignKey(Estimate, on_delete=models.SET_NULL, null=True, related_name="+")
    label_count = models.PositiveIntegerField()
    """Labels in the estimate that predicted."""
    probability = models.FloatField()
    """Of the label's being 1 (response a), for this teacher."""
    outcome = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "id"])]
