"""What is known of each teacher in a campaign, and how far teachers agree: statistics from rows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from django.db.models import Avg, Case, Count, Exists, F, FloatField, OuterRef, Q, QuerySet, Subquery, Sum, When, Window
from django.db.models.functions import RowNumber
from django.db.models.lookups import Exact
from numpy.typing import NDArray

from activelearning.algorithms.agreement import VALUES, Agreement, measure_agreement, measure_consistency
from activelearning.algorithms.figures import Figure, proportion
from activelearning.algorithms.types import Ints
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
    agreement: Figure | None = None
    """Share of others' answers to the same comparisons that were this teacher's, each comparison counting once."""

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


def teachers_of(campaign: Campaign) -> QuerySet[Teacher]:
    """Every teacher who was ever offered a comparison of the campaign."""
    return Teacher.objects.filter(Exists(Offer.objects.filter(campaign=campaign, teacher=OuterRef("pk"))))


def inverted_among(campaign: Campaign) -> QuerySet[Teacher]:
    """Those of them who answer the wrong way round in some category, as `Cell.is_inverted` has it."""
    wrong = TeacherRationality.objects.filter(campaign=campaign, value__lt=-Z * F("error"))
    return teachers_of(campaign).filter(pk__in=wrong.values("teacher"))


def read_portraits(campaign: Campaign, teachers: Sequence[Teacher]) -> list[Portrait]:
    """What is known of these teachers, in their order: the database counts, so that labels stay where they are."""
    found = {teacher.pk: Portrait(teacher) for teacher in teachers}
    counted = Offer.objects.filter(campaign=campaign, teacher__in=found).order_by().values_list("teacher_id", "state")
    for teacher, state, count in counted.annotate(count=Count("id")):
        found[teacher].offers[state] = count
    labels = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT, teacher__in=found)
    ties = Count("id", filter=Q(choice__in=TIES))
    for teacher, count, tied in labels.order_by().values_list("teacher_id").annotate(count=Count("id"), ties=ties):
        found[teacher].labels, found[teacher].ties = count, tied
    for teacher, seconds in _median_seconds(labels).items():
        found[teacher].seconds = seconds
    for teacher, figure in read_consistency(labels).items():
        found[teacher].consistency = figure
    for teacher, figure in read_agreement_with_others(labels).items():
        found[teacher].agreement = figure
    for row in TeacherRationality.objects.filter(campaign=campaign, teacher__in=found).order_by("category"):
        portrait = found[row.teacher_id]
        portrait.cells.append(
            Cell(row.category, row.value, row.value - Z * row.error, row.value + Z * row.error, row.label_count)
        )
        portrait.bias = row.bias
        portrait.bias_low, portrait.bias_high = row.bias - Z * row.bias_error, row.bias + Z * row.bias_error
    return list(found.values())


def read_portrait(campaign: Campaign, code: UUID) -> Portrait | None:
    return next(iter(read_portraits(campaign, list(teachers_of(campaign).filter(code=code)))), None)


def _median_seconds(labels: QuerySet[Label]) -> dict[int, float]:
    """By teacher: the one or two in the middle are picked by the database, of which not every one has a median."""
    placed = labels.order_by().annotate(
        place=2 * Window(RowNumber(), partition_by="teacher_id", order_by=["seconds", "id"]),
        number=Window(Count("id"), partition_by="teacher_id"),
    )
    middle = placed.filter(place__gte=F("number"), place__lte=F("number") + 2)
    found: dict[int, list[float]] = defaultdict(list)
    for teacher, seconds in middle.values_list("teacher_id", "seconds"):
        found[teacher].append(seconds)
    return {teacher: sum(times) / len(times) for teacher, times in found.items()}


# Agreement ------------------------------------------------------------------------------------------------------------


TIES = (Label.Choice.TIE, Label.Choice.BOTH_BAD)
OUTCOME = Case(
    When(choice__in=TIES, then=0.5),
    When(Q(choice=Label.Choice.FIRST, b_first=False) | Q(choice=Label.Choice.SECOND, b_first=True), then=1.0),
    default=0.0,
    output_field=FloatField(),
)
"""What `Label.outcome` says, said to the database."""
ALONE = (Offer.Arm.REPEAT, Offer.Arm.TUTORIAL)
"""Arms whose labels are about one teacher: agreement is asked of first answers."""


@dataclass(frozen=True)
class CategoryAgreement:
    """How far teachers agree with one another in one category; "" stands for all of them together."""

    category: str | None
    agreement: Agreement


def read_agreement(campaign: Campaign) -> list[CategoryAgreement]:
    """All categories together first, then each."""
    firsts = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT).exclude(arm__in=ALONE)
    if not firsts.exists():
        return []
    names = sorted(firsts.order_by().values_list("comparison__category", flat=True).distinct())
    category, counts = _shared_answers(firsts)
    generator = np.random.default_rng(campaign.seed)
    parts: list[tuple[str | None, Ints]] = [(None, counts)]
    if len(names) > 1:
        parts += [(name, counts[category == name]) for name in names]
    return [CategoryAgreement(name, measure_agreement(part, generator=generator)) for name, part in parts]


def _shared_answers(firsts: QuerySet[Label]) -> tuple[NDArray[np.str_], Ints]:
    """Comparisons that two or more judged: their categories (u,), and how many gave each answer (u, 3)."""
    given = [Count("id", filter=Q(told=value)) for value in VALUES.tolist()]
    rows = (
        firsts.annotate(told=OUTCOME)
        .order_by("comparison_id")
        .values("comparison_id", "comparison__category")
        .annotate(first=given[0], second=given[1], third=given[2], number=Count("id"))
        .filter(number__gte=2)
        .values_list("comparison__category", "first", "second", "third")
    )
    table = list(rows)
    return (
        np.array([row[0] for row in table], dtype=np.str_),
        np.array([row[1:] for row in table], dtype=np.int64).reshape(-1, len(VALUES)),
    )


def read_agreement_with_others(labels: QuerySet[Label]) -> dict[int, Figure]:
    """By teacher who shares a comparison with somebody: how often the others gave the same answer.

    On each comparison the share of the others' first answers that are the teacher's; of these the mean, every
    comparison counting once. Shares vary no more than answers of one other teacher would, so that Wilson's interval
    over the comparisons is wide enough.
    """
    others = (
        Label.objects.filter(comparison=OuterRef("comparison"), state=Label.State.CURRENT)
        .exclude(arm__in=ALONE)
        .exclude(teacher=OuterRef("teacher"))
        .order_by()
        .values("comparison")
    )
    is_same = Case(When(Exact(OUTCOME, OuterRef("told")), then=1.0), default=0.0, output_field=FloatField())
    share = Subquery(others.annotate(share=Avg(is_same)).values("share"), output_field=FloatField())
    rows = labels.exclude(arm__in=ALONE).annotate(told=OUTCOME).annotate(share=share).filter(share__isnull=False)
    found = rows.order_by().values_list("teacher_id").annotate(total=Sum("share"), number=Count("id"))
    return {teacher: proportion(total, number) for teacher, total, number in found}


def read_consistency(labels: QuerySet[Label]) -> dict[int, Figure]:
    """By teacher with a planned repeat: the share of repeats that got the first answer again, as the pair has it."""
    repeats = labels.filter(arm=Offer.Arm.REPEAT)
    asked = {(label.teacher_id, label.comparison_id): label.outcome for label in repeats.order_by("-id")}
    if not asked:
        return {}
    again = repeats.filter(teacher=OuterRef("teacher"), comparison=OuterRef("comparison"))
    firsts = labels.exclude(arm__in=ALONE).filter(Exists(again)).order_by("id")
    pairs = [(one.teacher_id, one.outcome, asked[one.teacher_id, one.comparison_id]) for one in firsts]
    teachers = sorted({teacher for teacher, _, _ in pairs})
    figures = measure_consistency(
        np.array([teachers.index(teacher) for teacher, _, _ in pairs], dtype=np.int64),
        np.array([first for _, first, _ in pairs]),
        np.array([again for _, _, again in pairs]),
        teachers=len(teachers),
    )
    return dict(zip(teachers, figures, strict=True))
