"""Is pessimistic DPO as fast as TRL's own DPO, everything counted?

    python -m benchmarks.training_speed [--quick] [--model tiny|qwen3-0.6b] [--steps N] [--batch N] [--rounds N]

The same model, data, batches, precision and settings on both sides, in one process, in alternating rounds; each round
is timed from the raw rows to the last optimizer step, so Gamma, tokenizing and the precomputed reference are all in
it. On the CPU with `tiny`; on a GPU with a randomly initialised model of the shape of Qwen3-0.6B. A third trainer,
TRL as it comes (the reference scored in every step), shows what precomputing gives over several epochs. Checkpoints
are off. The last line is JSON.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from datasets.arrow_dataset import Dataset
from datasets.utils.tqdm import disable_progress_bars
from transformers import PrinterCallback
from trl.trainer.dpo_trainer import DPOTrainer

from training.algorithms.config import TrainingConfig
from training.algorithms.data import Candidates, Preference, TrainingData
from training.algorithms.journal import Journal
from training.algorithms.language_model import is_bf16, load_tokenizer
from training.algorithms.policy import Job
from training.algorithms.policy_dpo import PessimisticDPOTrainer, PreferenceCollator, dpo_arguments, preference_rows
from training.algorithms.tiny import build_tokenizer, save_tiny

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12}
WIDTH = 32


def make_data(pairs: int, *, words: int, seed: int = 0) -> TrainingData:
    """Preferences of spoken length: log-normal numbers of words, four responses to a prompt."""
    rng = np.random.default_rng(seed)
    vocabulary = ["measure", "the", "river", "slowly", "and", "report", "what", "it", "carries", "to", "sea", "today"]

    def text(mean: float) -> str:
        count = int(np.clip(rng.lognormal(np.log(mean), 0.5), 2, 6 * mean))
        return " ".join(vocabulary[index] for index in rng.integers(len(vocabulary), size=count))

    theta = rng.normal(size=WIDTH)
    candidates, preferences = [], []
    for number in range((pairs + 1) // 2):
        prompt = [{"role": "user", "content": text(words / 2)}]
        answers = [[{"role": "assistant", "content": text(words)}] for _ in range(4)]
        phi = rng.normal(size=(4, WIDTH))
        candidates.append(Candidates(f"c{number}", prompt, answers, [str(i) for i in range(4)], phi))
        for a, b in ((0, 1), (2, 3)):
            preferences.append(
                Preference(f"c{number}", prompt, answers[a], answers[b], phi[a], phi[b], rationality=1.0 + 0.1 * a)
            )
    z = np.stack([row.chosen_features - row.rejected_features for row in preferences])
    return TrainingData(
        preferences=preferences[:pairs],
        candidates=candidates,
        theta=theta,
        information=np.eye(WIDTH) + z.T @ z,
        ridge=1.0,
    )


def save_qwen(folder: Path) -> Path:
    """A randomly initialised model of the shape of Qwen3-0.6B (28 layers of 1024, 151,936 tokens), with byte tokens."""
    if not folder.exists():
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=151936,
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        Qwen3ForCausalLM(config).save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
    return folder


def train_ours(config: TrainingConfig, data: TrainingData, base: Path, folder: Path) -> Any:
    """From raw rows to the trained model with our trainer; Gamma is computed in here."""
    job = Job(
        config=config,
        data=data,
        folder=folder,
        confidence=data.confidence(delta=config.delta, radius=config.radius),
        journal=Journal(folder, lambda metrics: None),
        should_stop=lambda: False,
        encoder=_NoEncoder(),
        identity={},
    )
    tokenizer = load_tokenizer(base)
    trainer = PessimisticDPOTrainer(
        model=str(base),
        args=dpo_arguments(config, folder),
        train_dataset=Dataset.from_list(preference_rows(job, data.preferences)),
        processing_class=tokenizer,
        data_collator=PreferenceCollator(pad_token_id=tokenizer.pad_token_id, max_length=config.max_length),
    )
    return _run(trainer)


def train_trl(config: TrainingConfig, data: TrainingData, base: Path, folder: Path) -> Any:
    """The same with TRL's trainer, which knows neither margins nor rationalities."""
    rows = [
        {"prompt": list(row.prompt), "chosen": list(row.chosen), "rejected": list(row.rejected)}
        for row in data.preferences
    ]
    trainer: Any = DPOTrainer(
        model=str(base),
        args=dpo_arguments(config, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base),
    )
    trainer.create_model_card = lambda *args, **kwargs: None
    return _run(trainer)


def train_trl_as_it_comes(config: TrainingConfig, data: TrainingData, base: Path, folder: Path) -> Any:
    """TRL with its default of scoring the reference in every step."""
    return train_trl(replace(config, precompute_reference=False), data, base, folder)


class _NoEncoder:
    def encode(self, texts: Sequence[str], /) -> Any:
        raise AssertionError("nothing is generated here")


def _run(trainer: Any) -> Any:
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


Trainer = Callable[[TrainingConfig, TrainingData, Path, Path], Any]


@dataclass(frozen=True)
class Round:
    """Wall and processor seconds from the rows to the last step, wall seconds in steps, tokens trained on."""

    seconds: float
    cpu: float
    in_steps: float
    tokens: int


def measure(train: Trainer, config: TrainingConfig, data: TrainingData, base: Path, folder: Path) -> Round:
    """One round in a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    _settle()
    started, worked = time.perf_counter(), time.process_time()
    trainer = train(config, data, base, folder)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    steps = float(trainer.state.log_history[-1]["train_runtime"])
    tokens = int(next(line["num_tokens"] for line in reversed(trainer.state.log_history) if "num_tokens" in line))
    del trainer
    return Round(seconds=seconds, cpu=cpu, in_steps=steps, tokens=tokens)


def peak_memory(train: Trainer, config: TrainingConfig, data: TrainingData, base: Path, folder: Path) -> float:
    """GiB at the peak of a short run: the GPU's own count, or on a CPU the growth of the resident set."""
    _settle()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        train(config, data, base, folder)
        return torch.cuda.max_memory_allocated() / 2**30
    process = psutil.Process()
    peak, done = [process.memory_info().rss], threading.Event()
    start = peak[0]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        train(config, data, base, folder)
    finally:
        done.set()
        thread.join()
    return float(peak[0] - start) / 2**30


def _settle() -> None:
    """Give back what earlier runs left, to the device and to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.synchronize()


def share_of_peak(tokens_per_second: float, weights: int, checkpointing: bool) -> float | None:
    """Share of the GPU's dense bf16 peak: 6 operations per weight and token, 8 where activations are recomputed."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    return None if peak is None else tokens_per_second * weights * (8 if checkpointing else 6) / peak


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="within 50 s on a CPU")
    parser.add_argument("--model", choices=("tiny", "qwen3-0.6b"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0)
    given = parser.parse_args(arguments)
    disable_progress_bars()
    on_gpu = torch.cuda.is_available()
    model = given.model or ("qwen3-0.6b" if on_gpu else "tiny")
    steps = given.steps or (6 if given.quick else 40)
    rounds = given.rounds or (3 if given.quick else 7)
    words = 60 if model != "tiny" else 12 if given.quick else 25
    config = TrainingConfig(
        base_model=model,
        max_steps=steps,
        batch_size=given.batch,
        max_length=1024,
        learning_rate=1e-5,
        max_new_tokens=64,
    )
    data = make_data(steps * given.batch // 2, words=words)  # two epochs: every pair is seen twice
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = save_tiny(folder / "base") if model == "tiny" else save_qwen(folder / "base")
        trainers: dict[str, Trainer] = {"tutelage": train_ours, "trl": train_trl}
        if not given.quick:
            trainers["trl, default"] = train_trl_as_it_comes
        memory = {}
        short = replace(config, max_steps=3)
        few = replace(data, preferences=data.preferences[: 3 * given.batch])
        train_trl(short, few, base, folder / "run")  # warm-up: imports, caches, allocators, compiled kernels
        for name, train in trainers.items():
            memory[name] = peak_memory(train, short, few, base, folder / "memory")
        found: dict[str, list[Round]] = {name: [] for name in trainers}
        for number in range(rounds):
            order = list(trainers.items())
            for name, train in order if number % 2 == 0 else reversed(order):
                found[name].append(measure(train, config, data, base, folder / "run"))
        weights = sum(p.numel() for p in load_weights(base))
    rates = {name: [row.tokens / row.seconds for row in rows] for name, rows in found.items()}
    inner = {name: statistics.median(row.tokens / row.in_steps for row in rows) for name, rows in found.items()}
    precision = "bf16" if is_bf16(config) else "float32"
    print(f"{model} on {_device()}, {precision}, batch {given.batch}, {steps} steps, {rounds} rounds")
    print(f"{'':>14} {'tokens/s':>12} {'in steps':>12} {'outside':>9} {'peak GiB':>9}")
    for name, rows in found.items():
        outside = statistics.median(1 - row.in_steps / row.seconds for row in rows)
        rate = statistics.median(rates[name])
        print(f"{name:>14} {rate:>12,.0f} {inner[name]:>12,.0f} {outside:>8.1%} {memory[name]:>9.3f}")
    ratios = [ours / theirs for ours, theirs in zip(rates["tutelage"], rates["trl"], strict=True)]
    against_default: dict[str, float] = {}
    if "trl, default" in rates:
        default = statistics.median(rates["trl, default"])
        against_default["ratio_to_trl_default"] = statistics.median(rates["tutelage"]) / default
        against_default["peak_memory_ratio_to_trl_default"] = memory["tutelage"] / memory["trl, default"]
    work = [theirs.cpu / ours.cpu for ours, theirs in zip(found["tutelage"], found["trl"], strict=True)]
    print(
        json.dumps(
            {
                "tokens_per_second_ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "ratio_of_processor_time": statistics.median(work),
                "ratio_in_steps": inner["tutelage"] / inner["trl"],
                "peak_memory_ratio": memory["tutelage"] / memory["trl"],
                "tokens_per_second": statistics.median(rates["tutelage"]),
                "share_of_bf16_peak": share_of_peak(inner["tutelage"], weights, config.gradient_checkpointing),
                "device": _device(),
                "model": model,
                **against_default,
            }
        )
    )


def load_weights(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(base)).parameters()


def _device() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
