"""The study's own statistics: planted curves, planted savings, planted slopes."""

import numpy as np
import pytest

from benchmarks.curves import labels_to_reach, saving, savings, slope

LABELS = np.geomspace(20, 1000, 15)


def test_labels_to_reach_reads_between_the_points() -> None:
    assert labels_to_reach(np.array([10.0, 1000.0]), np.array([1.0, 0.01]), 0.1) == pytest.approx(100)
    assert labels_to_reach(LABELS, 1 / LABELS, 1 / 1001) == np.inf
    assert labels_to_reach(LABELS, 1 / LABELS, 1.0) == 20


def test_a_planted_saving_is_read_off_both_ways() -> None:
    assert saving(LABELS, 8 / LABELS, 1 / LABELS) == pytest.approx(8, rel=1e-6)
    assert saving(LABELS, 1 / LABELS, 8 / LABELS) == pytest.approx(1 / 8, rel=1e-6)
    assert saving(LABELS, 1 / LABELS, 1 / LABELS) == pytest.approx(1)


def test_the_interval_of_a_saving_holds_the_planted_one() -> None:
    generator = np.random.default_rng(0)
    noise = np.exp(generator.normal(-0.02, 0.2, size=(2, 40, LABELS.size)))
    found = savings(LABELS, noise[0] * 5 / LABELS, noise[1] / LABELS, generator=generator)
    assert found.low < 5 < found.high
    assert found.high - found.low < 2


def test_a_planted_slope_is_found() -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, size=(40, LABELS.size)))
    found = slope(LABELS, noise * LABELS**-0.7, after=50, generator=np.random.default_rng(1))
    assert found.low < -0.7 < found.high
