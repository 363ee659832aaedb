"""What is known of each teacher in a campaign, and how far teachers agree: statistics from rows."""

from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from django.db.models import Count

from activelearning.algorithms.agreement import Agreement, measure_agreement, measure_consistency
from activelearning.algorithms.figures import Figure
from activelearning.models import TeacherRationality
from annotation.models import Campaign, Label, Offer, Teacher

Z = 1.959964


# Teachers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One teacher's rationality in one category."""

    category: str
    value: float
    low: float
    high: float
    labels: int

    @property
    def is_inverted(self) -> bool:
        """The whole interval lies below 0: answers the wrong way round."""
        return self.high < 0

    @property
    def is_guess(self) -> bool:
        """0, a coin flip, lies in the interval."""
        return self.low <= 0 <= self.high


@dataclass
class Portrait:
    """What is known of one teacher in one campaign."""

    teacher: Teacher
    cells: list[Cell] = field(default_factory=list)
    bias: float | None = None
    bias_low: float | None = None
    bias_high: float | None = None
    labels: int = 0
    ties: int = 0
    seconds: float | None = None
    """Median from shown to answered."""
    offers: dict[str, int] = field(default_factory=dict)
    consistency: Figure | None = None
    """Share of planned repeats, shown in mirrored order, that got the same answer."""

    @property
    def is_inverted(self) -> bool:
        return any(cell.is_inverted for cell in self.cells)

    @property
    def has_position_bias(self) -> bool:
        """The interval of the pull to the first-shown response leaves 0 out."""
        return self.bias_low is not None and self.bias_high is not None and not self.bias_low <= 0 <= self.bias_high

    @property
    def tie_share(self) -> float | None:
        return self.ties / self.labels if self.labels else None

    @property
    def offers_named(self) -> list[tuple[str, int]]:
        return [(str(state.label), self.offers[state]) for state in Offer.State if state in self.offers]


def read_portraits(campaign: Campaign) -> list[Portrait]:
    """Every teacher with an offer in the campaign, most labels first."""
    offers: dict[int, dict[str, int]] = defaultdict(dict)
    counted = Offer.objects.filter(campaign=campaign).order_by().values_list("teacher_id", "state")
    for teacher, state, count in counted.annotate(count=Count("id")):
        offers[teacher][state] = count
    found = {
        teacher.pk: Portrait(teacher, offers=offers[teacher.pk]) for teacher in Teacher.objects.in_bulk(offers).values()
    }
    seconds: dict[int, list[float]] = defaultdict(list)
    labels = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT)
    for teacher, choice, took in labels.values_list("teacher_id", "choice", "seconds"):
        portrait = found[teacher]
        portrait.labels += 1
        portrait.ties += choice in (Label.Choice.TIE, Label.Choice.BOTH_BAD)
        seconds[teacher].append(took)
    for teacher, times in seconds.items():
        found[teacher].seconds = float(np.median(times))
    for teacher, figure in read_consistency(campaign).items():
        found[teacher].consistency = figure
    for row in TeacherRationality.objects.filter(campaign=campaign).order_by("category"):
        portrait = found[row.teacher_id]
        portrait.cells.append(
            Cell(row.category, row.value, row.value - Z * row.error, row.value + Z * row.error, row.label_count)
        )
        portrait.bias = row.bias
        portrait.bias_low, portrait.bias_high = row.bias - Z * row.bias_error, row.bias + Z * row.bias_error
    return sorted(found.values(), key=lambda portrait: (-portrait.labels, portrait.teacher.pseudonym))


# Agreement ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgements:
    """Current labels of one category as (comparison, teacher, outcome of the pair); repeats stand apart."""

    category: str
    comparison: list[int]
    teacher: list[int]
    outcome: list[float]


def read_judgements(campaign: Campaign) -> list[Judgements]:
    """By category, every teacher's first answer to every comparison: repeats are about consistency, not agreement."""
    rows = (
        Label.objects.filter(campaign=campaign, state=Label.State.CURRENT)
        .exclude(arm__in=(Offer.Arm.REPEAT, Offer.Arm.TUTORIAL))
        .select_related("comparison")
        .order_by("id")
    )
    found: dict[str, Judgements] = {}
    for label in rows.only("choice", "b_first", "teacher_id", "comparison__category", "comparison_id"):
        category = label.comparison.category
        entry = found.setdefault(category, Judgements(category, [], [], []))
        entry.comparison.append(label.comparison_id)
        entry.teacher.append(label.teacher_id)
        entry.outcome.append(label.outcome)
    return [found[name] for name in sorted(found)]


@dataclass(frozen=True)
class CategoryAgreement:
    """How far teachers agree with one another in one category; "" stands for all of them together."""

    category: str | None
    agreement: Agreement


def read_agreement(campaign: Campaign) -> list[CategoryAgreement]:
    """All categories together first, then each."""
    judgements = read_judgements(campaign)
    if not judgements:
        return []
    generator = np.random.default_rng(campaign.seed)
    parts: list[tuple[str | None, list[int], list[float]]] = [
        (None, [pk for one in judgements for pk in one.comparison], [out for one in judgements for out in one.outcome])
    ]
    if len(judgements) > 1:
        parts += [(one.category, one.comparison, one.outcome) for one in judgements]
    return [
        CategoryAgreement(
            category,
            measure_agreement(np.array(comparison, dtype=np.int64), np.array(outcome), generator=generator),
        )
        for category, comparison, outcome in parts
    ]


def read_consistency(campaign: Campaign) -> dict[int, Figure]:
    """By teacher with a planned repeat: the share of repeats that got the first answer again, as the pair has it."""
    repeats = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT, arm=Offer.Arm.REPEAT)
    asked = {(label.teacher_id, label.comparison_id): label.outcome for label in repeats.order_by("-id")}
    if not asked:
        return {}
    firsts = Label.objects.filter(
        campaign=campaign, state=Label.State.CURRENT, comparison_id__in={comparison for _, comparison in asked}
    ).exclude(arm__in=(Offer.Arm.REPEAT, Offer.Arm.TUTORIAL))
    pairs = [
        (label.teacher_id, label.outcome, asked[label.teacher_id, label.comparison_id])
        for label in firsts.order_by("id")
        if (label.teacher_id, label.comparison_id) in asked
    ]
    teachers = sorted({teacher for teacher, _, _ in pairs})
    figures = measure_consistency(
        np.array([teachers.index(teacher) for teacher, _, _ in pairs], dtype=np.int64),
        np.array([first for _, first, _ in pairs]),
        np.array([again for _, _, again in pairs]),
        teachers=len(teachers),
    )
    return dict(zip(teachers, figures, strict=True))


def read_portrait(campaign: Campaign, code: UUID) -> Portrait | None:
    return next((row for row in read_portraits(campaign) if row.teacher.code == code), None)
