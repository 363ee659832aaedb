"""A run on several devices: its metrics become rows, and however it ends the run hears of it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from annotation.models import Campaign
from tests.training.test_supervision import children_of, wait_until
from tests.training.test_train_run import SMALL, never
from training.algorithms import artifact, child
from training.algorithms.config import PARALLEL, TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.journal import METRICS
from training.algorithms.policy import Cancelled, Diverged, OutOfMemory, TimeLimitReached
from training.datasets.frozen import freeze
from training.pipeline import launch
from training.pipeline.preparation import build
from training.services.runs import start_run

CONFIG = TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0})


@pytest.fixture
def data(labelled: Campaign) -> TrainingData:
    return build(start_run(campaign=labelled, config=CONFIG, is_forced=True), label_set=freeze(labelled))


def pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """In place of accelerate: a program that finds the run's folder in `folder`."""

    def command(folder: Path, *, devices: int, parallel: str) -> list[str]:
        head = f"import json, sys, time, pathlib; folder = pathlib.Path({str(folder)!r}); "
        return [sys.executable, "-c", head + program]

    monkeypatch.setattr(launch, "command", command)
    monkeypatch.setattr(launch, "LOOK", 0.05)


@pytest.mark.slow
def test_two_processes_leave_one_policy_and_every_step_is_reported(data: TrainingData, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []

    def report(metrics: Mapping[str, Any]) -> None:
        said.append(dict(metrics))

    result = launch.train_here(CONFIG, data, folder=tmp_path / "run", report=report, should_stop=never, devices=2)
    artifact.verify(result.folder, kind="policy", digest=result.digest)
    assert [one["processes"] for one in said if one["stage"] == "start"] == [2]
    assert [one["step"] for one in said if one["stage"] == "train"] == [1, 2, 3, 4]


@pytest.mark.kill
@pytest.mark.slow
def test_processes_on_the_gpus_end_with_their_launcher(data: TrainingData, tmp_path: Path) -> None:
    child.write_order(tmp_path, replace(CONFIG, max_steps=10_000), data)
    launcher = subprocess.Popen(launch.command(tmp_path, devices=2, parallel="ddp"))
    try:
        wait_until(lambda: (tmp_path / METRICS).is_file())
        ranks = children_of(launcher.pid, "training.algorithms.child")
    finally:
        launcher.kill()
        launcher.wait()
    assert len(ranks) == 2
    wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([("1", OutOfMemory("too big")), ("0", RuntimeError("peer closed the connection"))], "out_of_memory"),
        ([("1", OutOfMemory("too big")), ("0", Cancelled("told to end"))], "out_of_memory"),
        ([("1", Cancelled("stopped by the main process")), ("0", TimeLimitReached("an hour"))], "time_limit"),
        ([("0", Diverged()), ("1", RuntimeError("peer closed the connection"))], "diverged"),
    ],
)
def test_the_first_failure_of_several_processes_is_the_reason(
    ranks: list[tuple[str, Exception]], said: str, tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child.signal, "signal", Mock())  # the tests' own process keeps its SIGTERM
    child.write_order(tmp_path, CONFIG, data)
    for rank, error in ranks:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(child, "train", Mock(side_effect=error))
        assert child.main(tmp_path) != 0
    assert launch.read_outcome(tmp_path)["state"] == said
    assert said in launch.ERRORS


def test_a_cancel_reaches_the_processes_as_a_file(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "\nwhile not (folder / 'stop').exists(): time.sleep(0.05)"
        "\n(folder / 'outcome.json').write_text(json.dumps({'state': 'cancelled', 'reason': 'somebody said so'}))"
    )
    pretend(monkeypatch, program)
    with pytest.raises(Cancelled, match="somebody said so"):
        launch.launch(CONFIG, data, folder=tmp_path, report=print, should_stop=lambda: True, devices=2)


def test_processes_that_die_without_a_word_are_a_failure(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "sys.exit(9)")
    with pytest.raises(launch.LaunchFailed, match="status 9"):
        launch.launch(CONFIG, data, folder=tmp_path, report=print, should_stop=never, devices=2)


def test_out_of_memory_is_tried_once_more_with_half_the_batch(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "f = folder / 'config.json'; tried = folder / 'tried'; "
        "tried.open('a').write(str(json.loads(f.read_text())['batch_size']) + ' '); "
        "(folder / 'outcome.json').write_text(json.dumps({'state': 'out_of_memory', 'reason': 'too big'}))"
    )
    pretend(monkeypatch, program)
    with pytest.raises(OutOfMemory, match="too big"):
        launch.train_here(CONFIG, data, folder=tmp_path, report=print, should_stop=never, devices=2)
    assert (tmp_path / "tried").read_text() == "4 2 "


def test_a_torn_line_waits_for_its_end_and_a_cut_file_begins_again(tmp_path: Path) -> None:
    path, said = tmp_path / "metrics.jsonl", []
    path.write_text('{"stage": "train", "step": 1}\n{"stage": "tr')
    seen = launch._pass_on(path, 0, said.append)
    assert [one["step"] for one in said] == [1]
    path.write_text('{"stage": "train", "step": 1}\n{"stage": "train", "step": 2}\n')
    seen = launch._pass_on(path, seen, said.append)
    assert [one["step"] for one in said] == [1, 2]
    path.write_text('{"stage": "train", "step": 1}\n')
    launch._pass_on(path, seen, said.append)
    assert [one["step"] for one in said] == [1, 2, 1], "rewound by a resumption: the rows are written again"


@pytest.mark.parametrize("devices", [1, 2])
def test_shards_are_refused_without_several_gpus(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("something was launched"))
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 1)
    config = replace(CONFIG, parallel="fsdp")
    with pytest.raises(launch.NotShardable, match="several GPUs, and this worker has 1"):
        launch.train_here(config, data, folder=tmp_path, report=print, should_stop=never, devices=devices)


def test_each_way_to_share_a_run_has_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.torch.cuda, "is_available", lambda: True)
    for parallel in PARALLEL:
        asked = launch.command(tmp_path, devices=2, parallel=parallel)
        shipped = Path(asked[asked.index("--config_file") + 1])
        assert f"distributed_type: {'FSDP' if parallel == 'fsdp' else 'MULTI_GPU'}" in shipped.read_text()


def test_one_device_needs_no_launcher(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("something was launched"))
    config = TrainingConfig(method="rerank")
    result = launch.train_here(config, data, folder=tmp_path, report=print, should_stop=never, devices=8)
    assert json.loads((result.folder / "manifest.json").read_text())["config"]["method"] == "rerank"
