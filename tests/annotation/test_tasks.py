"""What the beat finds, and what a view may ask of the workers."""

import dataclasses
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.utils import timezone

from annotation.imports import imports_to_run, start_import
from annotation.models import Campaign, ImportJob, Notice, Offer, Teacher
from annotation.services.notices import post_notice
from annotation.services.offers import claim_offer
from annotation.services.webhooks import add_webhook
from annotation.tasks import ask_for_replan, ask_model, reconcile, run_import
from config import embedded
from config.env import read_environment

pytestmark = pytest.mark.django_db
Sent = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def test_a_campaign_asks_for_one_plan_a_second(campaign: Campaign, sent_tasks: Sent) -> None:
    for _label in range(5):
        ask_for_replan(campaign.pk)
    ask_for_replan(campaign.pk + 1)
    assert sent_tasks == [("activelearning.replan", (campaign.pk,)), ("activelearning.replan", (campaign.pk + 1,))]


def test_a_broker_that_is_down_fails_no_request(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(Celery, "send_task", refuse)
    ask_for_replan(campaign.pk)


def test_the_beat_lapses_tells_and_sends_what_waits(
    campaign: Campaign, teacher: Teacher, queued: list[Offer], sent_tasks: Sent
) -> None:
    held = claim_offer(campaign=campaign, teacher=teacher)
    Offer.objects.filter(pk=held.pk).update(held_until=timezone.now() - timedelta(seconds=1))
    Campaign.objects.update(budget="0.3")
    job = ImportJob.objects.create(campaign=campaign, name="waiting.jsonl")
    robot = Teacher.objects.create(kind=Teacher.Kind.MODEL)
    Offer.objects.filter(pk=queued[2].pk).update(teacher=robot)
    add_webhook(campaign=campaign, user=None, url="https://example.org/", kinds=[])
    post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
    reconcile()
    held.refresh_from_db()
    assert held.state == Offer.State.LAPSED
    assert {("annotation.run_import", (job.pk,)), ("annotation.ask_model", (robot.pk,))} <= set(sent_tasks)
    assert "annotation.deliver_webhook" in {name for name, _arguments in sent_tasks}


def test_the_beat_says_that_the_budget_is_near_its_end(campaign: Campaign, queued: list[Offer]) -> None:
    Campaign.objects.update(budget="0.32")
    for _again in range(2):
        reconcile()
    assert Notice.objects.filter(kind="budget_near").count() == 1


def test_an_import_that_another_worker_has_is_left_to_it(campaign: Campaign) -> None:
    job = ImportJob.objects.create(campaign=campaign, name="x", state="running", heartbeat=timezone.now())
    run_import(job.pk)
    job.refresh_from_db()
    assert job.state == "running"


def test_imports_leave_a_process_for_the_rest(campaign: Campaign, settings: Any) -> None:
    settings.IMPORTS_AT_ONCE = 1
    one = ImportJob.objects.create(
        campaign=campaign, name="one", state=ImportJob.State.RUNNING, heartbeat=timezone.now()
    )
    other = start_import(campaign=campaign, name="other", file=ContentFile(b'{"prompt": "a", "responses": ["b", "c"]}'))
    run_import(other.pk)
    other.refresh_from_db()
    assert other.state == ImportJob.State.WAITING
    assert imports_to_run() == [other.pk], "the beat asks again"
    ImportJob.objects.filter(pk=one.pk).update(state=ImportJob.State.DONE)
    run_import(other.pk)
    other.refresh_from_db()
    assert other.state == ImportJob.State.DONE


def test_model_teachers_leave_a_process_for_the_rest(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MODELS_AT_ONCE = 1
    asked: list[int] = []

    def ask(teacher_id: int) -> None:
        asked.append(teacher_id)
        ask_model(9)  # what another process is sent meanwhile
        if teacher_id == 2:
            raise SoftTimeLimitExceeded

    monkeypatch.setattr("annotation.services.model_teachers.ask_model_teacher", ask)
    ask_model(1)
    assert asked == [1]
    with pytest.raises(SoftTimeLimitExceeded):
        ask_model(2)
    ask_model(3)
    assert asked == [1, 2, 3]


def test_a_worker_has_more_processes_than_imports_and_model_teachers_take(settings: Any, tmp_path: Path) -> None:
    compose = (Path(__file__).resolve().parents[2] / "config" / "compose.yaml").read_text()
    on_a_server = re.search(r'"default@%h", "-c", "(\d+)"', compose)
    assert on_a_server is not None
    assert int(on_a_server[1]) > settings.IMPORTS_AT_ONCE + settings.MODELS_AT_ONCE
    environment = dataclasses.replace(read_environment(), data=tmp_path)
    (worker,) = [one for one in embedded._processes(environment, "127.0.0.1", 1) if one.name == "worker-default"]
    assert int(worker.command[worker.command.index("-c") + 1]) == 3
