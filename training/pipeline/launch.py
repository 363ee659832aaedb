"""A run on several GPUs: `accelerate launch` beside this child, whose metrics file becomes the run's rows."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from training.algorithms.artifact import MANIFEST, file_digest, verify
from training.algorithms.child import EXITS, OUTCOME, STOP, write_order
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.journal import METRICS, Report
from training.algorithms.policy import OutOfMemory
from training.algorithms.run import PolicyResult, train

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "accelerate"
LOOK = 1.0
ERRORS = {state: kind for kind, (_status, state) in EXITS.items()}


class LaunchFailed(Exception):
    """The processes on the GPUs ended without a policy."""


class NotShardable(Exception):
    """The run wants its model in shards, and this worker has no several GPUs to lay them on."""


def train_here(
    config: TrainingConfig,
    data: TrainingData,
    *,
    folder: Path,
    report: Report,
    should_stop: Callable[[], bool],
    devices: int | None = None,
) -> PolicyResult:
    """Train in this process; with several GPUs and a model to train, in one process on each of them.

    devices  how many to use; None takes what there is
    raises   what `training.algorithms.run.train` raises; LaunchFailed; NotShardable
    """
    count = torch.cuda.device_count() if devices is None else devices
    needs_training = config.is_generative and not (folder / "policy").exists()
    if needs_training and config.parallel == "fsdp" and min(count, torch.cuda.device_count()) < 2:
        raise NotShardable(
            f"A model in shards (FSDP) needs several GPUs, and this worker has {torch.cuda.device_count()}: choose a "
            "whole copy on each GPU, or start the run where a worker of the gpu queue has several."
        )
    if count > 1 and needs_training:
        try:
            launch(config, data, folder=folder, report=report, should_stop=should_stop, devices=count)
        except OutOfMemory:
            launch(config.halved(), data, folder=folder, report=report, should_stop=should_stop, devices=count)
    return train(config, data, folder=folder, report=report, should_stop=should_stop)


def launch(
    config: TrainingConfig,
    data: TrainingData,
    *,
    folder: Path,
    report: Report,
    should_stop: Callable[[], bool],
    devices: int,
) -> str:
    """One process on each device until the policy lies in its folder; returns the sha256 of its manifest."""
    write_order(folder, config, data)
    seen = _length(folder / METRICS)
    process = subprocess.Popen(command(folder, devices=devices, parallel=config.parallel))
    try:
        while process.poll() is None:
            seen = _pass_on(folder / METRICS, seen, report)
            if should_stop():
                (folder / STOP).touch()  # a signal to the launcher would end its processes before their checkpoint
            time.sleep(LOOK)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    _pass_on(folder / METRICS, seen, report)
    outcome = read_outcome(folder)
    if outcome.get("state") != "done":
        kind = ERRORS.get(outcome.get("state", ""), LaunchFailed)
        raise kind(outcome.get("reason") or f"the processes on the GPUs ended with status {process.returncode}")
    verify(folder / "policy", kind="policy")
    return file_digest(folder / "policy" / MANIFEST)


def command(folder: Path, *, devices: int, parallel: str) -> list[str]:
    """One machine; the configurations are shipped beside the code. Without a GPU the processes share the CPU."""
    launcher = [
        "accelerate.commands.launch", "--config_file", str(CONFIGURATIONS / f"{parallel}.yaml"),
        "--num_processes", str(devices),
    ]  # fmt: skip
    if not torch.cuda.is_available():  # where accelerate would start a single one
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
    return [sys.executable, "-m", *launcher, "-m", "training.algorithms.child", str(folder), str(os.getpgrp())]


def read_outcome(folder: Path) -> dict[str, str]:
    path = folder / OUTCOME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _pass_on(path: Path, seen: int, report: Report) -> int:
    """Report whole lines after byte `seen`; returns how far it read. A resumption may have cut the file back."""
    if not path.is_file():
        return seen
    if path.stat().st_size < seen:
        seen = 0
    for line in _whole_lines(path, seen):
        seen += len(line)
        report(json.loads(line))
    return seen


def _whole_lines(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            if line.endswith(b"\n"):
                yield line
