"""Which picture shows what: a campaign's rows drawn by `plots`."""

from collections.abc import Callable

import numpy as np
from django.utils.translation import gettext as _

from activelearning.plots import Line, draw_intervals, draw_lines
from activelearning.progress import Portrait, read_curve
from annotation.models import Campaign


def draw_information(campaign: Campaign, theme: str) -> str:
    curve = read_curve(campaign)
    return draw_lines(
        [Line(_("information"), curve.labels, curve.log_det)], x=_("labels"), y=_("nats of log det"), theme=theme
    )


def draw_error(campaign: Campaign, theme: str) -> str:
    curve = read_curve(campaign)
    return draw_lines(
        [Line(_("largest standard error"), curve.labels, curve.worst_error)],
        x=_("labels"),
        y=_("of a reward difference"),
        theme=theme,
    )


def draw_certificate(campaign: Campaign, theme: str) -> str:
    curve = read_curve(campaign)
    return draw_lines(
        [Line(_("g / d of the labels so far"), curve.labels, curve.certificate)],
        x=_("labels"),
        y=_("g / d"),
        theme=theme,
        level=1.0,
        level_name=_("the D-optimal design"),
    )


def draw_teacher(portrait: Portrait, theme: str) -> str:
    cells = portrait.cells
    return draw_intervals(
        [cell.category or _("no category") for cell in cells],
        np.array([cell.value for cell in cells]),
        np.array([cell.low for cell in cells]),
        np.array([cell.high for cell in cells]),
        x=_("rationality, with its 95 % interval"),
        theme=theme,
    )


PROGRESS: dict[str, Callable[[Campaign, str], str]] = {
    "information": draw_information,
    "error": draw_error,
    "certificate": draw_certificate,
}
