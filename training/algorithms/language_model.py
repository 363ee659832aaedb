"""The language model's side of a run: where the base lies, how it is loaded, and what a Trainer is told."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from training.algorithms import tiny
from training.algorithms.config import TrainingConfig

disable_progress_bar()

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ':\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\\n' }}{% endif %}"
)
"""Prompts end in a newline: byte-level tokenizers join a space to the word after it, so that a prompt that ends in a
space has other tokens before an answer that is sampled than before the same answer in training."""


def prepare_base(config: TrainingConfig, folder: Path) -> Path:
    """The folder or hub id of the base model; `tiny` is made below the run's folder, from the run's seed."""
    if config.base_model == tiny.NAME:
        return tiny.save_tiny(folder / "base", seed=config.seed)
    return Path(config.base_model)


def load_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the left; a base without a chat template gets a plain one.

    raises  ValueError  it has no end mark
    """
    tokenizer = AutoTokenizer.from_pretrained(str(base), padding_side="left", trust_remote_code=False)
    if tokenizer.eos_token is None:
        raise ValueError(
            f"the tokenizer of {base} has no end mark (eos_token), so that no answer would ever end: choose another "
            "base model, or name the mark in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_model(base: Path, *, dtype: torch.dtype = torch.float32, device: str | None = None) -> PreTrainedModel:
    """The model's weights, from safetensors only; remote code is never run."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(base), dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    loaded: PreTrainedModel = model.to(device or default_device()).eval()
    return loaded


def default_device() -> str:
    """This process's GPU when there is one."""
    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    return "cpu"


def is_bf16(config: TrainingConfig) -> bool:
    """Whether to compute in bfloat16: as asked, and by default on a GPU that is made for it."""
    if config.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bf16"


def inference_dtype(config: TrainingConfig) -> torch.dtype:
    return torch.bfloat16 if is_bf16(config) else torch.float32


def lora(config: TrainingConfig) -> Any:
    """peft's configuration of the adapters on every linear layer but the head, or None to train all weights."""
    if config.lora_rank == 0:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def trainer_arguments(config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """What every TRL trainer of ours is told. Checkpoints and logs are asked for by our own callback."""
    return {
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulation,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": is_bf16(config),
        "use_cpu": not torch.cuda.is_available(),
        "seed": config.seed,
        "data_seed": config.seed,
        "save_strategy": "no",
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "optim": "adamw_torch_fused" if torch.cuda.is_available() else "adamw_torch",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "model_init_kwargs": {"dtype": _training_dtype(config), "use_safetensors": True},
    }


def _training_dtype(config: TrainingConfig) -> str:
    """Full training keeps float32 weights under bf16 autocast; frozen weights below LoRA may be bf16 themselves."""
    return "bfloat16" if config.lora_rank and is_bf16(config) else "float32"


def limit_memory(config: TrainingConfig) -> None:
    """Hold this process to its share of the accelerator; beyond it torch raises as if the memory were full."""
    if config.memory_limit_gib and torch.cuda.is_available():
        device = default_device()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, config.memory_limit_gib * 2**30 / total), device)
