"""What one process of a run makes is made once, and all of its processes use it."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.algorithms.conftest import HashEncoder, make_config
from training.algorithms import policy_rso
from training.algorithms.artifact import Refused
from training.algorithms.data import TrainingData
from training.algorithms.journal import Journal
from training.algorithms.policy import Cancelled, Fitted, Job
from training.algorithms.shared import made_once


@pytest.fixture
def job(data: TrainingData, tmp_path: Path) -> Job:
    return Job(
        config=make_config(method="rso"),
        data=data,
        folder=tmp_path,
        confidence=data.confidence(delta=0.05, radius=1.0),
        journal=Journal(tmp_path, lambda metrics: None),
        should_stop=lambda: False,
        encoder=HashEncoder(),
        identity={"data_digest": data.digest()},
    )


def write(folder: Path) -> None:
    (folder / "made.txt").write_text("once")


def test_it_is_made_once_and_found_again(job: Job) -> None:
    folder = made_once(job, "samples", write)
    assert made_once(job, "samples", lambda folder: pytest.fail("made a second time")) == folder
    assert (folder / "made.txt").read_text() == "once"


def test_what_was_left_half_made_is_made_anew(job: Job) -> None:
    (job.folder / "samples").mkdir()
    (job.folder / "samples" / "half.txt").write_text("torn")
    assert [path.name for path in sorted(made_once(job, "samples", write).iterdir())] == ["made.txt", "manifest.json"]


def test_what_another_run_made_is_refused(job: Job) -> None:
    made_once(job, "samples", write)
    with pytest.raises(Refused, match="foreign"):
        made_once(replace(job, identity={"data_digest": "another"}), "samples", write)


def test_the_other_processes_wait_until_it_is_whole(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    main = threading.Thread(target=lambda: made_once(job, "samples", write))
    looks = 0

    def check() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            monkeypatch.setenv("RANK", "0")
            main.start()
            main.join()
        return False

    monkeypatch.setenv("RANK", "1")
    folder = made_once(
        replace(job, should_stop=check), "samples", lambda folder: pytest.fail("made by another than the main process")
    )
    assert (folder / "made.txt").read_text() == "once"


def test_waiting_for_it_can_be_cancelled(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(Cancelled):
        made_once(replace(job, should_stop=lambda: True), "samples", write)


def test_a_resumed_rso_run_trains_on_the_pairs_that_it_had(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    def fit_rows(job: Job, rows: Any, notes: Any) -> Fitted:
        trained.append((rows, notes))
        return Fitted(notes=notes)

    monkeypatch.setattr(policy_rso, "fit_rows", fit_rows)
    policy_rso.fit(job)
    monkeypatch.setattr(policy_rso, "sample_responses", lambda *a, **k: pytest.fail("sampled a second time"))
    policy_rso.fit(job)
    assert trained[0] == trained[1]
