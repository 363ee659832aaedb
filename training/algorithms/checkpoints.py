"""Checkpoints that survive a kill: no pickle, sealed by a checksum, and bound to the run that wrote them.

`Durable` goes in front of any transformers Trainer. Weights are safetensors already; optimizer, schedule and random
states, which transformers pickles, become safetensors and JSON here. A sharded (FSDP) optimizer keeps torch's own
format, which is read with weights_only.
"""

import errno
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.algorithms import artifact

if TYPE_CHECKING:

    class Base:
        """What a Trainer brings; transformers' own annotations allow None where a running trainer never has it."""

        args: Any
        model: Any
        state: Any
        accelerator: Any
        optimizer: Any
        lr_scheduler: Any
        is_fsdp_enabled: bool
        is_deepspeed_enabled: bool
        _signature_columns: Any

        def _save_checkpoint(self, model: Any, trial: Any) -> None: ...
        def _save_optimizer_and_scheduler(self, output_dir: str) -> None: ...
        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None: ...
else:
    Base = object

PREFIX = "checkpoint-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(Exception):
    """There was no room for a checkpoint or a policy; earlier checkpoints are whole."""


def is_disk_full(error: BaseException) -> bool:
    """True for an error that says a file could not be written for want of room, in Python's words or safetensors'."""
    if isinstance(error, OSError):
        return error.errno in FULL
    words = ("No space left", "File too large", "Disk quota")
    return isinstance(error, SafetensorError | RuntimeError) and any(word in str(error) for word in words)


def latest_checkpoint(
    folder: Path, *, expect: Mapping[str, str], sharded: bool = False
) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were refused.

    A checkpoint that a kill left unfinished is passed over in silence and removed; one that fails its checksum is
    refused aloud and set aside under another name, never loaded.
    raises  Refused  a whole checkpoint belongs to another run
    """
    refused: list[str] = []
    found = sorted(
        (path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()),
        key=lambda path: int(path.name[len(PREFIX) :]),
        reverse=True,
    )
    for path in found:
        try:
            manifest = artifact.verify(path, kind="checkpoint", pickles=sharded)
        except artifact.NotFinished:
            shutil.rmtree(path)
            continue
        except artifact.Refused as error:
            refused.append(str(error))
            path.rename(path.with_name(f"refused-{path.name}"))
            continue
        for name, value in expect.items():
            if manifest.get(name) != value:
                raise artifact.Refused(f"{path.name} is foreign: its {name} is not that of this run")
        return path, refused
    return None, refused


class Durable(Base):
    """Mixin before a Trainer: sealed checkpoints without pickle, no telemetry, no model cards.

    `identity` (set after construction) is written into each manifest and asked for again at resumption.
    """

    identity: Mapping[str, str] = {}

    def _send_telemetry(self) -> None:
        """A run says nothing to anybody."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The manifest is the card."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"{PREFIX}{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                (folder / "training_args.bin").unlink(missing_ok=True)
                artifact.seal(folder, kind="checkpoint", content=dict(self.identity))
            self.accelerator.wait_for_everyone()
        except (OSError, SafetensorError, RuntimeError) as error:
            if not is_disk_full(error):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise DiskFull(f"no room for a checkpoint at step {self.state.global_step}: {error}") from error

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            tensors, rest = pack_state(self.optimizer.state_dict())
            save_file(tensors, Path(output_dir) / "optimizer.safetensors")
            state = {"optimizer": rest, "schedule": self.lr_scheduler.state_dict()}
            (Path(output_dir) / "optimizer.json").write_text(json.dumps(state), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = json.loads((Path(checkpoint) / "optimizer.json").read_text(encoding="utf-8"))
        tensors = load_file(Path(checkpoint) / "optimizer.safetensors")
        self.optimizer.load_state_dict(unpack_state(tensors, state["optimizer"]))
        self.lr_scheduler.load_state_dict(state["schedule"])

    def _save_rng_state(self, output_dir: str) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        kind, keys, position, has_gauss, cached = np.random.get_state()
        tensors = {"cpu": torch.random.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
        if torch.cuda.is_available():
            tensors["cuda"] = torch.cuda.random.get_rng_state()
        name = f"random-{self.args.process_index}"
        save_file(tensors, Path(output_dir) / f"{name}.safetensors")
        rest = {"python": random.getstate(), "numpy": [str(kind), int(position), int(has_gauss), float(cached)]}
        (Path(output_dir) / f"{name}.json").write_text(json.dumps(rest), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint) / f"random-{self.args.process_index}.safetensors"
        if not path.is_file():  # another number of processes than before: the streams differ anyway
            return
        tensors = load_file(path)
        rest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        version, internal, gauss = rest["python"]
        random.setstate((version, tuple(internal), gauss))
        kind, position, has_gauss, cached = rest["numpy"]
        np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
        torch.random.set_rng_state(tensors["cpu"])
        if "cuda" in tensors and torch.cuda.is_available():
            torch.cuda.random.set_rng_state(tensors["cuda"])


def pack_state(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state_dict as named tensors ("3.exp_avg") and JSON."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def unpack_state(tensors: Mapping[str, torch.Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `pack_state`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["numbers"]}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": rest["groups"]}
