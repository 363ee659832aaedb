"""Forecasts: planted curves carried on, intervals that cover, advice that follows, and a planted saving."""

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import t as student

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


def grow(seed: int) -> tuple[Floats, Floats, Floats]:
    """A campaign of 600 labels, measured every ten: counts, worst error over sixty rows, log det of the information."""
    generator = np.random.default_rng(seed)
    pool, lengths = generator.standard_normal((60, 8)), np.exp(generator.normal(0, 0.5, size=(600, 1)))
    labels = generator.standard_normal((600, 8)) * lengths
    information = np.eye(8) + np.cumsum(0.2 * labels[:, :, None] * labels[:, None, :], axis=0)[9::10]
    variances = np.einsum("ij,njk,ik->ni", pool, np.linalg.inv(information), pool)
    return np.arange(10.0, 601.0, 10.0), np.sqrt(variances.max(axis=1)), np.linalg.slogdet(information)[1]


@pytest.mark.parametrize("apart", [1, 5])
@pytest.mark.parametrize(("measure", "column"), [(Measure.STANDARD_ERROR, 1), (Measure.LOG_DET, 2)])
def test_a_campaigns_next_labels_end_within_the_interval_and_so_does_the_change(
    measure: Measure, column: int, apart: int
) -> None:
    """Points of one campaign share labels; how far apart they were measured must not matter."""
    ends = changes = 0
    for seed in range(120):
        campaign = grow(seed)
        labels, values = campaign[0], campaign[column]
        past = np.flatnonzero((labels >= 125) & (labels <= 500))[::-apart][::-1]
        there = forecast(measure, labels[past], values[past], labels[-1:])
        change = advise_stop(measure, labels[past], values[past], following=100, threshold=0.1).change
        assert there is not None
        assert change.low is not None
        assert change.high is not None
        ends += there.low[0] <= values[-1] <= there.high[0]
        changes += change.low <= abs(values[-1] - values[past[-1]]) <= change.high
    assert 0.88 < ends / 120 < 0.99
    assert 0.88 < changes / 120 < 0.99


def test_the_forecast_starts_from_where_the_curve_is() -> None:
    values = 4 * LABELS**-0.5 * np.exp(np.random.default_rng(1).normal(0, 0.05, size=LABELS.size))
    found = forecast(Measure.STANDARD_ERROR, LABELS, values, np.array([500.0, 501.0, 600.0, 1000.0]))
    assert found is not None
    assert found.value[0] == pytest.approx(values[-1])
    assert found.high[0] - found.low[0] == pytest.approx(0.0, abs=1e-9)
    assert np.all(np.diff(found.high / found.low) > 0)


def test_the_curves_line_is_that_of_generalised_least_squares() -> None:
    """Fit and forecast, by the covariance matrix c / max(n, m) of points that share labels."""
    values = 5 * np.log(LABELS) + np.random.default_rng(2).normal(0, 0.1, size=LABELS.size)
    shared = 1.0 / np.maximum.outer(LABELS, LABELS)
    inverse, design = np.linalg.inv(shared), np.column_stack([np.ones(LABELS.size), np.log(LABELS)])
    scatter = np.linalg.inv(design.T @ inverse @ design)
    line = scatter @ design.T @ inverse @ values
    rest = values - design @ line
    spread = rest @ inverse @ rest / (LABELS.size - 2)
    ahead, weights = np.array([1.0, np.log(800.0)]), inverse @ np.full(LABELS.size, 1 / 800)
    short = ahead - design.T @ weights
    error = np.sqrt(spread * (1 / 800 - weights @ shared @ weights + short @ scatter @ short))
    found = forecast(Measure.LOG_DET, LABELS, values, np.array([800.0]))
    assert found is not None
    assert found.value[0] == pytest.approx(ahead @ line + weights @ rest)
    assert (found.high - found.low)[0] == pytest.approx(2 * student.ppf(0.975, LABELS.size - 2) * error)


@pytest.mark.parametrize("at", [400.0, 499.0])
def test_a_forecast_looks_ahead(at: float) -> None:
    with pytest.raises(ValueError, match="ahead"):
        forecast(Measure.LOG_DET, LABELS, np.log(LABELS), np.array([at]))


def test_counts_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="above the one before"):
        forecast(Measure.LOG_DET, LABELS[::-1], np.log(LABELS), AT)


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


def test_accuracys_intervals_cover_what_was_planted() -> None:
    """Its points share no labels: the interval of the next point holds its noise, that of the change is the line's."""
    ends = changes = 0
    planted = 1.1 / np.sqrt(500) - 1.1 / np.sqrt(600)
    for seed in range(300):
        generator = np.random.default_rng(seed)
        values = 0.7 - 1.1 / np.sqrt(LABELS) + generator.normal(0, 0.02, size=LABELS.size)
        there = forecast(Measure.ACCURACY, LABELS, values, np.array([600.0]))
        change = advise_stop(Measure.ACCURACY, LABELS, values, following=100, threshold=0.1).change
        assert there is not None
        assert change.low is not None
        assert change.high is not None
        ends += there.low[0] <= 0.7 - 1.1 / np.sqrt(600) + generator.normal(0, 0.02) <= there.high[0]
        changes += change.low <= planted <= change.high
    assert 0.91 < ends / 300 < 0.99
    assert 0.91 < changes / 300 < 0.99


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


def test_a_saving_costs_a_few_factorisations_however_many_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan waits for it: with 384 features, hundreds of resamples of 20,000 labels took longer than its task may."""
    generator, calls, factor = np.random.default_rng(0), [], np.linalg.cholesky

    def counted(information: Floats) -> Floats:
        calls.append(information.shape)
        return np.asarray(factor(information))

    monkeypatch.setattr(np.linalg, "cholesky", counted)
    found = design_saving(generator.standard_normal((20_000, 64)), generator.standard_normal((2_200, 64)))
    assert found.low is not None
    assert calls == [(64, 64)] * len(calls)
    assert 2 <= len(calls) <= 4


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
