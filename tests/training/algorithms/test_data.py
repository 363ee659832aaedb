"""Configuration and data: what is refused, and what comes back from a folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.algorithms.conftest import make_config, make_data
from tests.training.algorithms.test_policy_dpo import make_job
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.journal import Journal, read_metrics
from training.algorithms.policy_gradient import LowerBoundReward


def test_data_comes_back_from_its_folder(data: TrainingData, tmp_path: Path) -> None:
    known = replace(data, references={"c1": np.ones(4)})
    known.save(tmp_path)
    again = TrainingData.load(tmp_path)
    assert again.digest() == known.digest()
    assert again.preferences[2].chosen == known.preferences[2].chosen
    assert np.array_equal(again.candidates[3].features, known.candidates[3].features)
    assert np.array_equal(again.reference_features["c1"], np.ones(4))
    assert again.projection is not None
    assert not list(tmp_path.glob("*.np*"))


def test_a_held_out_prompt_comes_back_as_one_and_data_without_any_are_written_as_ever(
    data: TrainingData, tmp_path: Path
) -> None:
    data.save(tmp_path / "none")
    assert "is_held_out" not in (tmp_path / "none" / "data.json").read_text()
    held = replace(data, candidates=[data.candidates[0], replace(data.candidates[1], is_held_out=True)])
    held.save(tmp_path / "one")
    again = TrainingData.load(tmp_path / "one")
    assert again.digest() == held.digest()
    assert [prompt.is_held_out for prompt in again.candidates] == [False, True]
    assert [prompt.conversation for prompt in again.training_prompts] == ["c0"]


def test_every_part_of_the_data_is_in_its_digest(data: TrainingData) -> None:
    others = [
        replace(data, theta=data.theta + 1e-12),
        replace(data, ridge=2.0),
        replace(data, label_set="x"),
        replace(data, preferences=data.preferences[1:]),
        replace(data, preferences=[replace(data.preferences[0], target=0.5), *data.preferences[1:]]),
        replace(data, references={"c0": np.zeros(4)}),
        replace(data, projection=None),
        replace(data, candidates=[replace(data.candidates[0], is_held_out=True), *data.candidates[1:]]),
    ]
    digests = {data.digest(), *(other.digest() for other in others)}
    assert len(digests) == len(others) + 1


def test_the_reference_is_the_mean_of_the_candidates_then_the_midpoint(data: TrainingData) -> None:
    row = data.preferences[0]
    assert data.reference_of(row) == pytest.approx(data.candidates[0].features.mean(axis=0))
    alone = replace(row, conversation="unknown")
    assert data.reference_of(alone) == pytest.approx((row.chosen_features + row.rejected_features) / 2)


def test_shapes_that_disagree_are_named(data: TrainingData) -> None:
    with pytest.raises(ValueError, match="conversation c0 has features"):
        replace(data, preferences=[replace(data.preferences[0], chosen_features=np.zeros(3))])
    with pytest.raises(ValueError, match="off range"):
        replace(data, preferences=[replace(data.preferences[0], rationality=0.0)])
    with pytest.raises(ValueError, match="unequal numbers"):
        replace(data, candidates=[replace(data.candidates[0], names=["one"])])
    wide = make_data(width=5)
    with pytest.raises(ValueError, match="projection gives 4"):
        replace(wide, projection=data.projection)


def test_a_config_comes_back_from_json() -> None:
    config = make_config(radius=0.5)
    assert TrainingConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="unknown settings: colour"):
        TrainingConfig.from_json({"colour": "red"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "magic"),
        ("delta", 0.0),
        ("radius", -1.0),
        ("radius", float("nan")),
        ("kl_weight", 0.0),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("samples", 1),
        ("max_new_tokens", 4000),
        ("precision", "fp8"),
        ("time_limit_seconds", -1.0),
    ],
)
def test_a_field_out_of_its_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingConfig(**{name: value})  # type: ignore[arg-type]


def test_half_the_batch_is_the_same_step() -> None:
    config = TrainingConfig(batch_size=8, accumulation=3)
    assert (config.halved().batch_size, config.halved().accumulation) == (4, 6)
    assert config.halved().digest() == config.digest()
    assert replace(config, time_limit_seconds=60.0).digest() == config.digest()
    assert replace(config, learning_rate=1e-4).digest() != config.digest()
    with pytest.raises(ValueError, match="cannot be halved"):
        TrainingConfig(batch_size=1).halved()


def test_a_journal_drops_what_will_be_trained_again_and_torn_lines(tmp_path: Path) -> None:
    seen: list[dict[str, float | str]] = []
    journal = Journal(tmp_path, lambda metrics: seen.append(dict(metrics)))
    journal.write({"stage": "start"})
    for step in (1, 2, 3):
        journal.write({"stage": "train", "step": step, "loss": 1.0 / step})
    with journal.path.open("a") as stream:
        stream.write('{"stage": "train", "st')  # a kill in the middle of a line
    journal.rewind(2)
    journal.close()
    assert [line.get("step") for line in read_metrics(tmp_path)] == [None, 1, 2]
    assert len(seen) == 4


def test_the_policy_gradient_is_paid_by_the_lower_bound(data: TrainingData, tmp_path: Path) -> None:
    job = make_job(make_config(method="policy_gradient", radius=1.2), data, tmp_path)
    prompts = [data.candidates[0].prompt, data.candidates[1].prompt]
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    paid = LowerBoundReward(job)(prompts=prompts, completions=answers, conversation=["c0", "c1"], trainer_state=None)
    texts = [f"Human: Question {i}?\n\nAssistant: {text}" for i, text in enumerate(("yes", "no"))]
    assert data.projection is not None
    phi = data.projection(job.encoder.encode(texts)).astype(np.float64)
    offsets = phi - np.stack([data.reference_features["c0"], data.reference_features["c1"]])
    assert paid == pytest.approx(list(job.confidence.lower(offsets)), abs=1e-6)
