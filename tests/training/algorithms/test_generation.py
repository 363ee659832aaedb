"""Samples and their log-probabilities."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tests.training.algorithms.conftest import make_config
from training.algorithms.generation import encode_pair, generate, log_probs
from training.algorithms.texts import storable
from training.algorithms.tiny import build_model, build_tokenizer, save_tiny

PROMPTS = [[{"role": "user", "content": text}] for text in ("Hi", "A rather longer question, is it not?", "Grüße 你好")]


def test_the_same_seed_gives_the_same_samples_and_leaves_the_global_stream_alone() -> None:
    model, tokenizer, config = build_model(), build_tokenizer(), make_config(samples=3)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = generate(model, tokenizer, PROMPTS, config=config, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first == generate(model, tokenizer, PROMPTS, config=config, seed=1)
    assert first != generate(model, tokenizer, PROMPTS, config=config, seed=2)
    assert [len(row) for row in first] == [3, 3, 3]
    assert all(0 < len(sample.tokens) <= 12 for row in first for sample in row)


def test_a_sample_ends_with_its_end_mark() -> None:
    model, tokenizer = build_model(), build_tokenizer()
    samples = generate(model, tokenizer, PROMPTS * 10, config=make_config(samples=4, max_new_tokens=100), seed=0)
    ended = [sample for row in samples for sample in row if 2 in sample.tokens]
    assert ended
    assert all(sample.tokens.index(2) == len(sample.tokens) - 1 for sample in ended)
    assert all(tokenizer.eos_token not in sample.text for sample in ended)


def test_a_sample_holds_nothing_that_no_database_takes() -> None:
    model, tokenizer = build_model(), build_tokenizer()
    (nul,) = tokenizer("\x00")["input_ids"]
    letter = tokenizer("a")["input_ids"][0]
    others = torch.tensor([token for token in range(259) if token not in (nul, letter)])
    model.lm_head.register_forward_hook(lambda module, given, logits: logits.index_fill(-1, others, -1e4))
    samples = generate(model, tokenizer, PROMPTS, config=make_config(samples=4), seed=0)
    assert any(nul in sample.tokens for row in samples for sample in row), "the model did write NUL"
    for sample in (sample for row in samples for sample in row):
        assert sample.text == "a" * sample.tokens.count(letter)
        assert len(sample.tokens) == 12, "KL is about the tokens as they were drawn"


def test_samples_are_those_of_the_model_whatever_its_own_defaults_make_of_it() -> None:
    model, tokenizer, config = build_model(), build_tokenizer(), make_config(samples=4)
    expected = generate(model, tokenizer, PROMPTS, config=config, seed=0)
    own = GenerationConfig(repetition_penalty=9.0, no_repeat_ngram_size=1, min_p=0.9, temperature=0.1, eos_token_id=2)
    model.generation_config = own
    assert generate(model, tokenizer, PROMPTS, config=config, seed=0) == expected
    assert model.generation_config is own


@pytest.mark.parametrize(("own", "last"), [(None, 2), (50, 2), ([50, 60], 2), ([50, 60], 60)])
def test_a_sample_ends_at_any_mark_of_the_model_and_at_the_tokenizers(own: int | list[int] | None, last: int) -> None:
    model, tokenizer = build_model(), build_tokenizer()
    model.generation_config.eos_token_id = own
    model.lm_head.register_forward_hook(lambda module, given, logits: logits.index_fill(-1, torch.tensor(last), 1e4))
    samples = generate(model, tokenizer, PROMPTS, config=make_config(), seed=0)
    assert {tuple(sample.tokens) for row in samples for sample in row} == {(last,)}


def test_halves_of_surrogate_pairs_are_left_out_and_whole_characters_stay() -> None:
    assert storable("a\ud83eb\udd89c 🦉\x00") == "abc 🦉"


def test_log_probabilities_are_those_of_a_pass_over_one_row_at_a_time() -> None:
    model, tokenizer = build_model().eval(), build_tokenizer()
    rows = [encode_pair(tokenizer, prompt, "Answer" * (i + 1), max_length=128) for i, prompt in enumerate(PROMPTS)]
    found = log_probs(model, rows, pad=0, batch_size=3)
    for (prompt, response), (total, count) in zip(rows, found, strict=True):
        logits = model(torch.tensor([prompt + response])).logits[0].log_softmax(dim=1)
        start = len(prompt)
        expected = sum(logits[start + i - 1, token].item() for i, token in enumerate(response))
        assert total == pytest.approx(expected, abs=1e-3)
        assert count == len(response)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gives back."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_the_logits_of_a_batch_never_stand_in_memory_together() -> None:
    """The vocabulary is four tiles wide, and so a tile is a quarter of the logits."""
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vocabulary = 4 * 32768
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, num_key_value_heads=1, **shape)).eval()
    ids = torch.randint(vocabulary, (8, 40), generator=torch.Generator().manual_seed(0)).tolist()
    with Largest() as largest:
        found = log_probs(model, [(row[:10], row[10:]) for row in ids], pad=0)
    assert largest.numel < 8 * 40 * vocabulary / 3
    for row, (total, count) in zip(ids, found, strict=True):
        logs = model(torch.tensor([row])).logits[0].log_softmax(dim=1)
        expected = logs[torch.arange(9, 39), torch.tensor(row[10:])].sum().item()
        assert total == pytest.approx(expected, rel=1e-6)
        assert count == 30


def test_a_response_is_encoded_with_its_end_and_keeps_it_when_cut() -> None:
    tokenizer = build_tokenizer()
    prompt, response = encode_pair(tokenizer, PROMPTS[0], "Yes", max_length=128)
    assert tokenizer.decode(prompt) == "<|start|>user\nHi<|end|>\n<|start|>assistant\n"
    assert tokenizer.decode(response) == "Yes<|end|>\n"
    short, cut = encode_pair(tokenizer, PROMPTS[1], "Yes", max_length=10)
    assert cut == response
    assert len(short) == 10 - len(response)


def test_a_check_stops_generation(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(build_model(), build_tokenizer(), PROMPTS, config=make_config(), seed=0, check=stop)


def test_tiny_gives_any_text_back(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    for text in ("plain", "Grüße 你好 🦉", "tab\tnew\nline  two", "<not a mark>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_tiny_is_the_same_from_the_same_seed(tmp_path: Path) -> None:
    one, other = save_tiny(tmp_path / "a", seed=3), save_tiny(tmp_path / "b", seed=3)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    different = save_tiny(tmp_path / "c", seed=4)
    assert (one / "model.safetensors").read_bytes() != (different / "model.safetensors").read_bytes()
