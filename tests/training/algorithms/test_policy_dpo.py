"""Pessimistic DPO (M14): the loss by hand, and TRL's own DPO when the radius is 0."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import DPOTrainer

from tests.training.algorithms.conftest import HashEncoder, make_config
from training.algorithms.batching import plan_groups
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.journal import Journal, read_metrics
from training.algorithms.language_model import load_tokenizer
from training.algorithms.policy import Job
from training.algorithms.policy_dpo import (
    PessimisticDPOTrainer,
    dpo_arguments,
    fit,
    fit_rows,
    pessimistic_loss,
    preference_rows,
)
from training.algorithms.tiny import save_tiny


def make_job(config: TrainingConfig, data: TrainingData, folder: Path) -> Job:
    return Job(
        config=config,
        data=data,
        folder=folder,
        confidence=data.confidence(delta=config.delta, radius=config.radius),
        journal=Journal(folder, lambda metrics: None),
        should_stop=lambda: False,
        encoder=HashEncoder(),
        identity={"config_digest": config.digest()},
    )


def loss_of(
    log_ratio: float, *, margin: float = 0.0, rho: float = 1.0, target: float = 1.0, weight: float = 1.0
) -> float:
    one = {"margin": margin, "rationality": rho, "target": target, "weight": weight}
    columns = {name: torch.tensor([value], dtype=torch.float64) for name, value in one.items()}
    return pessimistic_loss(torch.tensor([log_ratio], dtype=torch.float64), kl_weight=0.5, **columns).item()


def test_a_loss_worked_by_hand() -> None:
    # kl_weight 0.5, log-ratio 2, Gamma_w - Gamma_l = 0.25, rho 2: the logit is 2 (0.5 * 2 + 0.25) = 2.5
    assert loss_of(2.0, margin=0.25, rho=2.0) == pytest.approx(math.log(1 + math.exp(-2.5)))
    # a tie counts half for each side; half the weight is half the loss
    expected = 0.5 * math.log(1 + math.exp(-2.5)) + 0.5 * math.log(1 + math.exp(2.5))
    assert loss_of(2.0, margin=0.25, rho=2.0, target=0.5) == pytest.approx(expected)
    assert loss_of(2.0, margin=0.25, rho=2.0, weight=0.5) == pytest.approx(0.5 * math.log(1 + math.exp(-2.5)))


def test_swapping_a_pair_and_its_label_changes_nothing() -> None:
    assert loss_of(1.3, margin=0.4, rho=1.7, target=0.8) == pytest.approx(
        loss_of(-1.3, margin=-0.4, rho=1.7, target=1 - 0.8)
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    ratio = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    columns = {
        name: torch.tensor([value], dtype=torch.float64)
        for name, value in (("margin", 0.3), ("rationality", 1.5), ("target", 0.9), ("weight", 2.0))
    }
    pessimistic_loss(ratio, kl_weight=0.5, **columns).sum().backward()
    assert ratio.grad is not None
    up, down = (loss_of(0.7 + e, margin=0.3, rho=1.5, target=0.9, weight=2.0) for e in (1e-6, -1e-6))
    assert ratio.grad.item() == pytest.approx((up - down) / 2e-6, rel=1e-6)


def test_a_far_logit_gives_a_finite_loss() -> None:
    assert loss_of(-4000.0) == pytest.approx(2000.0)
    assert loss_of(4000.0) == pytest.approx(0.0)


def test_the_optimum_pays_for_the_uncertain_response() -> None:
    """Minimising (M14) over the log-ratio gives kl_weight log-ratio = z'theta - (Gamma_w - Gamma_l)."""
    gap, margin, rho = 0.8, 0.5, 1.4
    target = 1 / (1 + math.exp(-rho * gap))
    ratios = np.linspace(-4, 4, 80001)
    columns = {
        name: torch.full((80001,), value, dtype=torch.float64)
        for name, value in (("margin", margin), ("rationality", rho), ("target", target), ("weight", 1.0))
    }
    losses = pessimistic_loss(torch.from_numpy(ratios), kl_weight=0.5, **columns)
    assert 0.5 * ratios[int(losses.argmin())] == pytest.approx(gap - margin, abs=1e-3)


def test_the_margin_is_the_difference_of_the_penalties(data: TrainingData, tmp_path: Path) -> None:
    job = make_job(make_config(radius=2.0), data, tmp_path)
    row, first = preference_rows(job, data.preferences)[0], data.preferences[0]
    v = data.candidates[0].features.mean(axis=0)
    inverse = np.linalg.inv(data.information)
    gamma = [
        2.0 * math.sqrt((phi - v) @ inverse @ (phi - v)) for phi in (first.chosen_features, first.rejected_features)
    ]
    assert row["margin"] == pytest.approx(gamma[0] - gamma[1])
    assert row["rationality"] == first.rationality


def test_plain_dpo_knows_no_ties_margins_or_teachers(data: TrainingData, tmp_path: Path) -> None:
    tied = replace(data, preferences=[replace(data.preferences[0], target=0.5), *data.preferences[1:]])
    rows = preference_rows(make_job(make_config(method="dpo"), tied, tmp_path), tied.preferences)
    assert len(rows) == len(data.preferences) - 1
    assert {(row["margin"], row["rationality"], row["target"], row["weight"]) for row in rows} == {(0.0, 1.0, 1.0, 1.0)}
    pessimistic = preference_rows(make_job(make_config(), tied, tmp_path), tied.preferences)
    assert pessimistic[0]["target"] == 0.5


@pytest.mark.parametrize("precompute", [True, False], ids=["reference scored once", "reference in every step"])
def test_radius_zero_is_trl_number_for_number(
    data: TrainingData, tmp_path: Path, precompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PessimisticDPOTrainer, "is_grouped", False)
    config = make_config(radius=0.0, max_steps=5, precompute_reference=precompute)
    rational = replace(data, preferences=[replace(row, rationality=1.0) for row in data.preferences])
    job = make_job(config, rational, tmp_path / "ours")
    fit(job)
    ours = [line for line in read_metrics(tmp_path / "ours") if line["stage"] == "train"]
    theirs = plain_trl(config, rational, tmp_path / "theirs")
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]
    assert [line["gradient_norm"] for line in ours] == [line["grad_norm"] for line in theirs]
    assert [line["reward_margin"] for line in ours] == pytest.approx([line["rewards/margins"] for line in theirs])
    assert ours[-1]["loss"] != ours[0]["loss"]


def test_rows_in_groups_of_like_length_are_the_same_to_rounding(data: TrainingData, tmp_path: Path) -> None:
    config = make_config(radius=0.0, max_steps=5)
    uneven = [replace(row, rationality=1.0) for row in data.preferences]
    uneven[1] = replace(uneven[1], chosen=[{"role": "assistant", "content": "long " * 15}])
    rational = replace(data, preferences=uneven)
    fit(make_job(config, rational, tmp_path / "ours"))
    ours = [line["loss"] for line in read_metrics(tmp_path / "ours") if line["stage"] == "train"]
    theirs = [line["loss"] for line in plain_trl(config, rational, tmp_path / "theirs")]
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_groups_hold_every_row_once_and_cost_no_more_than_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 300, size=int(rng.integers(1, 20))).tolist()
        groups = plan_groups(lengths, price=50)
        assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
        cost = sum(len(rows) * max(lengths[row] for row in rows) + 50 for rows in groups)
        assert cost <= len(lengths) * max(lengths) + 50
    assert plan_groups([100, 10, 99, 11], price=20) == [[0, 2], [3, 1]]  # 200 + 22 + 40 < 400 + 20
    assert plan_groups([100, 10, 99, 11], price=500) == [[0, 2, 3, 1]]
    assert plan_groups([7, 7, 7], price=1) == [[0, 1, 2]]


def plain_trl(config: TrainingConfig, data: TrainingData, folder: Path) -> list[dict[str, Any]]:
    """The log of TRL's own trainer on the same preferences, with none of our code in it."""
    base = save_tiny(folder / "base", seed=config.seed)
    rows = [
        {"prompt": list(row.prompt), "chosen": list(row.chosen), "rejected": list(row.rejected)}
        for row in data.preferences
    ]
    trainer = DPOTrainer(
        model=str(base),
        args=dpo_arguments(config, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base),
    )
    trainer._send_telemetry = lambda: None
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]


def test_pessimism_moves_the_model_away_from_the_uncertain_winner(data: TrainingData, tmp_path: Path) -> None:
    """With a huge radius, pairs whose winner is the less certain one are no longer pushed apart."""

    def last_margin(radius: float, name: str) -> float:
        job = make_job(make_config(radius=radius, max_steps=6), data, tmp_path / name)
        fit_rows(job, [row for row in preference_rows(job, data.preferences) if row["margin"] > 0])
        return float([line for line in read_metrics(tmp_path / name) if line["stage"] == "train"][-1]["reward_margin"])

    assert last_margin(30.0, "pessimistic") < last_margin(0.001, "plain")


def test_prompts_that_leave_no_room_are_named(data: TrainingData, tmp_path: Path) -> None:
    long = [{"role": "user", "content": "x" * 500}]
    wide = replace(data, preferences=[replace(row, prompt=long) for row in data.preferences])
    with pytest.raises(ValueError, match="raise max_length"):
        fit(make_job(make_config(), wide, tmp_path))


def test_no_preferences_is_said_plainly(data: TrainingData, tmp_path: Path, never: Callable[[], bool]) -> None:
    empty = replace(data, preferences=[])
    with pytest.raises(ValueError, match="no preferences"):
        fit(make_job(make_config(), empty, tmp_path))
