"""Line plots: round ticks around the numbers, long lines thinned, nothing that is not finite."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from django.utils.translation import override

from training.plots import MOST, _thinned, _ticks, line_plot


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.61, 0.69], [0.60, 0.62, 0.64, 0.66, 0.68, 0.70]),
        ([-3.0, 2000.0], [-500.0, 0.0, 500.0, 1000.0, 1500.0, 2000.0]),
    ],
)
def test_ticks_are_round_and_hold_every_value(values: list[float], ticks: list[float]) -> None:
    assert _ticks(values) == pytest.approx(ticks)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-9, 1e12])
def test_one_value_alone_still_has_room(value: float) -> None:
    ticks = _ticks([value])
    assert ticks[0] <= value <= ticks[-1]
    assert ticks[0] < ticks[-1]


def test_a_long_line_is_thinned_to_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(10 * MOST)]
    thin = _thinned(points)
    assert len(thin) <= MOST
    assert {y for _, y in thin} == {0.5}


def test_it_is_xml_without_style_or_script_and_leaves_out_what_is_not_finite() -> None:
    picture = line_plot([("a & <b>", [(1, 2), (2, math.nan), (3, math.inf), (4, 5)])], x="step", y="loss", theme="dark")
    root = ElementTree.fromstring(picture)
    assert not [element for element in root.iter() if "style" in element.attrib or element.tag.endswith("script")]
    (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    assert len(line.attrib["points"].split()) == 2
    assert "a & <b>" in "".join(root.itertext())


def test_without_points_it_says_so() -> None:
    assert "nothing to draw yet" in line_plot([("loss", [])], x="step", y="loss")
    with override("de"):
        drawn = line_plot([("Verlust", [])], x="Schritt", y="Verlust")
    assert "noch nichts zu zeichnen" in drawn
    assert "Verlust gegen Schritt" in drawn
