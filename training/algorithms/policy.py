"""The one interface of all policies: a job in, a fitted policy out."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from activelearning.algorithms.pessimism import ConfidenceSet
from activelearning.algorithms.types import Floats, Singles
from training.algorithms.config import TrainingConfig, out_of_time
from training.algorithms.data import Message, TrainingData
from training.algorithms.journal import Journal


class Cancelled(Exception):
    """Somebody asked the run to stop. Its last checkpoint is kept."""


class TimeLimitReached(Exception):
    """The run used up its time. Its last checkpoint is kept: start it again with more."""


class OutOfMemory(Exception):
    """The model does not fit, with half the batch neither."""


class Diverged(Exception):
    """Loss, gradient or weights are no numbers any more."""

    def __init__(self, said: str = "") -> None:
        super().__init__(said or "The training diverged. Start a run with a lower learning rate or more warm-up steps.")


def is_main_process() -> bool:
    """True in the one process of a run that writes; torch's launchers number the others from 1."""
    return int(os.environ.get("RANK", "0")) == 0


def process_count() -> int:
    """How many processes share the run, as torch's launchers say; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class TextEncoder(Protocol):
    """What turns texts into vectors; `activelearning.algorithms.features.Encoder` is one."""

    def encode(self, texts: Sequence[str], /) -> Singles: ...


@dataclass(frozen=True)
class Job:
    """What a policy is fitted from. `folder` is the run's own: checkpoints, metrics and the policy lie in it."""

    config: TrainingConfig
    data: TrainingData
    folder: Path
    confidence: ConfidenceSet
    journal: Journal
    should_stop: Callable[[], bool]
    encoder: TextEncoder
    identity: dict[str, str]
    started: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """raises Cancelled or TimeLimitReached, where the run has to end now"""
        if self.should_stop():
            raise Cancelled("the run was cancelled")
        limit = self.config.time_limit_seconds
        if limit and time.monotonic() - self.started > limit:
            raise TimeLimitReached(out_of_time(limit))


@dataclass(frozen=True)
class Choice:
    """A policy's answer to one prompt: response `index` of those it had.

    responses  messages of the k responses
    offsets    (k, d) float64  phi - v of each
    """

    conversation: str
    names: Sequence[str]
    responses: Sequence[Sequence[Message]]
    offsets: Floats
    index: int

    @property
    def offset(self) -> Floats:
        """(d,) phi - v of the answer."""
        return np.asarray(self.offsets[self.index], dtype=np.float64)

    def to_json(self, confidence: ConfidenceSet) -> dict[str, Any]:
        """The answer and what the reward says of it: mean, penalty (radius times width), lower bound."""
        row = self.offset[None]
        return {
            "conversation": self.conversation,
            "name": self.names[self.index],
            "response": [dict(message) for message in self.responses[self.index]],
            "mean": float(confidence.means(row)[0]),
            "penalty": float(confidence.penalties(row)[0]),
            "lower": float(confidence.lower(row)[0]),
        }


@dataclass(frozen=True)
class Fitted:
    """What a policy's module returns.

    model      folder of the trained language model, or None for a policy that only chooses
    reference  folder of the model it started from, or None
    choices    answers to the prompts of the candidates, for a policy that only chooses
    steps      optimizer steps taken
    notes      figures of its own for the manifest (acceptance, pairs made)
    """

    model: Path | None = None
    reference: Path | None = None
    choices: Sequence[Choice] = ()
    steps: int = 0
    notes: dict[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """A policy is one function of this shape: `fit` of policy_rerank, policy_dpo, policy_rso, policy_gradient."""

    def __call__(self, job: Job) -> Fitted: ...
