"""What a run is told: one frozen dataclass, JSON in and out, so that a row, a folder and a page hold the same."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from activelearning.algorithms.pessimism import DELTA

METHODS = ("rerank", "best_of_n", "dpo", "pessimistic_dpo", "rso", "policy_gradient")
GENERATIVE = ("best_of_n", "dpo", "pessimistic_dpo", "rso", "policy_gradient")
PRECISIONS = ("auto", "bf16", "float32")
PARALLEL = ("ddp", "fsdp")
AT_LEAST_ZERO = (
    "max_steps",
    "warmup_steps",
    "lora_rank",
    "lora_alpha",
    "reference_samples",
    "evaluation_prompts",
    "checkpoint_steps",
    "time_limit_seconds",
    "memory_limit_gib",
)


@dataclass(frozen=True)
class TrainingConfig:
    """Every choice of a run. The data (labels, theta, H) is not here: it is frozen in the label set."""

    method: str = "pessimistic_dpo"
    """How the policy is made: rerank, best_of_n, dpo, pessimistic_dpo, rso or policy_gradient."""
    base_model: str = "tiny"
    """Causal language model to start from and stay near: a hub id, a path, or `tiny` (made on the spot)."""
    encoder: str = "minilm"
    """Frozen encoder behind phi, for texts that the run itself generates: `minilm`, a hub id or a path."""

    delta: float = DELTA
    """The confidence set (M11) misses theta* with at most this probability, asymptotically; in (0, 1)."""
    radius: float | None = None
    """Radius of the confidence set by hand, >= 0; None computes it from delta. 0 is the plain method."""
    kl_weight: float = 0.1
    """Price of leaving the reference, > 0: DPO's and RSO's temperature, the KL penalty of the policy gradient."""

    epochs: float = 1.0
    """Passes over the preferences (or prompts), > 0; ignored when max_steps is given."""
    max_steps: int = 0
    """Optimizer steps, or 0 for what `epochs` makes."""
    batch_size: int = 8
    """Preferences on one device in one forward pass, >= 1."""
    accumulation: int = 1
    """Forward passes to one optimizer step, >= 1."""
    learning_rate: float = 5e-6
    """Peak of the schedule, > 0. LoRA and `tiny` like 1e-4 and more."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises, >= 0."""
    schedule: str = "linear"
    """What the learning rate does after: linear, cosine or constant."""
    max_length: int = 1024
    """Tokens of prompt and response together, >= 16; longer ones lose the end of a given response, or the beginning of
    a prompt that is to be answered."""
    lora_rank: int = 0
    """Rank of the LoRA adapters, or 0 to train every weight."""
    lora_alpha: int = 0
    """Scale of the LoRA adapters; 0 means twice the rank."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory for about a fifth more time."""
    precision: str = "auto"
    """auto (bf16 where the device is fast in it, else float32), bf16 or float32."""
    precompute_reference: bool = True
    """Score the data under the reference once before training, and hold no second model."""
    parallel: str = "ddp"
    """How several GPUs share a run: ddp (the whole model on each) or fsdp (in shards over all; needs several)."""
    seed: int = 0
    """Seeds the order of the data, adapters, samples."""

    samples: int = 4
    """Responses generated per prompt (best_of_n, rso, policy_gradient, evaluation), >= 2."""
    temperature: float = 1.0
    """Temperature of the samples, > 0."""
    max_new_tokens: int = 128
    """Longest generated response in tokens, >= 1."""
    reference_samples: int = 0
    """Samples of the base model whose mean feature is the reference feature v; 0 takes the given candidates'."""
    evaluation_prompts: int = 16
    """Prompts on which a generative policy is compared with its reference, held-out ones first, >= 0."""

    checkpoint_seconds: float = 180.0
    """Seconds between checkpoints, > 0."""
    checkpoint_steps: int = 0
    """Steps between checkpoints, or 0 for time alone."""
    time_limit_seconds: float = 0.0
    """The run stops with a checkpoint after this long, or 0 for no limit."""
    memory_limit_gib: float = 0.0
    """Accelerator memory the process may take, in GiB, or 0 for all of it."""

    def __post_init__(self) -> None:
        rules = {
            f"method is one of {', '.join(METHODS)}": self.method in METHODS,
            "base_model names a model": bool(self.base_model),
            "delta lies strictly between 0 and 1": 0 < self.delta < 1,
            "radius is at least 0": self.radius is None or 0 <= self.radius < float("inf"),
            "kl_weight is positive": 0 < self.kl_weight < float("inf"),
            "epochs is positive": self.epochs > 0,
            "batch_size and accumulation are at least 1": self.batch_size >= 1 and self.accumulation >= 1,
            "learning_rate is positive": self.learning_rate > 0,
            "schedule is linear, cosine or constant": self.schedule in ("linear", "cosine", "constant"),
            "max_length is at least 16 tokens": self.max_length >= 16,
            "max_new_tokens is at least 1 and leaves room in max_length": 1 <= self.max_new_tokens < self.max_length,
            f"precision is one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
            f"parallel is one of {', '.join(PARALLEL)}": self.parallel in PARALLEL,
            "samples is at least 2": self.samples >= 2,
            "reference_samples is 0 or at least 2": self.reference_samples != 1,
            "temperature is positive": self.temperature > 0,
            "checkpoint_seconds is positive": self.checkpoint_seconds > 0,
            **{f"{name} is at least 0": getattr(self, name) >= 0 for name in AT_LEAST_ZERO},
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    @property
    def is_generative(self) -> bool:
        """True if the run needs a language model; rerank alone does not."""
        return self.method in GENERATIVE

    @property
    def is_silent_on_pairs(self) -> bool:
        """True if a prompt with exactly two responses is judged as without pessimism.

        v is their midpoint then, both lie equally far from it, and the uncertainty taken off both is the same.
        """
        return self.method in ("rerank", "pessimistic_dpo") and self.radius != 0 and self.reference_samples == 0

    def halved(self) -> Self:
        """The same optimizer step in half the memory: half the batch, twice the accumulation.

        raises  ValueError  the batch is 1 or odd: halving it would change the step
        """
        if self.batch_size % 2:
            raise ValueError(f"a batch of {self.batch_size} cannot be halved")
        return dataclasses.replace(self, batch_size=self.batch_size // 2, accumulation=self.accumulation * 2)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """raises ValueError for a field that does not exist, or one out of its range"""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(unknown)}")
        return cls(**values)

    def digest(self) -> str:
        """sha256 of what decides the result; limits, checkpoint times and the split of the batch do not."""
        decides = self.to_json()
        for name in ("checkpoint_seconds", "checkpoint_steps", "time_limit_seconds", "memory_limit_gib"):
            del decides[name]
        decides["batch_size"] = decides["batch_size"] * decides.pop("accumulation")
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def out_of_time(seconds: float) -> str:
    """What is said of a run that had its time: by the run, or by whoever finds it so, with no model at hand."""
    return f"The run reached its limit of {seconds:g} s. Resume with a longer limit: the last checkpoint is kept."
