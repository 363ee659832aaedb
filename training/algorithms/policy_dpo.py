"""Pessimistic DPO (M14) on TRL's DPOTrainer: the same trainer, collator and reference, another logit.

    logit = kl_weight [ log-ratio(a_w) - log-ratio(a_l) ] + Gamma(x,a_w) - Gamma(x,a_l)
    loss  = -log sigma( rho logit )                                                             (M14)

A tie counts half for each side. With radius 0, rho 1 and no ties this is TRL's DPO, number for number. Gamma of a
pair is computed once, before training, and travels as a column of the data.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.state import PartialState
from accelerate.utils.modeling import is_peft_model
from datasets.arrow_dataset import Dataset
from datasets.utils.tqdm import disable_progress_bars
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.utils import add_fused_lm_head, use_adapter

from training.algorithms.batching import plan_groups, take_rows
from training.algorithms.checkpoints import Durable
from training.algorithms.config import TrainingConfig
from training.algorithms.data import Preference
from training.algorithms.durability import run_trainer
from training.algorithms.language_model import load_tokenizer, lora, prepare_base, trainer_arguments
from training.algorithms.policy import Fitted, Job, is_main_process, process_count

COLUMNS = ("margin", "rationality", "target", "weight")
SILENT = 1e-9  # a margin of Gamma below this is none: the midpoint of two responses leaves rounding
CPU_PRICE, GPU_PRICE = 48, 3072  # tokens of work that one more pass through the model is worth; the GPU is an estimate


def pessimistic_loss(
    log_ratio: torch.Tensor,
    *,
    kl_weight: float,
    margin: torch.Tensor,
    rationality: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """The loss (M14) of each pair.

    log_ratio    (b,)  log-ratio(a_w) - log-ratio(a_l), policy against reference
    margin       (b,)  Gamma(x,a_w) - Gamma(x,a_l)
    rationality  (b,)  rho of the teacher, > 0
    target       (b,)  1, or 1/2 for a tie
    weight       (b,)
    returns      (b,)  >= 0
    """
    logit = rationality * (kl_weight * log_ratio + margin)
    return -weight * (target * F.logsigmoid(logit) + (1 - target) * F.logsigmoid(-logit))


class PreferenceCollator(DataCollatorForPreference):
    """TRL's collator, and our four columns as float32 vectors."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        for name in COLUMNS:
            batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        batch["lengths"] = batch["attention_mask"].sum(dim=1).tolist()  # while it is still on the host
        return batch


class PessimisticDPOTrainer(Durable, DPOTrainer):
    """DPOTrainer with the loss of (M14), and no more work in a step than the loss needs.

    TRL gathers a dozen metrics across processes in every forward pass, each a wait for the device; here a step leaves
    its metrics on the device, and they are gathered when they are logged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = self.model.get_base_model() if is_peft_model(self.model) else self.model
        add_fused_lm_head(model, outputs=("log_probs",))  # without the entropy and top-1 that TRL only reports
        self._kept: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.tokens = 0

    @property
    def is_grouped(self) -> bool:
        return bool(self.accelerator.num_processes == 1 and not self.is_fsdp_enabled)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if not set(COLUMNS) <= set(self._signature_columns):
            self._signature_columns = [*self._signature_columns, *COLUMNS]

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        prepared: Any = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if len(prepared) == 0:
            raise ValueError(f"every prompt fills max_length ({args.max_length} tokens): raise max_length")
        return prepared

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        score = super().compute_ref_log_probs
        return self._in_groups(inputs, lambda rows: torch.cat(score(model, rows))).chunk(2)

    def _in_groups(self, inputs: Mapping[str, Any], score: Callable[[Mapping[str, Any]], torch.Tensor]) -> torch.Tensor:
        """(2b,) score of every row, rows of like length together.

        Several processes take the batch whole: a wrapped model wants one forward pass to one backward pass.
        """
        lengths = inputs["lengths"]
        price = GPU_PRICE if self.accelerator.device.type == "cuda" else CPU_PRICE
        groups = plan_groups(lengths, price=price) if self.is_grouped else [list(range(len(lengths)))]
        if len(groups) == 1:
            return score({name: inputs[name] for name in ("input_ids", "attention_mask", "completion_mask")})
        scores = [score(take_rows(inputs, rows, length=lengths[rows[0]])) for rows in groups]
        order = torch.tensor([row for rows in groups for row in rows], device=scores[0].device)
        return torch.cat(scores)[torch.argsort(order)]

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any], return_outputs: bool) -> Any:
        policy = self._in_groups(inputs, lambda rows: _sequence_log_probs(model, rows))
        if self.precompute_ref_logps:
            reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        else:
            reference = self._reference_log_probs(inputs)
        chosen, rejected = (policy - reference).chunk(2)
        losses = pessimistic_loss(chosen - rejected, kl_weight=self.beta, **{name: inputs[name] for name in COLUMNS})
        loss = losses.mean()
        self._keep(chosen.detach(), rejected.detach(), inputs)
        return (loss, {"losses": losses.detach()}) if return_outputs else loss

    def _reference_log_probs(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.ref_model is not None:
                return self._in_groups(inputs, lambda rows: _sequence_log_probs(self.ref_model, rows))
            unwrapped = self.accelerator.unwrap_model(self.model)
            with use_adapter(unwrapped, adapter_name=None):
                return self._in_groups(inputs, lambda rows: _sequence_log_probs(self.model, rows))

    def _keep(self, chosen: torch.Tensor, rejected: torch.Tensor, inputs: Mapping[str, Any]) -> None:
        """Metrics of one forward pass, left on the device. `kl` is mean(log pi0 - log pi) over the data's responses:
        it estimates KL(pi0 || pi) as far as the responses look like the reference's; the evaluation samples properly.
        """
        kept = self._kept
        kept["rewards/chosen"].append(self.beta * chosen.mean())
        kept["rewards/rejected"].append(self.beta * rejected.mean())
        kept["rewards/margins"].append(self.beta * (chosen - rejected).mean())
        kept["rewards/accuracies"].append((chosen > rejected).float().mean())
        kept["pessimism"].append(inputs["margin"].mean())
        kept["kl"].append(-(chosen + rejected).mean() / 2)
        kept["tokens"].append(inputs["attention_mask"].sum().float())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._kept:
            names = list(self._kept)
            table = torch.stack([torch.stack(self._kept[name]).sum() for name in names])
            count = len(self._kept[names[0]])
            self._kept.clear()
            total = self.accelerator.reduce(table, reduction="sum").tolist()
            figures = dict(zip(names, total, strict=True))
            self.tokens += int(figures.pop("tokens"))
            prefix = "" if self.model.training else "eval_"
            share = 1 / (count * self.accelerator.num_processes)
            logs |= {f"{prefix}{name}": value * share for name, value in figures.items()}
            logs["num_tokens"] = self.tokens
        super().log(logs, start_time)


def _sequence_log_probs(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """(2b,) log-probability of each response given its prompt: the chosen ones first, then the rejected."""
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    output = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=labels,
        use_cache=False,
        fused_lm_head=True,
    )
    total: torch.Tensor = output.log_probs.sum(dim=1)
    return total


def preference_rows(job: Job, preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Rows in TRL's conversational format with the columns of (M14). Gamma is computed here, once."""
    plain = job.config.method == "dpo"
    rows = []
    for row in preferences:
        if plain and row.target == 0.5:
            continue  # plain DPO knows no ties
        reference = job.data.reference_of(row)
        gamma = job.confidence.penalties(
            torch.stack([torch.as_tensor(row.chosen_features), torch.as_tensor(row.rejected_features)]).double().numpy()
            - reference
        )
        rows.append(
            {
                "prompt": _messages(row.prompt),
                "chosen": _messages(row.chosen),
                "rejected": _messages(row.rejected),
                "margin": 0.0 if plain else float(gamma[0] - gamma[1]),
                "rationality": 1.0 if plain else float(row.rationality),
                "target": 1.0 if plain else float(row.target),
                "weight": 1.0 if plain else float(row.weight),
            }
        )
    if not rows:
        raise ValueError("there are no preferences to train on")
    return rows


def dpo_arguments(config: TrainingConfig, folder: Path) -> DPOConfig:
    """TRL's settings of a run: kl_weight is what TRL calls beta."""
    return DPOConfig(
        **trainer_arguments(config, folder),
        beta=config.kl_weight,
        max_length=config.max_length,
        precompute_ref_log_probs=config.precompute_reference,
        loss_type=["sigmoid"],
    )


def fit(job: Job) -> Fitted:
    """pessimistic_dpo, and dpo: the control without margin, rationality, ties."""
    rows = preference_rows(job, job.data.preferences)
    silent = sum(abs(row["margin"]) < SILENT for row in rows) / len(rows)
    return fit_rows(job, rows, notes={} if job.config.method == "dpo" else {"silent": silent})


def fit_rows(job: Job, rows: Sequence[Mapping[str, Any]], *, notes: Mapping[str, float] | None = None) -> Fitted:
    """Train on prepared rows; RSO comes in here with rows of its own."""
    disable_progress_bars()
    base = prepare_base(job.config, job.folder)
    tokenizer = load_tokenizer(base)

    def build(config: TrainingConfig) -> PessimisticDPOTrainer:
        arguments = dpo_arguments(config, job.folder)
        return PessimisticDPOTrainer(
            model=str(base),
            args=arguments,
            train_dataset=_dataset(rows, job.folder / "rows"),
            processing_class=tokenizer,
            data_collator=PreferenceCollator(
                pad_token_id=tokenizer.pad_token_id, max_length=config.max_length, truncation_mode="keep_start"
            ),
            peft_config=lora(config),
        )

    steps = run_trainer(job, build)
    return Fitted(
        model=job.folder / "model", reference=base, steps=steps, notes={"rows": float(len(rows)), **(notes or {})}
    )


def _dataset(rows: Sequence[Mapping[str, Any]], folder: Path) -> Dataset:
    """The rows as TRL takes them. Processes that share a run must share the folder too in which TRL caches the
    reference's scores: a data set in memory has one per process.
    """
    if process_count() == 1:
        return Dataset.from_list([dict(row) for row in rows])
    with PartialState().main_process_first():
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)
            Dataset.from_list([dict(row) for row in rows]).save_to_disk(str(folder))
    return Dataset.load_from_disk(str(folder))


def _messages(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in messages]
