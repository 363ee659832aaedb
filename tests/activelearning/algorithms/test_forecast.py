"""Forecasts: planted curves carried on, intervals that cover, advice that follows, and a planted saving."""

import numpy as np
import pytest
from scipy.special import digamma

from activelearning.algorithms.forecast import (
    Measure,
    advise_stop,
    design_saving,
    expected_log_det,
    forecast,
)
from activelearning.algorithms.types import Floats

LABELS = np.arange(50.0, 501.0, 25.0)
AT = np.array([800.0, 1600.0])


@pytest.mark.parametrize(
    ("measure", "curve"),
    [
        (Measure.LOG_DET, lambda n: 3 + 8 * np.log(n)),
        (Measure.STANDARD_ERROR, lambda n: 4 * n**-0.5),
        (Measure.BOUND, lambda n: 9 * n**-0.45),
        (Measure.ACCURACY, lambda n: 0.82 - 1.1 / np.sqrt(n)),
    ],
)
def test_a_noiseless_planted_curve_is_carried_on_exactly(measure: Measure, curve) -> None:  # type: ignore[no-untyped-def]
    found = forecast(measure, LABELS, curve(LABELS), AT)
    assert found is not None
    np.testing.assert_allclose(found.value, curve(AT), rtol=1e-9)
    np.testing.assert_allclose(found.high - found.low, 0, atol=1e-6)


def test_the_interval_covers_what_comes() -> None:
    inside = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        values = 4 * LABELS**-0.5 * np.exp(generator.normal(0, 0.1, size=LABELS.size))
        there = 4 * 1000**-0.5 * np.exp(generator.normal(0, 0.1))
        found = forecast(Measure.STANDARD_ERROR, LABELS, values, np.array([1000.0]))
        assert found is not None
        inside += found.low[0] <= there <= found.high[0]
    assert 0.92 < inside / 400 < 0.99


def test_noise_that_persists_widens_the_interval() -> None:
    generator = np.random.default_rng(0)
    white = generator.normal(0, 1, size=LABELS.size)
    smooth = np.concatenate([np.sort(white[:9]), np.sort(white[9:])[::-1]])
    widths = []
    for noise in (white, smooth):
        noise = (noise - noise.mean()) / noise.std()
        found = forecast(Measure.LOG_DET, LABELS, 5 * np.log(LABELS) + 0.1 * noise, AT)
        assert found is not None
        widths.append(found.high[0] - found.low[0])
    assert widths[1] > widths[0]


def test_accuracy_stays_within_zero_and_one() -> None:
    found = forecast(Measure.ACCURACY, LABELS, 1.0 - 3 / np.sqrt(LABELS), np.array([1e6]))
    assert found is not None
    assert found.high[0] <= 1


def test_the_axis_may_be_money() -> None:
    by_labels = forecast(Measure.BOUND, LABELS, 9 * LABELS**-0.45, AT)
    by_money = forecast(Measure.BOUND, 0.4 * LABELS, 9 * LABELS**-0.45, 0.4 * AT)
    assert by_labels is not None
    assert by_money is not None
    np.testing.assert_allclose(by_labels.value, by_money.value, rtol=1e-9)


def test_a_short_curve_has_no_forecast() -> None:
    assert forecast(Measure.LOG_DET, LABELS[:4], LABELS[:4], AT) is None
    advice = advise_stop(Measure.LOG_DET, LABELS[:4], LABELS[:4], following=100, threshold=0.1)
    assert advice.should_stop is None
    assert "five" in advice.change.reason


@pytest.mark.parametrize("values", [np.zeros(LABELS.size), -np.ones(LABELS.size)])
def test_an_error_at_or_below_zero_is_refused(values: Floats) -> None:
    with pytest.raises(ValueError, match="above 0"):
        forecast(Measure.STANDARD_ERROR, LABELS, values, AT)


def test_it_stops_when_the_next_labels_move_less_than_the_threshold() -> None:
    values = 4 * LABELS**-0.5
    gain = 4 * 500**-0.5 - 4 * 600**-0.5
    stop = advise_stop(Measure.STANDARD_ERROR, LABELS, values, following=100, threshold=1.01 * gain)
    go_on = advise_stop(Measure.STANDARD_ERROR, LABELS, values, following=100, threshold=0.99 * gain)
    assert stop.should_stop is True
    assert go_on.should_stop is False
    assert stop.change.value == pytest.approx(gain)


def test_the_changes_interval_covers_the_planted_change() -> None:
    inside, planted = 0, 0.5 * np.log(600 / 500)
    for seed in range(300):
        values = 0.5 * np.log(LABELS) + np.random.default_rng(seed).normal(0, 0.05, size=LABELS.size)
        change = advise_stop(Measure.LOG_DET, LABELS, values, following=100, threshold=0.1).change
        assert change.low is not None
        assert change.high is not None
        inside += change.low <= planted <= change.high
    assert 0.91 < inside / 300 < 0.99


def test_a_planted_saving_is_found_and_covered() -> None:
    inside = 0
    for seed in range(25):
        generator = np.random.default_rng(seed)
        control = generator.standard_normal((400, 4))
        designed = generator.standard_normal((600, 4)) * np.sqrt(5.0)
        found = design_saving(designed, control)
        assert found.value == pytest.approx(5.0, rel=0.25)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 5.0 <= found.high
    assert 21 <= inside <= 25


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize(("width", "sizes"), [(16, (400, 36)), (16, (400, 100)), (32, (900, 100)), (32, (2000, 220))])
def test_arms_from_one_distribution_save_nothing(width: int, sizes: tuple[int, int], spread: float) -> None:
    """Nine labels to one, and few for the features: what a small sample's log det lacks is no saving."""
    inside, values = 0, []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        arms = [
            generator.standard_normal((size, width)) * np.exp(generator.normal(0, spread, size=(size, 1)))
            for size in sizes
        ]
        found = design_saving(*arms)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
        values.append(found.value)
        inside += found.low <= 1.0 <= found.high
    assert inside / 60 > 0.85
    assert float(np.median(values)) == pytest.approx(1.0, abs=0.07)


def test_the_log_det_of_normal_rows_is_that_of_wishart() -> None:
    """E log det X'X of normal rows is sum_j psi((n - j) / 2) + d log 2: what the estimate adds takes n and d there."""
    added = []
    for seed in range(40):
        rows = np.random.default_rng(seed).standard_normal((150, 30))
        found = expected_log_det(rows)
        assert found is not None
        added.append(found[0] - np.linalg.slogdet(rows.T @ rows / 150)[1])
    wishart = digamma((150 - np.arange(30)) / 2).sum() + 30 * np.log(2 / 150)
    assert float(np.mean(added)) == pytest.approx(-wishart, rel=0.06)


def test_a_saving_has_the_unit_of_neither_arm_nor_features() -> None:
    generator = np.random.default_rng(0)
    designed, control = generator.standard_normal((90, 4)), generator.standard_normal((60, 4))
    plain, turned = (design_saving(designed @ turn, control @ turn) for turn in (np.eye(4), np.triu(np.ones((4, 4)))))
    assert turned.value == pytest.approx(plain.value)
    assert turned.low == pytest.approx(plain.low)


def test_a_saving_needs_two_labels_a_feature_in_each_arm() -> None:
    found = design_saving(np.ones((100, 4)), np.ones((7, 4)))
    assert found.value is None
    assert "twice" in found.reason


def test_arms_that_do_not_span_the_features_are_explained() -> None:
    flat = np.ones((100, 4))
    assert "span" in design_saving(flat, flat).reason


def test_an_arm_that_one_label_alone_makes_span_the_features_is_explained() -> None:
    rows = np.vstack([np.eye(4)[:3]] * 10 + [np.eye(4)[3]])
    assert "span" in design_saving(rows, rows).reason
