"""A run that dies goes on where it was: the same losses, from checkpoints that are believed only when whole."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.servers import PATIENCE, free_port
from tests.training.algorithms.conftest import HashEncoder, make_config
from training.algorithms import artifact, policy_dpo
from training.algorithms.checkpoints import DiskFull, is_disk_full, latest_checkpoint, pack_state, unpack_state
from training.algorithms.child import OUTCOME, write_order
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.journal import read_metrics
from training.algorithms.policy import Cancelled, Diverged, OutOfMemory, TimeLimitReached
from training.algorithms.run import PolicyResult, train
from training.algorithms.watch import Watch

ROOT = Path(__file__).resolve().parents[3]


def run(config: TrainingConfig, data: TrainingData, folder: Path, **changes: Any) -> PolicyResult:
    given: dict[str, Any] = {"report": lambda metrics: None, "should_stop": lambda: False, "encoder": HashEncoder()}
    return train(config, data, folder=folder, **{**given, **changes})


def losses(folder: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder) if line["stage"] == "train"]  # type: ignore[misc]


def stop_after(step: int) -> tuple[Callable[[Mapping[str, Any]], None], Callable[[], bool]]:
    """A report and a should_stop: the caller cancels once it has seen this step."""
    seen: list[float] = []
    return (lambda metrics: seen.append(metrics.get("step", 0))), (lambda: max(seen, default=0) >= step)


@pytest.mark.parametrize("lora", [0, 4], ids=["all weights", "LoRA"])
def test_a_cancelled_run_resumes_on_the_same_loss_curve(data: TrainingData, tmp_path: Path, lora: int) -> None:
    config = make_config(checkpoint_steps=2, max_steps=8, lora_rank=lora)
    whole = run(config, data, tmp_path / "whole")
    report, should_stop = stop_after(3)
    with pytest.raises(Cancelled):
        run(config, data, tmp_path / "broken", report=report, should_stop=should_stop)
    assert [step for step, _ in losses(tmp_path / "broken")] == [1, 2, 3, 4]  # it is asked at the step's end
    assert not (tmp_path / "broken" / "policy").exists()
    resumed = run(config, data, tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert resumed.figures["policy"]["kl"] == whole.figures["policy"]["kl"]
    assert artifact.file_digest(resumed.folder / "model.safetensors") == artifact.file_digest(
        whole.folder / "model.safetensors"
    )


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_policy_gradient_resumes_with_the_same_prompts_and_samples(
    data: TrainingData, tmp_path: Path, accumulation: int
) -> None:
    config = make_config(
        method="policy_gradient", max_steps=7, batch_size=4 // accumulation, accumulation=accumulation
    )  # three steps make an epoch
    whole = run(config, data, tmp_path / "whole")
    report, should_stop = stop_after(3)
    with pytest.raises(Cancelled):
        run(config, data, tmp_path / "broken", report=report, should_stop=should_stop)
    resumed = run(config, data, tmp_path / "broken")
    curves = [
        [(line["step"], line["reward"], line["gradient_norm"]) for line in read_metrics(folder) if "reward" in line]
        for folder in (tmp_path / "whole", tmp_path / "broken")
    ]
    assert len(curves[0]) == 7
    assert curves[0] == curves[1]
    assert resumed.figures["policy"]["kl"] == whole.figures["policy"]["kl"]


@pytest.mark.kill
def test_a_killed_process_resumes_on_the_same_loss_curve(data: TrainingData, tmp_path: Path) -> None:
    config = make_config(method="dpo", checkpoint_steps=2, max_steps=60, evaluation_prompts=0)
    run(config, data, tmp_path / "whole")
    write_order(tmp_path / "killed", config, data)
    process = start_child(tmp_path / "killed")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and len(losses(tmp_path / "killed")) < 7:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / OUTCOME).exists()
    done = len(losses(tmp_path / "killed"))
    assert 7 <= done < 60
    assert start_child(tmp_path / "killed").wait(timeout=PATIENCE) == 0
    assert json.loads((tmp_path / "killed" / OUTCOME).read_text())["state"] == "done"
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    notices = [line["notice"] for line in read_metrics(tmp_path / "killed") if line["stage"] == "notice"]
    assert any(str(notice).startswith("resumed from checkpoint-") for notice in notices)


@pytest.mark.kill
def test_a_terminated_process_saves_and_says_so(data: TrainingData, tmp_path: Path) -> None:
    write_order(tmp_path, make_config(method="dpo", max_steps=5000, evaluation_prompts=0), data)
    process = start_child(tmp_path)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and len(losses(tmp_path)) < 3:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=PATIENCE) == 3
    assert json.loads((tmp_path / OUTCOME).read_text())["state"] == "cancelled"
    found, refused = latest_checkpoint(tmp_path / "checkpoints", expect={})
    assert found is not None
    assert refused == []


def start_child(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "training.algorithms.child", str(folder)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.kill
@pytest.mark.slow
def test_two_processes_train_as_one_does(data: TrainingData, tmp_path: Path) -> None:
    """Half the batch in each of two processes is the same step, and rank 0 alone writes one policy."""
    even = replace(data, preferences=data.preferences[:12])
    config = make_config(batch_size=4, max_steps=3, evaluation_prompts=0)
    run(config, even, tmp_path / "one")
    write_order(tmp_path / "two", replace(config, batch_size=2), even)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    done = subprocess.run(
        [*command, "-m", "training.algorithms.child", str(tmp_path / "two")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    for (step, loss), (other_step, other) in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert (step, loss) == (other_step, pytest.approx(other, rel=1e-4))
    artifact.verify(tmp_path / "two" / "policy", kind="policy", expect={"label_set": "label-set-1"})


@pytest.fixture
def broken_off(data: TrainingData, tmp_path: Path) -> tuple[TrainingConfig, Path]:
    """A run cancelled after step 4, with checkpoints of steps 2 and 4."""
    config = make_config(method="dpo", checkpoint_steps=2, max_steps=8, evaluation_prompts=0)
    report, should_stop = stop_after(3)
    with pytest.raises(Cancelled):
        run(config, data, tmp_path / "run", report=report, should_stop=should_stop)
    return config, tmp_path / "run"


def test_a_checkpoint_holds_no_pickle(broken_off: tuple[TrainingConfig, Path]) -> None:
    _, folder = broken_off
    kinds = {path.suffix for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".jinja"}


def test_a_poisoned_checkpoint_is_refused_and_the_one_before_is_taken(
    broken_off: tuple[TrainingConfig, Path], data: TrainingData, tmp_path: Path
) -> None:
    config, folder = broken_off
    weights = folder / "checkpoints" / "checkpoint-4" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run(config, data, folder)
    notices = [line["notice"] for line in read_metrics(folder) if line["stage"] == "notice"]
    assert "refused a checkpoint: checkpoint-4/model.safetensors differs from its checksum" in notices
    assert "resumed from checkpoint-2" in notices
    run(config, data, tmp_path / "whole")
    assert losses(folder) == losses(tmp_path / "whole")


def test_a_truncated_checkpoint_is_refused(broken_off: tuple[TrainingConfig, Path]) -> None:
    _, folder = broken_off
    state = folder / "checkpoints" / "checkpoint-4" / "optimizer.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    found, refused = latest_checkpoint(folder / "checkpoints", expect={})
    assert found is not None
    assert found.name == "checkpoint-2"
    assert refused == ["checkpoint-4/optimizer.safetensors differs from its checksum"]
    assert (folder / "checkpoints" / "refused-checkpoint-4").is_dir()


def test_an_unfinished_checkpoint_is_passed_over(broken_off: tuple[TrainingConfig, Path]) -> None:
    _, folder = broken_off
    (folder / "checkpoints" / "checkpoint-4" / artifact.MANIFEST).unlink()
    found, refused = latest_checkpoint(folder / "checkpoints", expect={})
    assert found is not None
    assert (found.name, refused) == ("checkpoint-2", [])


def test_a_foreign_checkpoint_is_refused(
    broken_off: tuple[TrainingConfig, Path], data: TrainingData, tmp_path: Path
) -> None:
    config, folder = broken_off
    other = replace(data, label_set="label-set-2")
    with pytest.raises(artifact.Refused, match="foreign"):
        run(config, other, folder)
    with pytest.raises(artifact.Refused, match="foreign"):
        run(replace(config, learning_rate=5e-4), data, folder)
    shutil.copytree(folder / "checkpoints", tmp_path / "elsewhere" / "checkpoints")
    with pytest.raises(artifact.Refused, match="data_digest"):
        latest_checkpoint(tmp_path / "elsewhere" / "checkpoints", expect={"data_digest": "0" * 64})


def test_more_time_is_no_other_run(broken_off: tuple[TrainingConfig, Path], data: TrainingData) -> None:
    config, folder = broken_off
    run(replace(config, time_limit_seconds=600, checkpoint_steps=3), data, folder)
    assert [step for step, _ in losses(folder)] == list(range(1, 9))


def test_the_time_limit_leaves_a_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(TimeLimitReached):
        run(make_config(max_steps=5000, time_limit_seconds=0.5), data, tmp_path)
    found, _ = latest_checkpoint(tmp_path / "checkpoints", expect={})
    assert found is not None


def test_a_run_that_diverges_fails_and_leaves_no_policy(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="lower learning rate"):
        run(make_config(learning_rate=1e18, checkpoint_steps=1), data, tmp_path)
    assert all(loss > 0 for _, loss in losses(tmp_path)), "what is no number is not shown as a loss of 0"
    assert not (tmp_path / "policy").exists()


def test_weights_that_are_no_numbers_at_the_end_are_no_policy(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(watch: Watch, *args: Any, model: Any, **more: Any) -> None:
        next(model.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(Watch, "on_train_end", spoil)
    with pytest.raises(Diverged):
        run(make_config(max_steps=1, evaluation_prompts=0), data, tmp_path)


def test_the_clock_asks_for_checkpoints_up_to_the_last_step(data: TrainingData, tmp_path: Path) -> None:
    """None after the last one: from there a Trainer would go on one step too far."""
    run(make_config(max_steps=5, checkpoint_seconds=1e-6, evaluation_prompts=0), data, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-3", "checkpoint-4"]


def test_out_of_memory_is_answered_with_half_the_batch(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(method="dpo", batch_size=4, max_steps=4, evaluation_prompts=0)
    even = replace(data, preferences=data.preferences[:12])  # whole batches: an odd one's halves weigh alike
    run(config, even, tmp_path / "whole")
    small_device(monkeypatch, room=2)
    run(config, even, tmp_path / "small")
    notices = [line["notice"] for line in read_metrics(tmp_path / "small") if line["stage"] == "notice"]
    assert notices == ["out of memory: trying again with a batch of 2"]
    for (step, loss), (other_step, other) in zip(losses(tmp_path / "small"), losses(tmp_path / "whole"), strict=True):
        assert (step, loss) == (other_step, pytest.approx(other, rel=1e-3))


def test_out_of_memory_twice_is_the_end(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_device(monkeypatch, room=1)
    with pytest.raises(OutOfMemory, match="a batch of 2 does not fit either"):
        run(make_config(batch_size=4), data, tmp_path / "even")
    with pytest.raises(OutOfMemory, match="cannot be halved"):
        run(make_config(batch_size=3), data, tmp_path / "odd")


def small_device(monkeypatch: pytest.MonkeyPatch, *, room: int) -> None:
    """A device on which more than `room` pairs do not fit."""
    plain = policy_dpo._sequence_log_probs

    def limited(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        if inputs["input_ids"].shape[0] > 2 * room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(model, inputs)

    monkeypatch.setattr(policy_dpo, "_sequence_log_probs", limited)


def test_a_full_disk_keeps_the_checkpoint_before(data: TrainingData, tmp_path: Path) -> None:
    """The kernel refuses to write files beyond a size, as it does on a full disk, but with another number."""
    config = make_config(method="dpo", checkpoint_steps=2, max_steps=8, evaluation_prompts=0)
    seen: list[float] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def report(metrics: Mapping[str, Any]) -> None:
        seen.append(metrics.get("step", 0))
        if seen[-1] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    try:
        with pytest.raises(DiskFull, match="no room for a checkpoint at step 4"):
            run(config, data, tmp_path / "run", report=report)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found, refused = latest_checkpoint(tmp_path / "run" / "checkpoints", expect={})
    assert found is not None
    assert (found.name, refused) == ("checkpoint-2", [])
    assert not (tmp_path / "run" / "checkpoints" / "checkpoint-4").exists()
    run(config, data, tmp_path / "run")
    run(config, data, tmp_path / "whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_only_want_of_room_is_a_full_disk() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_disk_full(RuntimeError("[enforce fail] No space left on device"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_disk_full(ValueError("No space left on device"))


def test_an_optimizer_comes_back_from_its_tensors() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    tensors, rest = pack_state(optimizer.state_dict())
    other = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters(), lr=0.5)
    other.load_state_dict(unpack_state(tensors, json.loads(json.dumps(rest))))
    before, after = optimizer.state_dict(), other.state_dict()
    assert after["param_groups"][0]["lr"] == 0.1
    for index, slots in before["state"].items():
        for name, value in slots.items():
            assert torch.equal(after["state"][index][name], value)
