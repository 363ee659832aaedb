"""Intervals: by hand, and covering what they claim to."""

import numpy as np
import pytest

from activelearning.algorithms.figures import mean, percentile_interval, proportion


def test_wilsons_interval_worked_by_hand() -> None:
    found = proportion(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.4902, abs=1e-4)  # Brown, Cai and DasGupta (2001), by their formula
    assert found.high == pytest.approx(0.9433, abs=1e-4)


def test_wilsons_interval_is_honest_at_the_ends() -> None:
    never, always = proportion(0, 12), proportion(12, 12)
    assert never.low == 0
    assert never.high == pytest.approx(0.2425, abs=1e-4)
    assert always.high == 1
    assert always.low == pytest.approx(1 - 0.2425, abs=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_wilsons_interval_covers(share: float) -> None:
    counts = np.random.default_rng(0).binomial(40, share, size=2000)
    found = [proportion(int(count), 40) for count in counts]
    inside = np.mean([f.low <= share <= f.high for f in found if f.low is not None and f.high is not None])
    assert 0.93 < inside < 0.98


def test_no_observations_have_a_reason_and_no_value() -> None:
    assert proportion(0, 0).value is None
    assert proportion(0, 0, reason="Ask more.").reason == "Ask more."
    assert mean(np.array([])).value is None


def test_one_observation_has_no_interval() -> None:
    found = mean(np.array([0.3]))
    assert found.value == 0.3
    assert found.low is None
    assert "interval" in found.reason


def test_the_percentiles_of_resamples_cover_a_mean() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(200):
        values = generator.exponential(size=80)
        resamples = values[generator.integers(80, size=(200, 80))].mean(axis=1)
        ends = percentile_interval(resamples)
        assert ends is not None
        inside += ends[0] <= 1.0 <= ends[1]
    assert 0.88 < inside / 200 < 0.99


def test_what_is_undefined_in_most_resamples_has_no_interval() -> None:
    assert percentile_interval(np.array([1.0, np.nan, np.nan])) is None
    assert percentile_interval(np.array([1.0, 1.0, np.nan])) == (1.0, 1.0)
