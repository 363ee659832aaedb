"""Frozen label sets, training runs as state machines in rows, and the policies they leave."""

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from activelearning.models import Estimate
from annotation.models import Campaign

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class LabelSet(models.Model):
    """A frozen, content-addressed set of labels: the same labels freeze to the same digest."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="label_sets")
    digest = models.CharField(max_length=64)
    """sha256 over the sha256 of every line, so that an erased line leaves the rest verifiable."""
    file = models.FileField(upload_to="label_sets/", max_length=255)
    """JSON lines, one label a line, gzip; an erased label leaves its id and the sha256 of its line."""
    label_count = models.PositiveIntegerField()
    last_label = models.BigIntegerField(default=0)
    """The largest label id inside."""
    summary = models.JSONField(default=dict, blank=True)
    """Counts: by arm, choice and category; teachers; held out; ties."""
    tombstones = models.JSONField(default=list, blank=True)
    """Ids of labels that their teachers withdrew after the freeze: erased from the file."""
    withdrawn_seen = models.PositiveIntegerField(default=0)
    """Labels of teachers who withdrew, when the file was last brought in step with them."""
    erasing_since = models.DateTimeField(null=True, blank=True)
    """When a worker last began to bring the file in step; empty once it has."""
    erasing_error = models.TextField(blank=True)
    """Why it could not, when it was last tried."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["campaign", "digest"], name="label_set_once")]

    @property
    def short_digest(self) -> str:
        return self.digest[:12]


class Work(models.Model):
    """Something a worker does in a child process: claimed, alive by its heartbeat, finished with or without a reason.

    Whoever moved `holder` by conditional UPDATE owns the row; every later write of that owner asks for the same holder,
    so a worker that was thought dead and comes back writes nothing.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    FINISHED = (State.DONE, State.FAILED, State.CANCELLED)

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    stage = models.CharField(max_length=64, blank=True)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    furthest = models.PositiveIntegerField(default=0)
    """The largest `step` that any attempt came to."""
    attempts = models.PositiveSmallIntegerField(default=0)
    """Times it was taken up since it last got further than ever before."""
    holder = models.UUIDField(null=True, blank=True)
    heartbeat = models.DateTimeField(null=True, blank=True)
    is_cancel_asked = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    """Why it failed, in a sentence."""
    log = models.TextField(blank=True)
    """The end of what the child process printed."""
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_finished(self) -> bool:
        return self.state in self.FINISHED


class Method(models.TextChoices):
    """How a policy is made: the name that people read, and a sentence that says what it does."""

    RERANK = "rerank", _("Rerank")
    PESSIMISTIC_DPO = "pessimistic_dpo", _("Pessimistic DPO")
    RSO = "rso", _("Gibbs (RSO, then DPO)")
    POLICY_GRADIENT = "policy_gradient", _("Policy gradient")
    DPO = "dpo", _("Plain DPO")
    BEST_OF_N = "best_of_n", _("Plain best of n")

    @property
    def sentence(self) -> "_StrPromise":
        return SENTENCES[self]


SENTENCES: "dict[str, _StrPromise]" = {
    Method.RERANK: _(
        "Picks, for every conversation, the given response with the highest lower bound: no language model, no GPU."
    ),
    Method.PESSIMISTIC_DPO: _(
        "Fine-tunes a language model on the preferences, and takes each response's uncertainty off its logit."
    ),
    Method.RSO: _(
        "Samples responses, keeps them by chance the more often the higher their lower bound, and fits a model to "
        "those that are kept."
    ),
    Method.POLICY_GRADIENT: _(
        "Lets a language model write, and moves it towards what it wrote with the higher lower bound."
    ),
    Method.DPO: _("Fine-tunes a language model on the preferences as they are, to compare with."),
    Method.BEST_OF_N: _(
        "Lets the base model answer several times and takes the answer with the highest mean, to compare with."
    ),
}


class Run(Work):
    """One training run."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="runs")
    label_set = models.ForeignKey(LabelSet, on_delete=models.RESTRICT, null=True, blank=True, related_name="runs")
    estimate = models.ForeignKey(Estimate, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    """The campaign's newest estimate when the run was asked for: its projection gives the run's features."""
    parent = models.ForeignKey(
        "training.Policy", on_delete=models.SET_NULL, null=True, blank=True, related_name="heirs"
    )
    """The policy that this one starts from, if any."""
    config = models.JSONField()
    """training.algorithms.config.TrainingConfig as JSON, frozen."""
    method = models.CharField(max_length=32, choices=Method)
    is_forced = models.BooleanField(default=False)
    """Trained although the design was deficient: somebody said so."""
    trigger = models.CharField(max_length=64, default="by hand")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state"], condition=Q(state__in=("waiting", "running")), name="run_unfinished")]

    @property
    def folder(self) -> str:
        """Where it works, below MEDIA_ROOT on a disk: the frozen data, checkpoints, metrics, the log."""
        return f"runs/{self.code}"


class RunMetric(models.Model):
    """What a run said at a step of a stage."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    stage = models.CharField(max_length=64, default="train")
    step = models.PositiveIntegerField()
    values = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["step"]
        constraints = [models.UniqueConstraint(fields=["run", "stage", "step"], name="run_metric_once")]


class Policy(models.Model):
    """Weights or a reranker, and the manifest that says what it is."""

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="policy")
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="policies")
    folder = models.CharField(max_length=255)
    """In Django's storage."""
    digest = models.CharField(max_length=64, default="")
    """sha256 of the manifest: a folder whose manifest differs is not this policy."""
    manifest = models.JSONField()
    certificate = models.JSONField(default=dict)
    evaluation = models.JSONField(default=dict)
    samples = models.JSONField(default=list)
    """Answers of the policy and of its reference to the same prompts, side by side."""
    is_flagged = models.BooleanField(default=False)
    """A teacher whose labels it, or a policy that it started from, learned from has withdrawn since."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "policies"
        ordering = ["-id"]

    @property
    def is_generative(self) -> bool:
        return "config.json" in self.manifest.get("files", {})


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
    """False once it has done what it was for, or somebody switched it off."""
    last_label_count = models.PositiveIntegerField(default=0)
    """The label count at which it last started a run."""
    refusal = models.TextField(blank=True)
    """Why it could not start a run when it last wanted to."""
    created_at = models.DateTimeField(auto_now_add=True)

    @property
    def method(self) -> Method:
        return Method(self.config["method"])


class Generation(Work):
    """The closed loop: a policy answers a campaign's prompts, and its responses become comparisons."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="generations")
    prompts = models.PositiveIntegerField()
    """Conversations to answer, those with the fewest policy responses first."""
    samples = models.PositiveIntegerField(default=2)
    """Responses to each."""
    seed = models.PositiveIntegerField(default=0)
    responses_added = models.PositiveIntegerField(default=0)
    comparisons_added = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-id"]


class FreezeRequest(models.Model):
    """Labels that a worker is to freeze for somebody, since they are too many for one request of a page."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="freeze_requests")
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    reason = models.TextField(blank=True)
    label_set = models.ForeignKey(LabelSet, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    begun_at = models.DateTimeField(null=True, blank=True)
    """When a worker last took it."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["campaign"], condition=models.Q(state="waiting"), name="one_freeze_waits")
        ]


class RewardQuestion(models.Model):
    """What does the reward say of this text, and how sure is it? A row, a task, and a page that follows."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        ANSWERED = "answered", _("Answered")
        FAILED = "failed", _("Failed")

    code = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="reward_questions")
    prompt = models.TextField()
    responses = models.JSONField()
    """Texts to judge, two or more: only differences can be learned from comparisons."""
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    answer = models.JSONField(default=dict, blank=True)
    """mean, penalty, lower and upper of each response, the radius, the estimate's label count."""
    reason = models.TextField(blank=True)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
