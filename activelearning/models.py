"""Features, estimates, plans, and why each offer was made."""

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from annotation.models import Campaign, Comparison, Label, Offer, Teacher


class PlanLease(models.Model):
    """One planner per campaign at a time: whoever moved `until` forward by conditional UPDATE."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="plan_lease")
    holder = models.UUIDField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    asked = models.PositiveBigIntegerField(default=0)
    """Grows with every request: the holder goes on until it has served the last one."""
    finished_at = models.DateTimeField(null=True, blank=True)
    """When a planner last went through to the end, whether or not it found anything to do."""


class EmbeddingProgress(models.Model):
    """How far the encoder got in a campaign; a claim by conditional UPDATE of `heartbeat`."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="embedding_progress")
    encoder = models.CharField(max_length=200, blank=True)
    dimensions = models.PositiveIntegerField(default=0)
    """What the campaign asked for when this was last done."""
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    reason = models.TextField(blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    last_comparison = models.BigIntegerField(default=0)
    """The campaign's newest comparison when this was last done: a newer one asks for more."""
    heartbeat = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "embedding progress"


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
    requested = models.PositiveIntegerField()
    """The dimensions that the campaign asked for; a small pool has fewer to give."""
    dimensions = models.PositiveIntegerField()
    kept_variance = models.FloatField()
    file = models.FileField(upload_to="projections/", max_length=255)
    rows = models.PositiveIntegerField()
    """How many responses it was fitted on."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]


class Estimate(models.Model):
    """Reward and rationalities at a point in time. Arrays lie in `arrays`, an npz in storage."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="estimates")
    projection = models.ForeignKey(Projection, on_delete=models.RESTRICT, related_name="estimates")
    label_version = models.PositiveBigIntegerField()
    """The campaign's label_version that it saw."""
    label_count = models.PositiveIntegerField()
    """Labels in the fit: current, of the designed, control and gold arms, not held out."""
    last_label = models.BigIntegerField(default=0)
    arrays = models.FileField(upload_to="estimates/", max_length=255, blank=True)
    """npz: theta (d,), information (d, d), covariance (d, d), rationality (k, c) and rationality_error (k, c),
    bias (k,) and bias_error (k,), teachers (k,) ids, categories (c,). Empty for most old ones: `pipeline.sweep`."""
    is_joint = models.BooleanField(default=False)
    """Rationality was estimated with the reward, not given."""
    ridge = models.FloatField()
    log_det = models.FloatField()
    """log det (I + sum w z z') of the labels, in nats: against 1, not the ridge, so that estimates compare."""
    certificate = models.FloatField(null=True, blank=True)
    """g / d (Kiefer-Wolfowitz): 1 is the limit."""
    worst_error = models.FloatField(null=True, blank=True)
    """Largest standard error of a reward difference over the pool; null where it was not computed this time."""
    bound = models.FloatField(null=True, blank=True)
    """(M13) of the pessimistic choice among the given responses; null where it was not computed this time."""
    smallest_eigenvalue = models.FloatField()
    """Of H (M4), also where rationality is estimated."""
    saving = models.FloatField(null=True, blank=True)
    """Control labels that one designed label is worth; null where it was not measured this time."""
    saving_low = models.FloatField(null=True, blank=True)
    saving_high = models.FloatField(null=True, blank=True)
    cost = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    seconds = models.FloatField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        get_latest_by = "id"
        indexes = [
            models.Index(fields=["campaign", "-id"]),
            models.Index(fields=["campaign", "id"], condition=~models.Q(arrays=""), name="estimate_with_arrays"),
        ]


class WithdrawalEffect(models.Model):
    """What a campaign's estimate would be without one teacher's labels: worked out before anybody is withdrawn.

    Both fits are made for it, with one ridge, from the labels of one moment; nothing of them is kept but these numbers.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="withdrawal_effects")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="withdrawal_effects")
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    reason = models.TextField(blank=True)
    label_version = models.PositiveBigIntegerField()
    """The campaign's label_version when it was asked for: another one makes it stale."""
    asked_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True, blank=True)
    """When a worker last took it."""
    labels_lost = models.PositiveIntegerField(default=0)
    """Labels of the teacher in the fit."""
    labels_left = models.PositiveIntegerField(default=0)
    log_det_before = models.FloatField(null=True, blank=True)
    """log det (I + sum w z z') in nats, as in `Estimate`."""
    log_det_after = models.FloatField(null=True, blank=True)
    worst_error_before = models.FloatField(null=True, blank=True)
    """Largest standard error of a reward difference over the pool."""
    worst_error_after = models.FloatField(null=True, blank=True)
    held_out_count = models.PositiveIntegerField(default=0)
    """Answers of other teachers to held-out comparisons, which neither fit has seen; ties aside."""
    accuracy_before = models.FloatField(null=True, blank=True)
    """Share of them that the reward's sign gets right; null where there are none."""
    accuracy_after = models.FloatField(null=True, blank=True)
    angle = models.FloatField(null=True, blank=True)
    """Between the two theta, in degrees; null where one of them is 0."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "teacher"], name="withdrawal_effect_once")]

    @property
    def labels_before(self) -> int:
        return self.labels_lost + self.labels_left


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
        verbose_name_plural = "teacher rationalities"
        constraints = [
            models.UniqueConstraint(fields=["campaign", "teacher", "category"], name="teacher_rationality_once")
        ]


class Plan(models.Model):
    """What a selection chose, from what, with which seed: enough to replay it."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="plans")
    estimate = models.ForeignKey(Estimate, on_delete=models.CASCADE, null=True, related_name="plans")
    """Null while the features are being computed: offers are drawn uniformly then."""
    strategy = models.CharField(max_length=32)
    seed = models.PositiveBigIntegerField()
    inputs = models.FileField(upload_to="plans/", max_length=255, blank=True)
    """npz of everything that the choice depended on, and of what was chosen: `pipeline.replay` reads it. Empty for an
    old plan: `pipeline.sweep`."""
    offered = models.PositiveIntegerField(default=0)
    withdrawn = models.PositiveIntegerField(default=0)
    candidates = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(default=0)
    replay_asked_at = models.DateTimeField(null=True, blank=True)
    replayed_at = models.DateTimeField(null=True, blank=True)
    replay_is_same = models.BooleanField(null=True, blank=True)
    """Whether choosing again from the stored inputs gave the same offers; null until somebody asked."""
    replay_reason = models.TextField(blank=True)
    """Why it could not be chosen again; empty where it could."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["campaign", "-id"]),
            models.Index(fields=["campaign", "id"], condition=~models.Q(inputs=""), name="plan_with_inputs"),
        ]


class OfferReason(models.Model):
    """Why this comparison, why this teacher."""

    offer = models.OneToOneField(Offer, on_delete=models.CASCADE, related_name="why")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="reasons")
    estimate = models.ForeignKey(Estimate, on_delete=models.CASCADE, null=True, related_name="+")
    gain = models.FloatField(null=True, blank=True)
    """nats (M8); this and the next four are null for an offer made before there were features."""
    uncertainty = models.FloatField(null=True, blank=True)
    """q = z' H^-1 z"""
    gap = models.FloatField(null=True, blank=True)
    """|theta_hat' z|"""
    rationality = models.FloatField(null=True, blank=True)
    """As the plan used it: stated, or drawn from its posterior."""
    weight = models.FloatField(null=True, blank=True)
    """w (M6)"""
    propensity = models.FloatField()
    """The chance of this pair within its arm, given the picks before it."""
    is_spanning = models.BooleanField(default=False)
    """Designed, to span the features, by a teacher drawn at random: the plan's strategy had no say in it."""
    is_urgent = models.BooleanField(default=False)
    """Designed, among urgent comparisons alone."""
    runners_up = models.JSONField(default=list, blank=True)
    """[{"teacher": id, "gain": nats}, …] and [{"comparison": id, "gain": nats}, …]"""


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
