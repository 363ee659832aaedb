"""The beat finds what is stale, and messages may be lost or doubled."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from activelearning import tasks
from activelearning.models import EmbeddingProgress, Estimate, PlanLease, TeacherRationality
from activelearning.pipeline import embed, replan
from activelearning.services import needs_embedding, needs_planning, stale_campaigns
from annotation.models import Campaign, Label, Offer, Pool, Teacher
from annotation.services.people import REMOVE, withdraw_teacher
from config.celery import app
from tests.activelearning.conftest import FakeEncoder, answer, hire
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
Sent = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture
def filled(campaign: Campaign, pool: Pool) -> Campaign:
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3)
    add_conversations(campaign, 30)
    campaign.refresh_from_db()
    return campaign


def finished(campaign: Campaign, *, seconds: float) -> None:
    PlanLease.objects.filter(campaign=campaign).update(finished_at=timezone.now() - timedelta(seconds=seconds))


def test_new_responses_ask_for_features(filled: Campaign, sent_tasks: Sent) -> None:
    tasks.reconcile()
    assert ("activelearning.embed", (filled.pk,)) in sent_tasks


def test_once_features_are_there_a_plan_is_asked_for(filled: Campaign, sent_tasks: Sent) -> None:
    tasks.embed(filled.pk)
    assert sent_tasks == [("activelearning.replan", (filled.pk,))]
    assert not needs_embedding(filled)


def test_a_long_embedding_asks_for_its_next_share(
    filled: Campaign, sent_tasks: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "EMBED_SECONDS", -1)
    tasks.embed(filled.pk)
    assert sent_tasks == [("activelearning.embed", (filled.pk,))]
    assert needs_embedding(filled)


def test_a_label_makes_the_estimate_stale(filled: Campaign, pool: Pool) -> None:
    somebody = hire(pool, 1)[0]
    embed(filled.pk)
    replan(filled.pk)
    filled.refresh_from_db()
    assert not needs_planning(filled)
    assert answer(filled, somebody)
    filled.refresh_from_db()
    assert needs_planning(filled)
    tasks.replan(filled.pk)
    filled.refresh_from_db()
    assert not needs_planning(filled)


def test_a_message_that_comes_twice_changes_nothing(filled: Campaign, pool: Pool) -> None:
    hire(pool, 2)
    tasks.embed(filled.pk)
    tasks.replan(filled.pk)
    offers, estimates = Offer.objects.count(), Estimate.objects.count()
    tasks.embed(filled.pk)
    tasks.replan(filled.pk)
    assert (Offer.objects.count(), Estimate.objects.count()) == (offers, estimates)


def test_a_present_teacher_with_a_short_queue_is_noticed(filled: Campaign, pool: Pool) -> None:
    embed(filled.pk)
    replan(filled.pk)
    filled.refresh_from_db()
    somebody = hire(pool, 1)[0]
    assert not needs_planning(filled)  # a plan went through a moment ago
    finished(filled, seconds=3)
    assert needs_planning(filled)
    replan(filled.pk)
    Offer.objects.filter(pk=Offer.objects.filter(teacher=somebody).first().pk).update(state="withdrawn")  # type: ignore[union-attr]
    finished(filled, seconds=3)
    assert not needs_planning(filled)  # three wait still
    finished(filled, seconds=30)
    assert needs_planning(filled)


def test_a_campaign_that_was_just_opened_is_planned_for_those_who_have_never_come(
    filled: Campaign, teacher: Teacher, sent_tasks: Sent
) -> None:
    tasks.reconcile()
    assert ("activelearning.replan", (filled.pk,)) in sent_tasks


def test_drafts_are_embedded_and_archives_are_not(filled: Campaign) -> None:
    Campaign.objects.filter(pk=filled.pk).update(state="draft")
    assert stale_campaigns() == ([filled.pk], [])
    Campaign.objects.filter(pk=filled.pk).update(state="archived")
    assert stale_campaigns() == ([], [])


def test_what_a_withdrawal_takes_from_an_archived_campaign_is_unlearned_there_too(filled: Campaign, pool: Pool) -> None:
    """The message for it may be lost."""
    Campaign.objects.filter(pk=filled.pk).update(rationality_mode="estimated")
    stays, gone = hire(pool, 2)
    embed(filled.pk)
    for _ in range(3):
        replan(filled.pk)
        answer(filled, stays)
        answer(filled, gone)
    replan(filled.pk)
    Campaign.objects.filter(pk=filled.pk).update(state="archived")
    assert stale_campaigns() == ([], [])
    withdraw_teacher(teacher=gone, how=REMOVE, user=None)
    assert stale_campaigns() == ([], [filled.pk])
    tasks.replan(filled.pk)
    assert stale_campaigns() == ([], [])
    assert Estimate.objects.latest().label_count == Label.objects.filter(teacher=stays).count()
    assert set(TeacherRationality.objects.values_list("teacher", flat=True)) == {stays.pk}


def test_changed_dimensions_ask_for_a_new_projection_and_no_new_features(
    filled: Campaign, encoder: FakeEncoder
) -> None:
    embed(filled.pk)
    asked = len(encoder.asked)
    filled.dimensions = 5
    filled.save()
    assert needs_embedding(filled)
    embed(filled.pk)
    assert len(encoder.asked) == asked
    assert not needs_embedding(filled)


def test_an_encoder_that_fails_leaves_its_reason_and_is_tried_again_later(
    filled: Campaign, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(texts: list[str]) -> None:
        raise OSError("no such model")

    monkeypatch.setattr(encoder, "encode", break_down)
    with pytest.raises(OSError, match="no such model"):
        embed(filled.pk)
    progress = EmbeddingProgress.objects.get()
    assert (progress.state, progress.reason) == ("failed", "no such model")
    assert not needs_embedding(filled)
    EmbeddingProgress.objects.update(heartbeat=timezone.now() - timedelta(minutes=2))
    assert needs_embedding(filled)


def test_the_commands_say_what_they_did(filled: Campaign, pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    hire(pool, 1)
    call_command("embed", str(filled.code))
    call_command("replan", str(filled.code))
    call_command("replan", str(filled.code), "--replay", "5")
    said = capsys.readouterr().out
    assert "60 responses have features." in said
    assert "4 offers were made." in said
    assert "All of 1 plans came out the same." in said
    with pytest.raises(CommandError, match="There is no campaign"):
        call_command("replan", "00000000-0000-0000-0000-000000000000")


@pytest.mark.parametrize("count", ["-1", "0", "all"])
def test_a_number_of_plans_is_one_or_more(campaign: Campaign, count: str) -> None:
    with pytest.raises(CommandError, match="--replay"):
        call_command("replan", campaign.name, "--replay", count)


def test_texts_are_judged_where_texts_are_embedded() -> None:
    """Both need the encoder, which a worker of `plan` never loads."""
    names = ("training.answer", "activelearning.embed")
    queues = {name: app.amqp.router.route({}, name)["queue"].name for name in names}
    assert set(queues.values()) == {"default"}
    assert app.amqp.router.route({}, "activelearning.replan")["queue"].name == "plan"
