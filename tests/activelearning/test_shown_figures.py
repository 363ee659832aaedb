"""A figure as a template shows it: rounded, in the reader's language, with its interval or a dash."""

from collections.abc import Iterator

import pytest
from django.utils import translation

from activelearning.algorithms.figures import Figure
from activelearning.templatetags.figures import as_percent, decimal, percent


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def test_figures_are_rounded_and_not_cut_off() -> None:
    figure = Figure(0.7399, 0.6751, 0.7996, 100)
    assert percent(figure) == '74 % <span class="muted">[68, 80]</span>'
    assert decimal(figure) == '0.74 <span class="muted">[0.68, 0.80]</span>'
    assert as_percent(0.996) == "100 %"
    with translation.override("de"):
        assert decimal(figure, 1) == '0,7 <span class="muted">[0,7, 0,8]</span>'


@pytest.mark.parametrize(("value", "shown"), [(-0.0004, "0.00"), (-0.296, "-0.30"), (1e-9, "0.00"), (1.999, "2.00")])
def test_a_nought_has_no_sign(value: float, shown: str) -> None:
    assert decimal(Figure(value, None, None, 3)) == shown


def test_what_is_undefined_is_a_dash() -> None:
    assert (percent(None), decimal(Figure.undefined("Ask more.")), as_percent(None)) == ("–", "–", "–")
