"""Policy gradient with the lower confidence bound as reward: TRL's RLOO, which keeps KL(pi || pi_0) in the reward.

    maximise  E_{a ~ pi}[ lcb(x,a) ] - kl_weight KL(pi || pi_0)

RLOO (2402.14740) rather than GRPO: its baseline, the mean of the other samples, leaves the gradient unbiased, while
GRPO divides by the group's spread and so changes what kl_weight means from prompt to prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from accelerate.utils.modeling import is_peft_model
from datasets.arrow_dataset import Dataset
from torch.utils.data import Sampler
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from activelearning.algorithms.features import render_text
from training.algorithms.checkpoints import Durable
from training.algorithms.config import TrainingConfig
from training.algorithms.durability import run_trainer
from training.algorithms.generation import without_own_defaults
from training.algorithms.language_model import load_tokenizer, lora, prepare_base, trainer_arguments
from training.algorithms.policy import Fitted, Job, process_count


class EpochSampler(Sampler[int]):
    """TRL's sampler with an order that depends on the epoch alone, so that a resumed run meets the prompts that it
    would have met. TRL's own draws each epoch's order from where the last one left its generator.
    """

    def __init__(self, plain: Any, *, seed: int, epoch: Callable[[], int]) -> None:
        self.plain, self.seed, self.epoch = plain, seed, epoch

    def __iter__(self) -> Iterator[int]:
        self.plain.generator.manual_seed(self.seed + self.epoch())
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


class DurableRLOOTrainer(Durable, RLOOTrainer):
    """TRL's RLOO with our checkpoints. A resumed run generates anew with the random state it left off with.

    Completions are samples of pi, as the gradient has it: TRL sets the usual filters and penalties of the model's
    generation_config aside, not all. Prompts of more than `room` tokens lose their beginning: TRL knows no max_length.
    """

    def __init__(self, *args: Any, room: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.room = room

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], Any, Any]:
        ids, *others = super()._tokenize_prompts(prompts)
        return [row[-self.room :] for row in ids], *others

    def _generate_single_turn(self, *inputs: Any) -> Any:
        with without_own_defaults(self.model.get_base_model() if is_peft_model(self.model) else self.model):
            return super()._generate_single_turn(*inputs)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        plain = super()._get_train_sampler(dataset)
        return EpochSampler(plain, seed=self.args.seed, epoch=lambda: int((self.state.epoch or 0.0) + 1e-6))


class LowerBoundReward:
    """A reward function in TRL's sense: lcb(x,a) of every completion (M12)."""

    __name__ = "lcb"

    def __init__(self, job: Job) -> None:
        if job.data.projection is None:
            raise ValueError("a policy gradient scores new texts: it needs the projection of the campaign's features")
        self.job = job
        self.projection = job.data.projection

    def __call__(
        self,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        conversation: Sequence[str],
        **columns: Any,
    ) -> list[float | None]:
        """`columns` is what TRL passes besides: token ids, the trainer's state."""
        texts = [render_text([*prompt, *answer]) for prompt, answer in zip(prompts, completions, strict=True)]
        references = np.stack([self.job.data.reference_features[name] for name in conversation])
        offsets = self.projection(self.job.encoder.encode(texts)) - references
        return [float(value) for value in self.job.confidence.lower(offsets)]


def fit(job: Job) -> Fitted:
    """policy_gradient: `samples` completions of each prompt make a group; batch_size counts completions.

    raises  ValueError  batch_size * accumulation * processes is not a multiple of `samples`
    """
    reward = LowerBoundReward(job)
    group = job.config.batch_size * job.config.accumulation * process_count()
    if group % job.config.samples:
        raise ValueError(
            f"a step of {group} completions does not hold whole groups of {job.config.samples}: "
            "make batch_size times accumulation a multiple of samples"
        )
    rows = [
        {"prompt": [dict(message) for message in prompt.prompt], "conversation": prompt.conversation}
        for prompt in job.data.training_prompts
    ]
    if len(rows) < group // job.config.samples:
        raise ValueError(f"a step takes {group // job.config.samples} prompts and there are {len(rows)}")
    base = prepare_base(job.config, job.folder)
    tokenizer = load_tokenizer(base)

    def build(config: TrainingConfig) -> DurableRLOOTrainer:
        return DurableRLOOTrainer(
            model=str(base),
            reward_funcs=reward,
            args=_arguments(config, job),
            room=config.max_length - config.max_new_tokens,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=lora(config),
        )

    return Fitted(model=job.folder / "model", reference=base, steps=run_trainer(job, build))


def _arguments(config: TrainingConfig, job: Job) -> RLOOConfig:
    return RLOOConfig(
        **trainer_arguments(config, job.folder),
        beta=config.kl_weight,
        num_generations=config.samples,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
    )
