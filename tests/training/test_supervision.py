"""Children that die, workers that die, cancels that are signals: the run ends well, or says why it did not.

Real processes need a database that they can reach: PostgreSQL (`python -m tests.servers python -m pytest …`).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone

from annotation.models import Campaign
from tests.servers import PATIENCE
from tests.training.test_train_run import SMALL, perform_now
from training.algorithms.config import TrainingConfig, out_of_time
from training.models import Run, RunMetric, Work
from training.pipeline import supervision
from training.pipeline.supervision import supervise
from training.services import work as services
from training.services.runs import cancel_run, start_run

ROOT = Path(__file__).resolve().parents[2]
LONG = {**SMALL, "max_steps": 8, "evaluation_prompts": 0}


@pytest.fixture
def reachable(transactional_db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child process finds the test's own database and files."""
    if connection.vendor != "postgresql":
        pytest.skip("a child process cannot reach a database in memory")
    url = connection.settings_dict
    monkeypatch.setenv("DATABASE_URL", f"postgres://{url['USER']}@{url['HOST']}:{url['PORT']}/{url['NAME']}")
    monkeypatch.setenv("DATA_FOLDER", str(tmp_path))


@pytest.fixture
def in_background() -> Iterator[Callable[[Run], threading.Thread]]:
    threads: list[threading.Thread] = []

    def begin(run: Run) -> threading.Thread:
        def work() -> None:
            supervise("run", run.pk)
            connection.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        threads.append(thread)
        return thread

    yield begin
    for thread in threads:
        thread.join(timeout=PATIENCE)


def children_of(pid: int, module: str = "training.child") -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return [int(line.split()[0]) for line in found if module in line]


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s"
        time.sleep(0.2)


def has_trained(run: Run, steps: int) -> Callable[[], bool]:
    return lambda: RunMetric.objects.filter(run=run, stage="train", step__gte=steps).exists()


def dpo(campaign: Campaign, **more: Any) -> Run:
    config = TrainingConfig(method="pessimistic_dpo", **{**LONG, **more})
    return start_run(campaign=campaign, config=config, is_forced=True)


@pytest.mark.kill
@pytest.mark.slow
def test_a_child_killed_in_the_middle_goes_on_to_the_same_losses(
    reachable: None, labelled: Campaign, in_background: Callable[[Run], threading.Thread]
) -> None:
    run = dpo(labelled)
    thread = in_background(run)
    wait_until(has_trained(run, 4))
    (child,) = children_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    thread.join(timeout=PATIENCE)
    run.refresh_from_db()
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert children_of(os.getpid()) == []

    whole = perform_now(dpo(labelled))
    losses = [
        [row.values["loss"] for row in one.metrics.filter(stage="train").order_by("step")] for one in (run, whole)
    ]
    assert len(losses[0]) == 8
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.kill
@pytest.mark.slow
def test_a_run_whose_worker_died_is_picked_up_again(reachable: None, labelled: Campaign) -> None:
    run = dpo(labelled, max_steps=30)  # far from its end when the worker dies
    door = "from training.pipeline.supervision import supervise"
    code = f"import django; django.setup(); {door}; supervise('run', {run.pk})"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    try:
        wait_until(has_trained(run, 3))
        (child,) = children_of(worker.pid)
    finally:
        worker.kill()
        worker.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists())  # it does not train on for nobody
    Run.objects.filter(pk=run.pk).update(heartbeat=timezone.now())
    assert list(services.work_to_do()) == [], "the heartbeat is fresh: nobody may take it yet"

    Run.objects.filter(pk=run.pk).update(heartbeat=timezone.now() - timedelta(seconds=21))
    assert list(services.work_to_do()) == [("run", run.pk)]
    run = perform_now(run)  # as the next worker's child would
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert list(run.metrics.filter(stage="train").values_list("step", flat=True)) == list(range(1, 31))


@pytest.mark.kill
@pytest.mark.slow
def test_a_cancel_is_a_signal_and_leaves_a_checkpoint(
    reachable: None, labelled: Campaign, in_background: Callable[[Run], threading.Thread]
) -> None:
    run = dpo(labelled, max_steps=40, checkpoint_steps=0)
    thread = in_background(run)
    wait_until(has_trained(run, 3))
    cancel_run(run=run)
    thread.join(timeout=PATIENCE)
    run.refresh_from_db()
    assert run.state == Work.State.CANCELLED
    checkpoints = list((Path(django_settings.MEDIA_ROOT) / run.folder / "checkpoints").glob("checkpoint-*"))
    assert checkpoints, "a cancel leaves a checkpoint behind"


@pytest.mark.kill
def test_a_child_that_always_dies_is_given_up_with_a_reason(
    labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision.sys, "executable", "/bin/false")
    run = dpo(labelled)
    supervise("run", run.pk)
    run.refresh_from_db()
    assert run.state == Work.State.FAILED
    assert "died 3 times" in run.reason
    assert "status 1" in run.reason
    assert run.holder is None


def test_two_workers_do_not_hold_one_run(labelled: Campaign) -> None:
    run = dpo(labelled)
    first = services.claim(run)
    assert first is not None
    assert services.claim(run) is None
    Run.objects.filter(pk=run.pk).update(heartbeat=timezone.now() - services.STALE - timedelta(seconds=1))
    second = services.claim(run)
    assert second is not None
    assert not services.beat(run, holder=first), "the first one, back from the dead, writes nothing"
    assert not services.finish(run, holder=first, state=Work.State.DONE)
    run.refresh_from_db()
    assert (run.state, run.holder) == (Work.State.RUNNING, second)


def test_a_message_that_comes_twice_does_nothing(labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dpo(labelled)
    services.claim(run)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a child was started"))
    supervise("run", run.pk)
    Run.objects.filter(pk=run.pk).update(state=Work.State.DONE)
    supervise("run", run.pk)
    supervise("run", run.pk + 1000)


def test_progress_forgives_earlier_deaths(labelled: Campaign) -> None:
    run = dpo(labelled)
    holder = services.claim(run)
    assert holder is not None
    services.claim_again(run, holder=holder)
    services.claim_again(run, holder=holder)
    run.refresh_from_db()
    assert run.attempts == 3
    services.advance(run, holder=holder, stage="Training", step=5, steps=8)
    run.refresh_from_db()
    assert run.attempts == 1
    services.claim_again(run, holder=holder)
    services.advance(run, holder=holder, stage="Training", step=5, steps=8)
    run.refresh_from_db()
    assert run.attempts == 2, "the same step again is no progress"


def test_a_run_that_always_dies_at_the_same_step_is_given_up(labelled: Campaign) -> None:
    run = dpo(labelled)
    holder = services.claim(run)
    assert holder is not None
    attempts = []
    for _death in range(4):
        for step in (101, 102, 150):  # on from the checkpoint of step 100
            services.advance(run, holder=holder, stage="Training", step=step, steps=200)
        services.claim_again(run, holder=holder)
        run.refresh_from_db()
        attempts.append(run.attempts)
    assert attempts == [2, 3, 4, 5]


def test_a_worker_that_stops_is_no_death(labelled: Campaign) -> None:
    run = dpo(labelled)
    for _restart in range(5):
        holder = services.claim(run)
        assert holder is not None
        services.release(run, holder=holder)
    run.refresh_from_db()
    assert (run.state, run.attempts) == (Work.State.WAITING, 0)


def test_a_run_that_has_had_its_time_is_not_begun_again(labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a child was started"))
    run = dpo(labelled, time_limit_seconds=3600)
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(hours=2))
    supervise("run", run.pk)
    run.refresh_from_db()
    assert (run.state, run.reason) == (Work.State.FAILED, out_of_time(3600))


def test_a_waiting_run_is_cancelled_at_once(labelled: Campaign) -> None:
    run = dpo(labelled)
    cancel_run(run=run)
    run.refresh_from_db()
    assert run.state == Work.State.CANCELLED
    assert services.claim(run) is None
