"""Running a Trainer to its end: resume from the last whole checkpoint, shrink once when memory is out, save.

Several processes (accelerate launch) run this together; what is written is written by the main one.
"""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import GenerationConfig, PrinterCallback

from training.algorithms.checkpoints import DiskFull, is_disk_full, latest_checkpoint
from training.algorithms.config import TrainingConfig
from training.algorithms.policy import Diverged, Job, OutOfMemory, process_count
from training.algorithms.watch import Watch


def run_trainer(job: Job, build: Callable[[TrainingConfig], Any]) -> int:
    """Build a trainer, run it from its last checkpoint, leave the model in folder/model; returns optimizer steps.

    Out of memory is answered once, by the same optimizer step in two halves. Under several processes the other
    processes would wait for ever for the one that failed, so there the run ends and its parent starts it again with
    `config.halved()`.
    raises  Cancelled, TimeLimitReached (a checkpoint was saved), OutOfMemory, DiskFull, Diverged, artifact.Refused
    """
    config = job.config
    try:
        return _run(job, config, build)
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        if process_count() > 1:
            raise OutOfMemory(f"a batch of {config.batch_size} does not fit: {reason}") from error
        try:
            config = config.halved()
        except ValueError as odd:
            raise OutOfMemory(f"{odd}, and it does not fit: {reason}") from error
    _free()
    job.journal.write({"stage": "notice", "notice": f"out of memory: trying again with a batch of {config.batch_size}"})
    try:
        return _run(job, config, build)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"a batch of {config.batch_size} does not fit either: {error}".splitlines()[0]) from error


def _run(job: Job, config: TrainingConfig, build: Callable[[TrainingConfig], Any]) -> int:
    state = PartialState()
    checkpoint: Path | None = None
    with state.main_process_first():
        checkpoint, refused = latest_checkpoint(
            job.folder / "checkpoints", expect=job.identity, sharded=state.distributed_type.name == "FSDP"
        )
    for reason in refused:
        job.journal.write({"stage": "notice", "notice": f"refused a checkpoint: {reason}"})
    trainer = build(config)
    trainer.identity = job.identity
    _make_savable(trainer.model.generation_config)
    watch = Watch(job)
    trainer.add_callback(watch)
    trainer.remove_callback(PrinterCallback)
    if checkpoint is not None:
        job.journal.write({"stage": "notice", "notice": f"resumed from {checkpoint.name}"})
    job.journal.rewind(0 if checkpoint is None else int(checkpoint.name.split("-")[-1]))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if watch.reason is not None:
        raise watch.reason
    if not all(torch.isfinite(weights).all() for weights in trainer.model.parameters()):
        raise Diverged
    steps = int(trainer.state.global_step)
    _save(trainer, job.folder / "model")
    del trainer
    _free()
    return steps


def _make_savable(defaults: GenerationConfig) -> None:
    """Say do_sample where a base states a temperature or a filter without it, as many do: once a trainer has added the
    tokenizer's marks, transformers would refuse to save the model, at the end of the training.

    raises  ValueError  it is refused for something else
    """
    try:
        defaults.validate(strict=True)
    except ValueError:
        defaults.do_sample = True
        defaults.validate(strict=True)


def _save(trainer: Any, folder: Path) -> None:
    """The trained weights in transformers' format, adapters merged into their base, with the tokenizer."""
    is_main = trainer.accelerator.is_main_process
    try:
        if is_main:
            shutil.rmtree(folder, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
        if trainer.is_fsdp_enabled:
            _gather(trainer, folder)
        elif is_main:
            model = trainer.accelerator.unwrap_model(trainer.model)
            merged = model.merge_and_unload() if isinstance(model, PeftModel) else model
            merged.save_pretrained(folder)
        if is_main:
            trainer.processing_class.save_pretrained(folder)
            (folder / "training_args.bin").unlink(missing_ok=True)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFull(f"no room for the trained model: {error}") from error
        raise
    trainer.accelerator.wait_for_everyone()


def _gather(trainer: Any, folder: Path) -> None:
    """Shards of all processes into one model; adapters are merged by the main process, on its CPU."""
    trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process and (folder / "adapter_config.json").is_file():
        adapted = AutoPeftModelForCausalLM.from_pretrained(str(folder))
        shutil.rmtree(folder)
        adapted.merge_and_unload().save_pretrained(folder)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
