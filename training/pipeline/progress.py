"""What a run says, kept as rows: written together about once a second, and again later when the database is busy."""

import math
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import structlog
from django.db import DatabaseError, close_old_connections

from training.algorithms.journal import read_metrics
from training.models import Run, RunMetric
from training.services import work as services

logger = structlog.get_logger()

EVERY = 1.0  # seconds between writes
STAGES = {
    "start": "Getting ready",
    "train": "Training",
    "generate": "Generating responses",
    "evaluate": "Evaluating",
    "done": "Saving",
}


class LostHold(Exception):
    """Another worker holds the run by now: this process has nothing more to say."""


class Progress:
    """`report` for training.algorithms.run.train: metrics become rows of the run.

    raises  LostHold  when the run's row is no longer this holder's
    """

    def __init__(self, run: Run, *, holder: uuid.UUID) -> None:
        self.run, self.holder = run, holder
        self._waiting: dict[tuple[str, int], dict[str, float | str]] = {}
        self._stage, self._step, self._steps = "", run.step, run.steps
        self._written = 0.0

    def __call__(self, metrics: Mapping[str, float | str]) -> None:
        stage = str(metrics.get("stage", "train"))
        if stage == "notice":
            print(metrics.get("notice", ""), flush=True)
            return
        changed = stage != self._stage
        self._stage = stage
        if "step" in metrics:
            self._step, self._steps = int(metrics["step"]), int(metrics.get("steps", self._steps))
        self._waiting[(stage, int(metrics.get("step", 0)))] = _numbers(metrics)
        if changed or time.monotonic() - self._written >= EVERY:
            self.write()

    def catch_up(self, folder: Path) -> None:
        """Rows for what an earlier attempt wrote to its file and died before it told the database."""
        known = set(RunMetric.objects.filter(run=self.run, stage="train").values_list("step", flat=True))
        for metrics in read_metrics(folder):
            if metrics.get("stage") == "train" and metrics.get("step") not in known:
                self._waiting[("train", int(metrics["step"]))] = _numbers(metrics)

    def say(self, stage: str) -> None:
        """A stage outside of `train`, in words."""
        self._stage = stage
        self.write()

    def write(self) -> None:
        """Write what waits; kept for later when the database is busy."""
        self._written = time.monotonic()
        rows = [
            RunMetric(run=self.run, stage=stage, step=step, values=values)
            for (stage, step), values in self._waiting.items()
        ]
        stage = STAGES.get(self._stage, self._stage)
        try:
            is_held = services.advance(self.run, holder=self.holder, stage=stage, step=self._step, steps=self._steps)
            if not is_held:
                raise LostHold
            RunMetric.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["run", "stage", "step"], update_fields=["values"]
            )
        except DatabaseError as error:
            logger.warning("progress waits", run=str(self.run.code), error=str(error))
            close_old_connections()
            return
        self._waiting.clear()


def _numbers(metrics: Mapping[str, float | str]) -> dict[str, float | str]:
    """What goes into the row: JSON has no word for what is not finite."""
    return {
        name: value
        for name, value in metrics.items()
        if name not in ("stage", "step", "steps") and (not isinstance(value, float) or math.isfinite(value))
    }
