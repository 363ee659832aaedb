"""When labels are too few to train on."""

import pytest

from training.algorithms.sufficiency import is_deficient


@pytest.mark.parametrize(
    ("smallest", "ridge", "found"),
    [(1.0, 1.0, True), (1.99, 1.0, True), (2.0, 1.0, False), (2.0, 1.5, True), (0.2, 0.1, False)],
)
def test_a_direction_needs_as_much_again_as_the_ridge_gives(smallest: float, ridge: float, found: bool) -> None:
    assert is_deficient(smallest, ridge=ridge) is found
