"""Which picture shows what: a campaign's rows drawn by `plots`."""

from collections.abc import Callable

import numpy as np
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from activelearning.algorithms.forecast import Measure
from activelearning.curves import running_accuracy
from activelearning.outlook import Axis, Question, measured, read_outlook
from activelearning.plots import Line, draw_intervals, draw_lines, draw_reliability
from activelearning.portraits import Portrait
from activelearning.progress import course_of
from annotation.models import Campaign


def draw_information(campaign: Campaign, question: Question, theme: str) -> str:
    curve = course_of(campaign).curve
    return draw_lines(
        [Line(_("information"), curve.labels, curve.log_det)], x=_("labels"), y=_("nats of log det"), theme=theme
    )


def draw_error(campaign: Campaign, question: Question, theme: str) -> str:
    curve = course_of(campaign).curve
    return draw_lines(
        [Line(_("largest standard error"), curve.labels, curve.worst_error)],
        x=_("labels"),
        y=_("of a reward difference"),
        theme=theme,
    )


def draw_certificate(campaign: Campaign, question: Question, theme: str) -> str:
    curve = course_of(campaign).curve
    return draw_lines(
        [Line(_("g / d of the labels so far"), curve.labels, curve.certificate)],
        x=_("labels"),
        y=_("g / d"),
        theme=theme,
        level=1.0,
        level_name=_("the D-optimal design"),
    )


def draw_accuracy(campaign: Campaign, question: Question, theme: str) -> str:
    counts, value, low, high = running_accuracy(course_of(campaign).scores)
    line = Line(_("accuracy so far, 95 %"), counts, value, low, high)
    return draw_lines(
        [line], x=_("control labels"), y=_("share predicted right"), theme=theme, level=0.5, level_name=_("a coin")
    )


def draw_calibration(campaign: Campaign, question: Question, theme: str) -> str:
    curve = course_of(campaign).calibration.curve
    observed = [place.observed for place in curve]
    return draw_reliability(
        np.array([place.predicted for place in curve]),
        np.array([figure.value for figure in observed], dtype=np.float64),
        np.array([figure.low for figure in observed], dtype=np.float64),
        np.array([figure.high for figure in observed], dtype=np.float64),
        np.array([figure.count for figure in observed], dtype=np.float64),
        x=_("predicted probability"),
        y=_("share of labels"),
        theme=theme,
    )


def draw_outlook(campaign: Campaign, question: Question, theme: str) -> str:
    course = course_of(campaign)
    labels, values = measured(course.curve, course.scores, question)
    lines = [Line(_("so far"), labels, values)]
    ahead = read_outlook(campaign, course.curve, course.scores, question).forecast
    if ahead is not None:
        lines.append(Line(_("expected, 95 %"), ahead.labels, ahead.value, ahead.low, ahead.high, is_dashed=True))
    x = _("money spent, %(currency)s") % {"currency": campaign.currency}
    if question.axis is Axis.LABELS:
        x = _("labels")
    return draw_lines(lines, x=x, y=str(AXES[question.measure]), theme=theme)


AXES = {
    Measure.STANDARD_ERROR: gettext_lazy("largest standard error"),
    Measure.LOG_DET: gettext_lazy("nats of log det"),
    Measure.BOUND: gettext_lazy("bound on the policy's loss"),
    Measure.ACCURACY: gettext_lazy("share predicted right"),
}


def draw_teacher(portrait: Portrait, theme: str) -> str:
    cells = portrait.cells
    return draw_intervals(
        [cell.category or _("no category") for cell in cells],
        np.array([cell.value for cell in cells]),
        np.array([cell.low for cell in cells]),
        np.array([cell.high for cell in cells]),
        x=_("rationality, with its interval at 95 %"),
        theme=theme,
    )


PROGRESS: dict[str, Callable[[Campaign, Question, str], str]] = {
    "information": draw_information,
    "error": draw_error,
    "certificate": draw_certificate,
    "accuracy": draw_accuracy,
    "calibration": draw_calibration,
    "outlook": draw_outlook,
}
