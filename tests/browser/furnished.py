"""A campaign at work with one of everything, so that every page has something to show; and an empty one beside it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from allauth.account.models import EmailAddress
from django.apps import apps
from django.db.models import CharField, EmailField, TextField, URLField
from django.utils import timezone

from activelearning.models import Plan, WithdrawalEffect
from activelearning.pipeline import embed, replan
from annotation.models import (
    Adjudication,
    Adoption,
    AuditEntry,
    Campaign,
    Comparison,
    Conversation,
    Enrolment,
    GuidelineVersion,
    ImportJob,
    ImportProblem,
    Invitation,
    InvitationLetter,
    Label,
    Membership,
    Message,
    Notice,
    Offer,
    Pool,
    RecordedJudgement,
    Review,
    Role,
    Teacher,
    User,
    Webhook,
    WebhookDelivery,
)
from annotation.services.labels import record_label
from annotation.services.news import news_token
from annotation.services.offers import claim_offer
from annotation.services.panels import panel_key
from tests.activelearning.conftest import answer, hire
from tests.browser.conftest import enrol
from tests.conftest import add_conversations
from training.algorithms.config import TrainingConfig
from training.datasets.frozen import freeze
from training.models import Generation, Policy, RewardQuestion, Run, RunMetric, StartRule

LONG = "Donaudampfschifffahrtsgesellschaftskapitaen_and_a_name_without_any_place_to_break_it"


@dataclass
class House:
    """Two campaigns, the people, and what the addresses of their pages speak of."""

    campaign: Campaign
    empty: Campaign
    people: dict[str, User]
    arguments: dict[str, Any]


def furnish(campaign: Campaign, pool: Pool, teacher: Teacher, *, alice: User) -> House:
    Campaign.objects.filter(pk=campaign.pk).update(
        dimensions=3, control_share=0.5, rationality_mode="estimated", label_target=200, budget=50,
        reviews_disagreements=True, reviews_flags=True,
        description="Which answer helps more? " * 4, criteria=["helpful"],
    )  # fmt: skip
    Role.objects.create(campaign=campaign, user=alice, name=Role.Name.RESEARCHER)
    Pool.objects.filter(pk=pool.pk).update(
        terms="You may stop at any time.", languages=["en"], created_by=alice, completion_url="https://example.org/done"
    )
    bob = _settle(teacher, campaign)
    _work(campaign, pool, teacher)
    offer = Offer.objects.filter(campaign=campaign, teacher=teacher, state=Offer.State.ANSWERED).first()
    assert offer is not None
    empty = Campaign.objects.create(name=f"Nothing in it yet: {LONG}", created_by=alice)
    Role.objects.create(campaign=empty, user=alice, name=Role.Name.ADMIN)
    arguments = {
        "code": campaign.code,
        "pool": pool.pk,
        "teacher": teacher.code,
        "member": Membership.objects.get(teacher=teacher).pk,
        "offer": offer.code,
        "label": Label.objects.filter(teacher=teacher).latest("pk").pk,
        "comparison": offer.comparison_id,
        "conversation": offer.comparison.conversation_id,
        "plan": Plan.objects.filter(campaign=campaign, reasons__isnull=False).latest("pk").code,
        "news": news_token(teacher),
        "key": panel_key(pool),
        **_office(campaign, pool, teacher, alice),
        **_research(campaign),
    }
    campaign.refresh_from_db()
    return House(campaign, empty, {"alice": alice, "bob": bob}, arguments)


def _settle(teacher: Teacher, campaign: Campaign) -> User:
    """Bob: at work, with an address, something he does not want to see, and letters about work."""
    bob = teacher.user
    assert bob is not None
    enrol(campaign, teacher)
    Enrolment.objects.filter(teacher=teacher).update(joined_at=timezone.now() - timedelta(days=2))
    User.objects.filter(pk=bob.pk).update(preferences={"accepted_warnings": ["medicine"]})
    EmailAddress.objects.create(user=bob, email=bob.email, primary=True, verified=True)
    EmailAddress.objects.create(user=bob, email="bob@a-second-address.example.org")
    Teacher.objects.filter(pk=teacher.pk).update(
        declined_warnings=["violence"], news_origin="https://labels.example.org/", last_seen=timezone.now()
    )
    return bob


def _work(campaign: Campaign, pool: Pool, teacher: Teacher) -> None:
    """Two rounds of plans and answers by four teachers; one of them left, one waits to be let in."""
    add_conversations(campaign, 20)
    add_conversations(campaign, 20, category="writing")
    staff = [*hire(pool, 3), teacher]
    embed(campaign.pk)
    for number in range(8):
        replan(campaign.pk)
        for one in staff:
            answer(campaign, one, "first" if number % 3 else "second")
    replan(campaign.pk)
    late = claim_offer(campaign=campaign, teacher=staff[1])
    assert late is not None
    record_label(offer=late, choice="both_bad", reason=f"Neither. {LONG}", is_flagged=True)
    Membership.objects.filter(teacher=staff[2]).update(status=Membership.Status.SUSPENDED)
    comparison = Comparison.objects.filter(campaign=campaign, offers__isnull=True).order_by("pk")[0]
    Comparison.objects.filter(pk=comparison.pk).update(gold_outcome=1.0, gold_feedback="It answers.", is_tutorial=True)
    Conversation.objects.filter(pk=comparison.conversation_id).update(source=LONG, language="en")
    RecordedJudgement.objects.create(comparison=comparison, outcome=1.0, judge=LONG[:60])
    Adoption.objects.create(campaign=campaign, judge=LONG[:60], state="failed", reason=LONG, labels_added=12_345)
    Campaign.objects.filter(pk=campaign.pk).update(content_warnings={"violence": "Contains violence."})


def _office(campaign: Campaign, pool: Pool, teacher: Teacher, alice: User) -> dict[str, Any]:
    """What the pages of the administration list."""
    GuidelineVersion.objects.create(campaign=campaign, version=2, text=f"# Newer\n\nPrefer help.\n\n{LONG}")
    Enrolment.objects.filter(teacher=teacher).update(read_version=campaign.guidelines.order_by("-version")[0])
    job = ImportJob.objects.create(campaign=campaign, name=f"{LONG}.jsonl", state="done", rows_read=9, problem_count=1)
    ImportProblem.objects.create(job=job, line=3, reason=f"No prompt in {LONG}")
    message = Message.objects.create(campaign=campaign, teacher=teacher, text=f"Is this meant? {LONG}")
    Message.objects.create(campaign=campaign, teacher=teacher, text="Thanks", reply="With pleasure", replied_by=alice)
    Notice.objects.create(campaign=campaign, kind="budget", sentence="90 of the budget of 100 is spent.", key="budget")
    AuditEntry.objects.create(
        campaign=campaign, user=alice, verb="change settings", object=LONG, details={"budget": ["10", "100"], "x": LONG}
    )
    webhook = Webhook.objects.create(campaign=campaign, url=f"https://example.org/{LONG}")
    WebhookDelivery.objects.create(
        webhook=webhook, kind="budget", body={}, next_attempt_at=timezone.now(), last_status="503"
    )
    link = Invitation.objects.create(pool=pool, created_by=alice, uses_left=100)
    Invitation.objects.create(campaign=campaign, role="reviewer", created_by=alice)
    for state in InvitationLetter.State:
        invited = Invitation.objects.create(pool=pool, created_by=alice, email=f"{state}@example.org")
        InvitationLetter.objects.create(
            invitation=invited, origin="https://example.org/", language="en", state=state, reason=f"Refused. {LONG}"
        )
    WithdrawalEffect.objects.create(
        campaign=campaign, teacher=teacher, state="done", label_version=campaign.label_version, labels_lost=8,
        labels_left=25, log_det_before=6, log_det_after=5, angle=12, held_out_count=1, accuracy_before=1,
        accuracy_after=0, asked_at=timezone.now(),
    )  # fmt: skip
    for number, status in enumerate((Membership.Status.ACTIVE, Membership.Status.SUSPENDED)):
        endpoint = {
            "base_url": f"https://models.example.org/{LONG}/v1",
            "model": f"{LONG}-{number}",
            "key_name": "NAME",
        }
        robot = Teacher.objects.create(kind=Teacher.Kind.MODEL, endpoint=endpoint)
        Membership.objects.create(pool=pool, teacher=robot, status=status, cost_per_label="0.002", capacity=500)
    return {
        "job": job.code,
        "message": message.pk,
        "webhook": webhook.pk,
        "token": link.token,
        "invitation": link.pk,
        "review": _reviews(campaign, alice),
    }


def _reviews(campaign: Campaign, alice: User) -> int:
    """One that waits, and one that is decided."""
    waiting, decided = Comparison.objects.filter(campaign=campaign, labels__isnull=False).distinct().order_by("pk")[:2]
    for comparison in (waiting, decided):
        Review.objects.update_or_create(
            comparison=comparison,
            defaults={"campaign": campaign, "disagrees": True, "is_flagged": True, "is_waiting": comparison == waiting},
        )
    Adjudication.objects.create(campaign=campaign, comparison=decided, reviewer=alice, verdict="tie", note=LONG)
    return waiting.review.pk


def _research(campaign: Campaign) -> dict[str, Any]:
    """A run that goes on, one that failed, a policy that writes, and questions to the reward."""
    config = TrainingConfig().to_json()
    label_set = freeze(campaign)
    freeze(campaign)
    done = Run.objects.create(
        campaign=campaign, label_set=label_set, config=config, method="pessimistic_dpo", state="done",
        step=20, steps=20, started_at=timezone.now(), finished_at=timezone.now(), log="step 20 of 20\n" * 3,
    )  # fmt: skip
    Run.objects.create(
        campaign=campaign, label_set=label_set, config=config, method="rerank", state="failed", reason=f"No. {LONG}"
    )
    Run.objects.create(campaign=campaign, config=config, method="rso", state="running", step=3, steps=20)
    for step in range(1, 21):
        RunMetric.objects.create(run=done, step=step, values={"loss": 1 / step, "accuracy": 0.6, "kl": step / 9})
    policy = Policy.objects.create(
        run=done, campaign=campaign, folder=f"policies/{done.code}", digest="d" * 64, is_flagged=True,
        manifest={"files": {"config.json": {"bytes": 99, "sha256": "e" * 64}}, "config": config, "labels": 20,
                  "lineage": {"held_out": 4}},
        certificate={"regret": 0.8, "error": 0.1, "prompts": 40, "responses": 2.5, "radius": 2.1, "sampled": True,
                     "rate": 0.4},
        evaluation=EVALUATION, samples=SAMPLES,
    )  # fmt: skip
    Generation.objects.create(policy=policy, prompts=4, state="failed", reason="The disk is full.")
    Generation.objects.create(policy=policy, prompts=4, step=1, state="running")
    asked = RewardQuestion.objects.create(
        campaign=campaign, prompt=f"Why? {LONG}", responses=["Because.", LONG], state="answered",
        answer={"labels": 20, "radius": 2.1, "delta": 0.1, "responses": [ANSWER, ANSWER]},
    )  # fmt: skip
    RewardQuestion.objects.create(campaign=campaign, prompt="And?", responses=["a", "b"])
    rule = StartRule.objects.create(campaign=campaign, kind="labels", threshold=9, config=config, refusal=f"No: {LONG}")
    return {
        "label_set": label_set.pk,
        "run": done.code,
        "policy": policy.code,
        "question": asked.code,
        "rule": rule.pk,
    }


ANSWER = {"mean": 0.2, "lower": -0.3, "upper": 0.7, "penalty": 0.5}
SIDE = {"mean": 0.5, "lower": 0.1, "regret": 0.4}
SAMPLES = [
    {
        "prompt": [{"role": "user", "content": f"Explain {LONG}"}],
        "policy": "It is so.\nAnd so.", "policy_mean": 0.4, "policy_lower": 0.1,
        "reference": LONG, "reference_mean": 0.1, "reference_lower": -0.4,
    }
]  # fmt: skip
EVALUATION = {
    "reward": {"accuracy": 0.8, "accuracy_error": 0.1, "labels": 9, "calibration": 0.05,
               "reliability": [[0.5, 0.5, 3], [0.8, 0.75, 6]]},
    "contrast": {"prompts": 40, "differ": 0.2, "silent": 0.1, "greedy": SIDE, "pessimistic": SIDE},
    "policy": {
        "prompts": 16, "held_out_prompts": 4, "model_accuracy": 0.7, "win_rate": 0.6, "win_rate_lower": 0.4,
        "kl": 1.2, "characters": 80, "reference_characters": 90,
        "curve": [{"kl": 0.0, "mean": 0.0, "lower": 0.0}, {"kl": 1.0, "mean": 0.5, "lower": 0.1}],
        "best_of_n": [{"kl": 0.5, "greedy_mean": 0.2, "greedy_lower": 0.1}],
        "coverage": {"answers": 40, "outside": 0.1, "beyond": 0.02, "penalty": 0.3, "labelled_penalty": 0.1,
                     "worst": [[3, 1.9]]},
    },
}  # fmt: skip


KEPT = {
    "password",
    "digest",
    "format",
    "folder",
    "encoder",
    "requested",
    "language",
    "time_zone",
    "currency",
    "strategy",
    "form",
}
"""Texts that nobody types, and that the platform reads."""


def poison(attack: str) -> list[str]:
    """Write an attack into every text that a database row of ours holds and that is no choice, key or address.

    Returns the names of the fields.
    """
    poisoned = []
    for app in ("annotation", "activelearning", "training"):
        for model in apps.get_app_config(app).get_models():
            kept = KEPT | {name for rule in model._meta.constraints for name in getattr(rule, "fields", ())}
            for field in model._meta.concrete_fields:
                is_text = isinstance(field, CharField | TextField) and not isinstance(field, URLField | EmailField)
                if not is_text or field.choices or field.unique or field.name in kept:
                    continue
                room = field.max_length or len(attack)
                rows = model._base_manager.exclude(**{field.name: None})
                if room >= 40 and rows.update(**{field.name: attack[:room]}):
                    poisoned.append(f"{model._meta.label}.{field.name}")
    return poisoned
