"""A figure in a template: its value, and its interval in brackets; a dash where it is undefined."""

from django import template
from django.utils import translation
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_noop

from activelearning.algorithms.figures import Figure

register = template.Library()

SENTENCES = (
    gettext_noop("There are no labels yet."),
    gettext_noop("One label gives no interval."),
    gettext_noop("No comparison has answers of two teachers; raise the overlap limit or the share of control offers."),
    gettext_noop("Fewer than 5 shared comparisons give no interval."),
    gettext_noop(
        "Every shared answer is the same, so alpha has no chance agreement to compare with; see raw agreement."
    ),
    gettext_noop("This teacher has not answered a planned repeat yet."),
    gettext_noop("No control label has been scored yet: an estimate must come first, and a few dozen are needed."),
    gettext_noop("The curve has too few points yet: a forecast needs five."),
    gettext_noop("Each arm needs twice as many labels as there are features."),
    gettext_noop("The labels of an arm do not span the features yet."),
)
"""What the algorithms say of a figure that has no value or no interval; they know no framework, so it is translated
here."""


@register.filter
def percent(figure: Figure | None) -> str | SafeString:
    """73 % [66, 79]"""
    return _show(figure, factor=100.0, places=0, unit=" %")


@register.filter
def decimal(figure: Figure | None, places: int = 2) -> str | SafeString:
    """0.53 [0.41, 0.66]"""
    return _show(figure, factor=1.0, places=places, unit="")


@register.filter
def why(figure: Figure) -> str:
    """Why there is no value, or no interval; empty where there is one."""
    return translation.gettext(figure.reason) if figure.reason else ""


@register.filter
def as_percent(share: float | None) -> str:
    """A bare share as a percentage."""
    return "–" if share is None else f"{_rounded(100 * share, 0)} %"


def _show(figure: Figure | None, *, factor: float, places: int, unit: str) -> str | SafeString:
    if figure is None or figure.value is None:
        return "–"
    value = _rounded(factor * figure.value, places)
    if figure.low is None or figure.high is None:
        return f"{value}{unit}"
    ends = ", ".join(_rounded(factor * end, places) for end in (figure.low, figure.high))
    return format_html('{}{} <span class="muted">[{}]</span>', value, unit, ends)


def _rounded(value: float, places: int) -> str:
    """`number_format` cuts off what it does not show; a nought has no sign."""
    return number_format(round(value, places) + 0.0, places)
