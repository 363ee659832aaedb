"""A figure in a template: its value, and its interval in brackets; a dash where it is undefined."""

from django import template
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from activelearning.algorithms.figures import Figure

register = template.Library()


@register.filter
def percent(figure: Figure | None) -> str | SafeString:
    """73 % [66, 79]"""
    return _show(figure, factor=100.0, places=0, unit=" %")


@register.filter
def decimal(figure: Figure | None, places: int = 2) -> str | SafeString:
    """0.53 [0.41, 0.66]"""
    return _show(figure, factor=1.0, places=places, unit="")


@register.filter
def as_percent(share: float | None) -> str:
    """A bare share as a percentage."""
    return "–" if share is None else f"{number_format(100 * share, 0)} %"


def _show(figure: Figure | None, *, factor: float, places: int, unit: str) -> str | SafeString:
    if figure is None or figure.value is None:
        return "–"
    value = number_format(factor * figure.value, places)
    if figure.low is None or figure.high is None:
        return f"{value}{unit}"
    ends = ", ".join(number_format(factor * end, places) for end in (figure.low, figure.high))
    return format_html('{}{} <span class="muted">[{}]</span>', value, unit, ends)
