"""The door: from labels to a sealed policy that plain transformers loads."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from activelearning.algorithms.types import Singles
from tests.training.algorithms.conftest import HashEncoder, make_config, make_data
from tests.training.algorithms.test_policy_dpo import make_job
from training.algorithms import artifact
from training.algorithms.comparison import draw_prompts
from training.algorithms.data import TrainingData
from training.algorithms.journal import read_metrics
from training.algorithms.references import with_sampled_references
from training.algorithms.run import PolicyResult, train
from training.algorithms.tiny import save_tiny


def run(config: Any, data: TrainingData, folder: Path, **changes: Any) -> PolicyResult:
    given: dict[str, Any] = {"report": lambda metrics: None, "should_stop": lambda: False, "encoder": HashEncoder()}
    return train(config, data, folder=folder, **{**given, **changes})


def test_rerank_chooses_by_the_lower_bound_and_says_so(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(method="rerank", radius=1.5), data, tmp_path)
    lines = [json.loads(line) for line in (result.folder / "choices.jsonl").read_text().splitlines()]
    assert len(lines) == len(data.candidates)
    inverse = np.linalg.inv(data.information)
    for line, prompt in zip(lines, data.candidates, strict=True):
        offsets = prompt.features - prompt.features.mean(axis=0)
        lower = offsets @ data.theta - 1.5 * np.sqrt(np.einsum("ij,jk,ik->i", offsets, inverse, offsets))
        assert line["name"] == prompt.names[int(lower.argmax())]
        assert line["lower"] == pytest.approx(lower.max())
        assert line["lower"] == pytest.approx(line["mean"] - line["penalty"])
    assert result.certificate is not None
    assert result.certificate.radius == 1.5


def test_rerank_with_radius_zero_is_the_greedy_choice(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(method="rerank", radius=0.0), data, tmp_path)
    lines = [json.loads(line) for line in (result.folder / "choices.jsonl").read_text().splitlines()]
    greedy = [prompt.names[int((prompt.features @ data.theta).argmax())] for prompt in data.candidates]
    assert [line["name"] for line in lines] == greedy
    assert result.figures["policy"]["win_rate"] == pytest.approx(5 / 6)  # first of three: beats two, ties itself


@pytest.mark.parametrize("method", ["pessimistic_dpo", "rso", "policy_gradient"])
def test_a_trained_policy_loads_in_plain_transformers(data: TrainingData, tmp_path: Path, method: str) -> None:
    result = run(make_config(method=method, epochs=1.0), data, tmp_path)
    manifest = artifact.verify(result.folder, kind="policy", digest=result.digest)
    assert manifest["label_set"] == "label-set-1"
    assert manifest["config"]["method"] == method
    assert manifest["certificate"]["sampled"] is True
    model = AutoModelForCausalLM.from_pretrained(result.folder)
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    ids = tokenizer.apply_chat_template(data.candidates[0].prompt, add_generation_prompt=True, return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    moved = [(a - b).abs().max().item() for a, b in zip(model.parameters(), base.parameters(), strict=True)]
    assert max(moved) > 0
    assert {path.suffix for path in result.folder.iterdir()} <= {".json", ".safetensors", ".jinja"}


@pytest.mark.parametrize("rank", [0, 2])
def test_a_base_that_states_a_temperature_without_saying_that_it_samples_is_trained_and_saved(
    data: TrainingData, tmp_path: Path, rank: int
) -> None:
    (save_tiny(tmp_path / "base") / "generation_config.json").write_text('{"temperature": 0.5, "eos_token_id": 2}')
    result = run(make_config(max_steps=1, evaluation_prompts=0, lora_rank=rank), data, tmp_path)
    saved = GenerationConfig.from_pretrained(result.folder)
    assert (saved.do_sample, saved.temperature, saved.eos_token_id) == (True, 0.5, 2)


def test_a_lora_policy_is_merged_into_its_base(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(lora_rank=4, max_steps=3), data, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(result.folder)
    assert not any("lora" in name for name in model.state_dict())
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(model.model.embed_tokens.weight, base.model.embed_tokens.weight)


def test_the_figures_say_what_a_page_needs(data: TrainingData, tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    result = run(make_config(), data, tmp_path, report=lambda metrics: reports.append(dict(metrics)))
    assert [line["stage"] for line in reports if line["stage"] != "train"] == ["start", "evaluate", "done"]
    steps = [line for line in reports if line["stage"] == "train"]
    assert [line["step"] for line in steps] == list(range(1, steps[0]["steps"] + 1))
    assert {"loss", "reward_margin", "accuracy", "kl", "tokens_per_second", "learning_rate"} <= set(steps[0])
    assert reports == read_metrics(tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    policy = result.figures["policy"]
    assert 0 <= policy["win_rate_lower"] <= 1
    assert [point["share"] for point in policy["curve"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert policy["curve"][-1]["kl"] == policy["kl"]
    assert 0 <= policy["coverage"]["outside"] <= 1
    assert len(result.samples) == 2
    assert {"prompt", "policy", "reference", "policy_mean", "policy_lower"} <= set(result.samples[0])


class ListeningEncoder(HashEncoder):
    """Remembers what it was asked to encode."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str], /) -> Singles:
        self.texts += texts
        return super().encode(texts)


def hold_out(data: TrainingData, *names: str) -> TrainingData:
    return replace(data, candidates=[replace(one, is_held_out=one.conversation in names) for one in data.candidates])


@pytest.mark.parametrize("method", ["rso", "policy_gradient"])
def test_a_held_out_prompt_judges_and_trains_nothing(data: TrainingData, tmp_path: Path, method: str) -> None:
    encoder, trained_on = ListeningEncoder(), ""

    def report(metrics: Any) -> None:
        nonlocal trained_on
        if metrics["stage"] == "evaluate":
            trained_on = " ".join(encoder.texts)

    held = hold_out(data, "c2", "c5")
    config = make_config(method=method, epochs=1.0, batch_size=2, evaluation_prompts=3)
    result = run(config, held, tmp_path, encoder=encoder, report=report)
    assert [number for number in range(6) if f"Question {number}?" in trained_on] == [0, 1, 3, 4]
    assert [sample["is_held_out"] for sample in result.samples] == [True, True, False]
    assert {sample["conversation"] for sample in result.samples[:2]} == {"c2", "c5"}
    assert (result.figures["policy"]["prompts"], result.figures["policy"]["held_out_prompts"]) == (3, 2)


def test_a_policy_that_only_chooses_answers_every_prompt(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(method="rerank"), hold_out(data, "c2", "c5"), tmp_path)
    assert (result.figures["policy"]["prompts"], result.figures["policy"]["held_out_prompts"]) == (6, 2)


def test_prompts_to_judge_on_are_drawn_and_not_the_oldest() -> None:
    prompts = make_data(prompts=40).candidates
    draws = [[prompt.conversation for prompt in draw_prompts(prompts, count=10, seed=seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert max(int(name[1:]) for name in draws[0]) > 20
    assert len(draw_prompts(prompts, count=99, seed=0)) == 40
    assert draw_prompts(prompts, count=0, seed=0) == []


def test_a_finished_run_returns_what_it_has(data: TrainingData, tmp_path: Path) -> None:
    first = run(make_config(method="rerank"), data, tmp_path)

    def never(metrics: Any) -> None:
        raise AssertionError("nothing is left to report")

    again = run(make_config(method="rerank"), data, tmp_path, report=never)
    assert (again.digest, again.certificate, again.figures) == (first.digest, first.certificate, first.figures)


def test_a_finished_run_of_other_labels_is_refused(data: TrainingData, tmp_path: Path) -> None:
    run(make_config(method="rerank"), data, tmp_path)
    with pytest.raises(artifact.Refused, match="foreign"):
        run(make_config(method="rerank"), make_data(seed=1), tmp_path)


def test_two_responses_are_told_apart_when_the_reference_is_sampled(tmp_path: Path) -> None:
    """With the midpoint as reference both widths are equal; samples of the base model stand somewhere else."""
    data = make_data(responses=2)

    def penalties(folder: Path, **changes: Any) -> list[tuple[float, ...]]:
        config = make_config(radius=1.0, max_steps=1, evaluation_prompts=0, **changes)
        run(config, data, folder)
        found = with_sampled_references(make_job(config, data, folder)) if changes else data
        confidence = data.confidence(delta=0.1, radius=1.0)
        return [
            tuple(confidence.penalties(prompt.features - found.reference_features[prompt.conversation]))
            for prompt in data.candidates
        ]

    assert all(a == pytest.approx(b) for a, b in penalties(tmp_path / "midpoint"))
    apart = penalties(tmp_path / "sampled", reference_samples=3)
    assert all(abs(a - b) > 1e-3 for a, b in apart)
    assert penalties(tmp_path / "sampled", reference_samples=3) == apart  # kept, not drawn again


def test_best_of_n_takes_the_sample_with_the_highest_mean(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(method="best_of_n", samples=3), data, tmp_path)
    lines = [json.loads(line) for line in (result.folder / "choices.jsonl").read_text().splitlines()]
    assert len(lines) == len(data.candidates)
    assert all(line["mean"] >= 0 for line in lines)  # the best is not below the mean of its own samples
    assert result.figures["policy"]["win_rate"] >= 0.5 + 0.5 / 3


@pytest.mark.parametrize("method", ["best_of_n", "rso", "policy_gradient"])
def test_scoring_new_text_asks_for_a_projection(data: TrainingData, tmp_path: Path, method: str) -> None:
    with pytest.raises(ValueError, match="projection"):
        run(make_config(method=method), replace(data, projection=None), tmp_path)


def test_without_a_projection_dpo_is_judged_on_held_out_labels_alone(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(max_steps=2), replace(data, projection=None), tmp_path)
    assert result.certificate is None
    assert result.figures["policy"]["model_labels"] == 3
    assert "win_rate" not in result.figures["policy"]


def test_groups_that_do_not_fill_a_step_are_refused(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of samples"):
        run(make_config(method="policy_gradient", batch_size=4, samples=3), data, tmp_path)


def test_a_run_without_prompts_is_refused(data: TrainingData, tmp_path: Path, never: Callable[[], bool]) -> None:
    with pytest.raises(ValueError, match="candidates"):
        run(make_config(method="rerank"), replace(data, candidates=[]), tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_in_bf16_within_its_memory_limit(data: TrainingData, tmp_path: Path) -> None:
    result = run(make_config(precision="auto", memory_limit_gib=4.0), data, tmp_path)
    line = [line for line in read_metrics(tmp_path) if line["stage"] == "train"][-1]
    assert 0 < float(line["gpu_memory_gib"]) < 4
    assert result.certificate is not None
