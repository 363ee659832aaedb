"""Samples from a language model: responses to prompts, in batches, the same for the same seed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import add_fused_lm_head

from training.algorithms.config import TrainingConfig
from training.algorithms.language_model import inference_dtype, load_model, load_tokenizer
from training.algorithms.texts import storable

Prompt = Sequence[Mapping[str, str]]
Tokens = tuple[list[int], list[int]]

NO_LABEL = -100  # what torch and TRL call a position that is not scored


@dataclass(frozen=True)
class Sample:
    """One generated response. Its own tokens are kept: a text may encode to other ones, and KL is about these.

    prompt  token ids the model was given
    tokens  token ids it gave back, its end mark included if it came to one
    text    what they say, without NUL and halves of surrogate pairs
    """

    text: str
    prompt: list[int]
    tokens: list[int]


def sample_responses(
    model_folder: Path,
    prompts: Sequence[Prompt],
    *,
    config: TrainingConfig,
    seed: int,
    check: Callable[[], None] | None = None,
    report: Callable[[Mapping[str, float | str]], None] | None = None,
) -> list[list[Sample]]:
    """`config.samples` responses of the model at `model_folder` to every prompt.

    check   called before each batch; it raises to stop
    report  called after each batch with the share done
    """
    model = load_model(model_folder, dtype=inference_dtype(config))
    tokenizer = load_tokenizer(model_folder)
    return generate(model, tokenizer, prompts, config=config, seed=seed, check=check, report=report)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    config: TrainingConfig,
    seed: int,
    check: Callable[[], None] | None = None,
    report: Callable[[Mapping[str, float | str]], None] | None = None,
) -> list[list[Sample]]:
    """As `sample_responses`, from a model in memory. Prompts of like length share a batch; over-long ones lose their
    beginning. The global random state is left as it was. A response ends at any mark that the model or its tokenizer
    ends with.
    """
    room = config.max_length - config.max_new_tokens
    encoded = [_encode(tokenizer, prompt)[-room:] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    found: dict[int, list[Sample]] = {}
    size = max(1, config.batch_size // 2)
    started = time.monotonic()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for begin in range(0, len(order), size):
            if check is not None:
                check()
            block = order[begin : begin + size]
            texts = _generate_block(model, tokenizer, [encoded[index] for index in block], config)
            found |= dict(zip(block, texts, strict=True))
            if report is not None:
                done = len(found) / len(order)
                report({"stage": "generate", "share": done, "seconds": time.monotonic() - started})
    return [found[index] for index in range(len(prompts))]


def _generate_block(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, block: list[list[int]], config: TrainingConfig
) -> list[list[Sample]]:
    batch = tokenizer.pad({"input_ids": block}, padding=True, padding_side="left", return_tensors="pt").to(model.device)
    width = batch["input_ids"].shape[1]
    sampler: Any = model
    ends = _end_marks(model, tokenizer)
    with torch.inference_mode(), without_own_defaults(model):
        output = sampler.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=config.temperature,
            top_k=0,
            top_p=1.0,
            num_return_sequences=config.samples,
            max_new_tokens=config.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=ends,
        )
    samples = []
    for row, answer in enumerate(output[:, width:].tolist()):
        tokens = _until_end(answer, ends)
        text = storable(str(tokenizer.decode(tokens, skip_special_tokens=True)))
        samples.append(Sample(text=text, prompt=block[row // config.samples], tokens=tokens))
    return [samples[start : start + config.samples] for start in range(0, len(samples), config.samples)]


@contextmanager
def without_own_defaults(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts the model samples from pi, and not from what its generation_config makes of pi: a penalty for
    repetition, a filter or a forbidden n-gram would bias every KL and every acceptance. Afterwards it is as it was.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _end_marks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    own = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *([own] if isinstance(own, int) else own or ())})


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Generated ids up to and with the first end mark; what follows is padding."""
    stop = next((position + 1 for position, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]


def encode_pair(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str, *, max_length: int) -> Tokens:
    """Token ids of a prompt and of a given response to it, end mark included; over-long ones lose their beginning."""
    head = _encode(tokenizer, prompt)
    whole = _encode(tokenizer, [*prompt, {"role": "assistant", "content": response}], prompt=False)
    shared = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(head))
    start = max(0, len(whole) - max_length)
    return whole[start : max(shared, start + 1)], whole[max(shared, start + 1) :]


def log_probs(
    model: PreTrainedModel, rows: Sequence[Tokens], *, pad: int, batch_size: int = 8
) -> list[tuple[float, int]]:
    """(log-probability, tokens) of each response given its prompt, at temperature 1.

    rows  token ids of prompt and response. Batches of like length, padded on the right; sums over tokens in float32

    Scored as the trainers score: the head is applied to a tile of positions and vocabulary at a time, since the logits
    of a few long rows may take more memory than the training did.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]) + len(rows[index][1]))
    found: dict[int, tuple[float, int]] = {}
    with _fused_head(model):
        for begin in range(0, len(order), batch_size):
            block = order[begin : begin + batch_size]
            sums, counts = _score_block(model, [rows[index] for index in block], pad=pad)
            found |= {index: (sums[i], counts[i]) for i, index in enumerate(block)}
    return [found[index] for index in range(len(rows))]


@contextmanager
def _fused_head(model: PreTrainedModel) -> Iterator[None]:
    """The model with TRL's head, which gives log-probabilities in place of logits; afterwards as it was."""
    forward = model.forward
    add_fused_lm_head(model)
    try:
        yield
    finally:
        model.forward = forward


def _score_block(model: PreTrainedModel, rows: Sequence[Tokens], *, pad: int) -> tuple[list[float], list[int]]:
    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), NO_LABEL)
    for i, (prompt, response) in enumerate(rows):
        stop = len(prompt) + len(response)
        ids[i, :stop] = torch.tensor(prompt + response)
        mask[i, :stop] = 1
        labels[i, len(prompt) : stop] = torch.tensor(response)
    ids, mask, labels = ids.to(model.device), mask.to(model.device), labels.to(model.device)
    with torch.inference_mode():
        chosen = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs  # (b, t - 1)
    return chosen.sum(dim=1).tolist(), (labels[:, 1:] != NO_LABEL).sum(dim=1).tolist()


def _encode(tokenizer: PreTrainedTokenizerBase, messages: Prompt, *, prompt: bool = True) -> list[int]:
    plain = [{"role": str(message["role"]), "content": str(message["content"])} for message in messages]
    return list(tokenizer.apply_chat_template(plain, add_generation_prompt=prompt, tokenize=True, return_dict=False))
