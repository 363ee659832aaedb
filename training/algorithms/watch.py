"""The callback that watches a Trainer: metrics out, stop and time limit in, checkpoints by the clock."""

import math
import time
from typing import Any

import torch
from accelerate.utils.operations import broadcast_object_list
from transformers import TrainerCallback

from training.algorithms.policy import Cancelled, Diverged, Job, TimeLimitReached, process_count

NAMES = {
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "accuracy",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "kl": "kl",
    "pessimism": "pessimism",
    "reward": "reward",
    "completions/mean_length": "length",
}


class Watch(TrainerCallback):
    """Tells tokens per second from `num_tokens`, the running count that TRL's trainers log.

    What the clock and the caller decide is decided by the main process and told to the others, so that all of them
    save, stop and wait at the same step.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reason: Exception | None = None
        self._saved = time.monotonic()
        self._logged = time.monotonic()
        self._tokens = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved = self._logged = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        config = self.job.config
        wants_stop, wants_save = False, False
        try:
            self.job.check()
        except (Cancelled, TimeLimitReached) as reason:
            self.reason, wants_stop = reason, True
        wants_save = time.monotonic() - self._saved >= config.checkpoint_seconds
        if process_count() > 1:
            wishes = [wants_stop, wants_save]
            broadcast_object_list(wishes, from_process=0)
            wants_stop, wants_save = wishes
            if wants_stop and self.reason is None:
                self.reason = Cancelled("the run was stopped by its main process")
        if config.checkpoint_steps and state.global_step % config.checkpoint_steps == 0:
            wants_save = True
        if wants_stop:
            control.should_training_stop = True
        # Not after the last step: a Trainer that resumes from there takes one step too many, and the model comes next.
        if (wants_save or wants_stop) and state.global_step < state.max_steps:
            control.should_save = True
            self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or "loss" not in logs or not state.is_world_process_zero:
            return
        if not all(math.isfinite(logs[name]) for name in ("loss", "grad_norm") if name in logs):
            raise Diverged
        now = time.monotonic()
        metrics: dict[str, float | str] = {"stage": "train", "step": state.global_step, "steps": state.max_steps}
        metrics |= {ours: float(logs[theirs]) for theirs, ours in NAMES.items() if theirs in logs}
        tokens = float(logs.get("num_tokens", 0.0))
        if tokens > self._tokens:
            metrics["tokens_per_second"] = (tokens - self._tokens) / max(now - self._logged, 1e-9)
        if torch.cuda.is_available():
            metrics["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._logged, self._tokens = now, tokens
        self.job.journal.write(metrics)
