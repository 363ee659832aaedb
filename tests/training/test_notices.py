"""The staff hears how a run ended, and so does every webhook that asked."""

from typing import Any

from django.utils.translation import override

from annotation.models import Campaign, Notice, Webhook, WebhookDelivery
from tests.training.test_train_run import SMALL, perform_now
from training.algorithms.config import TrainingConfig
from training.models import Policy, Run, Work
from training.services import work as services
from training.services.runs import resume_run, start_run


def kinds(campaign: Campaign) -> list[str]:
    return list(Notice.objects.filter(campaign=campaign).order_by("id").values_list("kind", flat=True))


def run_of(campaign: Campaign, **more: Any) -> Run:
    return start_run(campaign=campaign, config=TrainingConfig(**{**SMALL, **more}), is_forced=True)


def test_a_finished_run_is_told_to_the_staff_and_to_the_webhooks_that_asked(labelled: Campaign) -> None:
    asked = Webhook.objects.create(campaign=labelled, url="https://a.example.org", kinds=["run_finished"])
    everything = Webhook.objects.create(campaign=labelled, url="https://b.example.org")
    Webhook.objects.create(campaign=labelled, url="https://c.example.org", kinds=["run_failed"])
    run = perform_now(run_of(labelled, method="rerank"))
    (notice,) = Notice.objects.filter(campaign=labelled)
    assert notice.kind == "run_finished"
    assert "Rerank" in notice.text
    deliveries = WebhookDelivery.objects.order_by("webhook_id")
    assert [one.webhook_id for one in deliveries] == [asked.pk, everything.pk]
    facts = {"run": str(run.code), "method": "Rerank", "began": f"{run.created_at:%Y-%m-%d %H:%M}", "reason": ""}
    assert deliveries[0].body["facts"] == facts
    assert deliveries[0].body["text"].startswith("The run “Rerank” of ")
    with override("de"):
        assert notice.text.startswith("Der Lauf „Rerank“ ")


def test_a_failed_run_is_told_with_its_reason_and_again_when_it_fails_again(labelled: Campaign) -> None:
    run = perform_now(run_of(labelled, method="dpo", base_model="/there/is/no/model"))
    assert run.state == Work.State.FAILED
    assert kinds(labelled) == ["run_failed"]
    assert run.reason[:100] in Notice.objects.get().text
    resume_run(run=run)
    perform_now(run)
    assert kinds(labelled) == ["run_failed", "run_failed"]


def test_a_cancelled_run_and_one_that_is_put_back_are_not_told(labelled: Campaign) -> None:
    run = run_of(labelled, method="dpo", evaluation_prompts=0)
    run = perform_now(run, should_stop=lambda: True)
    assert run.state == Work.State.WAITING
    Run.objects.filter(pk=run.pk).update(is_cancel_asked=True)
    assert perform_now(run, should_stop=lambda: True).state == Work.State.CANCELLED
    assert kinds(labelled) == []


def test_a_holder_who_was_replaced_tells_nothing(labelled: Campaign) -> None:
    run = run_of(labelled, method="rerank")
    first = services.claim(run)
    assert first is not None
    Run.objects.filter(pk=run.pk).update(heartbeat=None)
    second = services.claim(run)
    assert second is not None
    assert not services.finish(run, holder=first, state=Work.State.FAILED, reason="It is not mine.")
    assert kinds(labelled) == []
    assert services.finish(run, holder=second, state=Work.State.FAILED, reason="It is mine.")
    assert not services.finish(run, holder=second, state=Work.State.FAILED, reason="It is mine.")
    assert kinds(labelled) == ["run_failed"]


def test_a_policy_that_could_not_be_stored_is_no_finished_run(labelled: Campaign, monkeypatch: Any) -> None:
    monkeypatch.setattr(Policy.objects, "update_or_create", lambda **k: 1 / 0)
    run = perform_now(run_of(labelled, method="rerank"))
    assert run.state == Work.State.FAILED
    assert kinds(labelled) == ["run_failed"], "the notice goes back with the transaction"
