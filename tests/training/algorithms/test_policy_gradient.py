"""RLOO with the lower bound: what it samples from, and how long its prompts are."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, LlamaForCausalLM

from tests.training.algorithms.conftest import make_config, make_data
from tests.training.algorithms.test_policy_dpo import make_job
from training.algorithms.policy_gradient import fit
from training.algorithms.tiny import save_tiny

Asked = list[tuple[int, GenerationConfig]]
"""Of every call of generate: the width of its prompts, and the model's own defaults at the time."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    calls: Asked = []
    generate = LlamaForCausalLM.generate

    def listening(self: Any, *args: Any, **given: Any) -> Any:
        calls.append((given["input_ids"].shape[1], self.generation_config))
        return generate(self, *args, **given)

    monkeypatch.setattr(LlamaForCausalLM, "generate", listening)
    return calls


@pytest.mark.parametrize("rank", [0, 2])
def test_no_default_of_the_model_stands_between_it_and_its_samples(tmp_path: Path, asked: Asked, rank: int) -> None:
    base = save_tiny(tmp_path / "base")
    GenerationConfig(no_repeat_ngram_size=2, do_sample=True, min_p=0.5, eos_token_id=2).save_pretrained(base)
    config = make_config(method="policy_gradient", max_steps=1, lora_rank=rank)
    fitted = fit(make_job(config, make_data(), tmp_path))
    assert asked
    assert all(own.no_repeat_ngram_size is own.min_p is None for _, own in asked)
    assert fitted.model is not None
    assert json.loads((fitted.model / "generation_config.json").read_text())["no_repeat_ngram_size"] == 2


def test_prompts_leave_room_for_an_answer_within_max_length(tmp_path: Path, asked: Asked) -> None:
    config = make_config(method="policy_gradient", max_steps=3, max_length=32, max_new_tokens=12)
    fit(make_job(config, make_data(), tmp_path))
    assert {width for width, _ in asked} == {20}, "the questions have more characters, and tiny a token for each"
