"""Agreement: Krippendorff's own example, planted coins and planted consensus, and what cannot be said."""

import krippendorff
import numpy as np
import pytest

from activelearning.algorithms.agreement import (
    VALUES,
    Scale,
    krippendorff_alpha,
    measure_agreement,
    measure_consistency,
    raw_agreement,
    resampled_agreements,
    resampled_alphas,
)
from activelearning.algorithms.types import Floats, Ints


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def plant_answers(comparisons: int, teachers: int, *, error: float, seed: int = 0) -> tuple[Ints, Floats]:
    """Every teacher answers every comparison with the truth, inverted with probability `error`."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(2, size=comparisons).astype(float)
    outcome = np.abs(truth[:, None] - (rng.random((comparisons, teachers)) < error))
    return np.repeat(np.arange(comparisons), teachers), outcome.ravel()


def answer_counts(comparison: Ints, outcome: Floats) -> Ints:
    """(u, 3) how many teachers gave each answer to each comparison."""
    rows = [[np.sum(outcome[comparison == one] == value) for value in VALUES] for one in np.unique(comparison)]
    return np.array(rows, dtype=np.int64)


def test_nominal_alpha_worked_by_hand() -> None:
    # Units: (a, a), (b, b), (a, b). Coincidences: o_aa = 2, o_bb = 2, o_ab = o_ba = 1, n_a = n_b = 3, n = 6.
    # D_o = 2 / 6, D_e = 2 * 9 / (6 * 5): alpha = 1 - (1/3) / (3/5) = 4/9
    counts = answer_counts(np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]))
    assert krippendorff_alpha(counts) == pytest.approx(4 / 9)
    assert raw_agreement(counts) == pytest.approx(2 / 3)


def test_planted_noise_gives_the_alpha_that_theory_gives() -> None:
    # Two answers agree with probability 1 - 2 e (1 - e); chance is 1/2.
    for error in (0.0, 0.1, 0.3):
        found = measure_agreement(answer_counts(*plant_answers(4000, 3, error=error)), generator=generator())
        agree = 1 - 2 * error * (1 - error)
        assert found.raw.value == pytest.approx(agree, abs=0.02)
        assert found.alpha.value == pytest.approx(2 * agree - 1, abs=0.03)
        assert found.comparisons == 4000


def test_coins_agree_by_chance_and_the_interval_holds_zero() -> None:
    found = measure_agreement(answer_counts(*plant_answers(300, 2, error=0.5)), generator=generator())
    assert found.alpha.low is not None
    assert found.alpha.high is not None
    assert found.alpha.low < 0 < found.alpha.high


def test_teachers_who_always_disagree_are_below_zero() -> None:
    found = measure_agreement(
        answer_counts(np.repeat(np.arange(50), 2), np.tile([0.0, 1.0], 50)), generator=generator()
    )
    assert found.alpha.value is not None
    assert found.alpha.value < -0.9
    assert found.raw.value == 0


def test_the_intervals_cover_a_planted_alpha() -> None:
    inside = 0
    for seed in range(60):
        found = measure_agreement(
            answer_counts(*plant_answers(80, 3, error=0.2, seed=seed)), generator=np.random.default_rng(seed)
        )
        assert found.alpha.low is not None
        assert found.alpha.high is not None
        inside += found.alpha.low <= 1 - 4 * 0.2 * 0.8 <= found.alpha.high
    assert 50 <= inside <= 60


@pytest.mark.parametrize("scale", ["nominal", "ordinal"])
def test_a_resample_has_the_librarys_alpha(scale: Scale) -> None:
    rng = np.random.default_rng(2)
    counts = np.array([rng.multinomial(teachers, [0.5, 0.2, 0.3]) for teachers in rng.integers(2, 6, size=40)])
    drawn = rng.multinomial(40, np.full(40, 1 / 40), size=30)
    drawn[0] = 40 * (np.arange(40) == int(np.argmax(counts.max(axis=1) == counts.sum(axis=1))))  # all answers the same
    alphas = resampled_alphas(counts, drawn, level_of_measurement=scale)
    assert np.isnan(alphas[0])
    for times, alpha, raw in zip(drawn[1:], alphas[1:], resampled_agreements(counts, drawn)[1:], strict=True):
        rows = np.repeat(counts, times, axis=0)
        assert alpha == pytest.approx(krippendorff_alpha(rows, level_of_measurement=scale))
        assert raw == pytest.approx(raw_agreement(rows))


def test_comparisons_are_gone_through_once_and_not_for_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    alpha = krippendorff.alpha

    def counting(*, value_counts: Ints, **rest: object) -> float:
        rows.append(len(value_counts))
        return float(alpha(value_counts=value_counts, **rest))

    monkeypatch.setattr(krippendorff, "alpha", counting)
    measure_agreement(answer_counts(*plant_answers(300, 3, error=0.2)), generator=generator())
    assert rows == [300]


def test_an_ordinal_alpha_forgives_a_tie_more_than_a_reversal() -> None:
    comparison = np.repeat(np.arange(40), 2)
    ties = np.tile([1.0, 0.5, 0.0, 0.5], 20)
    nominal = measure_agreement(answer_counts(comparison, ties), generator=generator())
    ordinal = measure_agreement(answer_counts(comparison, ties), generator=generator(), level_of_measurement="ordinal")
    assert ordinal.alpha.value > nominal.alpha.value  # type: ignore[operator]


def test_the_order_of_labels_does_not_matter() -> None:
    comparison, outcome = plant_answers(60, 3, error=0.2)
    order = np.random.default_rng(1).permutation(180)
    one = measure_agreement(answer_counts(comparison, outcome), generator=generator())
    other = measure_agreement(answer_counts(comparison[order], outcome[order]), generator=generator())
    assert one == other


def test_comparisons_with_one_answer_say_nothing_and_it_says_so() -> None:
    found = measure_agreement(answer_counts(np.arange(10), np.ones(10)), generator=generator())
    assert found.alpha.value is None
    assert "overlap" in found.alpha.reason
    assert found.comparisons == 0


def test_a_lone_answer_does_not_change_the_agreement() -> None:
    comparison, outcome = plant_answers(60, 2, error=0.2)
    lone = measure_agreement(answer_counts(np.r_[comparison, 999], np.r_[outcome, 1.0]), generator=generator())
    assert lone == measure_agreement(answer_counts(comparison, outcome), generator=generator())


def test_unanimous_answers_have_no_alpha_but_a_raw_agreement() -> None:
    found = measure_agreement(answer_counts(np.repeat(np.arange(8), 2), np.ones(16)), generator=generator())
    assert found.alpha.value is None
    assert "chance" in found.alpha.reason
    assert found.raw.value == 1
    assert found.raw.low == pytest.approx(0.6756, abs=1e-3)


def test_planted_consistency_is_found_for_each_teacher() -> None:
    rng = np.random.default_rng(0)
    teacher = np.repeat([0, 1], 400)
    first = rng.integers(2, size=800).astype(float)
    changed = rng.random(800) < np.where(teacher == 0, 0.05, 0.5)
    found = measure_consistency(teacher, first, np.abs(first - changed), teachers=3)
    assert found[0].value == pytest.approx(0.95, abs=0.03)
    assert found[1].value == pytest.approx(0.5, abs=0.07)
    assert found[2].value is None
    assert "repeat" in found[2].reason
