"""Statistics of the design against figures worked by hand: comparisons along known axes, labels that cancel."""

import math
import re

import numpy as np
import pytest
from django.db.models import F

from activelearning.algorithms.forecast import Measure
from activelearning.algorithms.types import Singles
from activelearning.curves import read_curve, read_scores
from activelearning.models import ControlScore, Estimate, OfferReason, Projection
from activelearning.outlook import Question, measured, read_outlook
from activelearning.pipeline import embed, embedding, measuring, refit, replan
from activelearning.progress import read_course, read_features, read_summary, read_work
from annotation.models import Campaign, Comparison, Label, Membership, Pool, Teacher
from tests.activelearning.conftest import hire
from tests.activelearning.test_statistics import give, plant_scores
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
QUESTION = Question(Measure.STANDARD_ERROR, 100, 0.02)


class AxisEncoder:
    """The two responses of conversation n differ along axis n mod 3 and nothing else, by the axis' length."""

    def __init__(self, *lengths: float) -> None:
        self.lengths = lengths

    def encode(self, texts: list[str]) -> Singles:
        rows = np.zeros((len(texts), len(self.lengths)), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            conversation, answer = (int(re.findall(rf"{word} (\d+)", text)[0]) for word in ("number", "Answer"))
            axis = conversation % len(self.lengths)
            row[axis] = (answer - 0.5) * self.lengths[axis]
        return rows


@pytest.fixture
def axes(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """48 comparisons, 16 along each of three axes of equal length; every design row is 2 long."""
    monkeypatch.setattr(embedding, "open_encoder", lambda name: AxisEncoder(1.0, 1.0, 1.0))
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3, ridge=1.0, control_share=0)
    add_conversations(campaign, 48)
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def along(campaign: Campaign, axis: int) -> list[Comparison]:
    rows = Comparison.objects.filter(campaign=campaign).select_related("conversation").order_by("id")
    return [row for row in rows if int(row.conversation.digest, 16) % 3 == axis]


def balance(campaign: Campaign, teacher: Teacher, counts: tuple[int, int, int]) -> None:
    """So many labels along each axis, a multiple of 4: as many for a as for b, whichever was shown first.

    They cancel, so the reward and the pull are estimated at exactly 0, and every label weighs rho^2 / 4.
    """
    for axis, count in enumerate(counts):
        for b_first in (False, True):
            shown = [row for row in along(campaign, axis) if bool(row.pk % 2) == b_first][: count // 2]
            for number, row in enumerate(shown):
                give(campaign, row, teacher, float(number % 2))


def summary_of(campaign: Campaign) -> tuple[float | None, float | None]:
    """Certificate and worst error, as the page has them."""
    refit(campaign.pk)
    campaign.refresh_from_db()
    found = read_summary(campaign, QUESTION, read_course(campaign))
    return found.certificate, found.worst_error


def test_equal_labels_along_the_axes_are_the_d_optimal_design(axes: Campaign, pool: Pool) -> None:
    balance(axes, hire(pool, 1)[0], (4, 4, 4))
    certificate, worst = summary_of(axes)
    assert certificate == pytest.approx(1.0, abs=1e-6)
    # H = ridge + 4 labels x 1/4 x 2^2 along each axis, so the variance of a row is 2^2 / (1 + 4)
    assert worst == pytest.approx(math.sqrt(4 / 5), abs=1e-6)
    assert Estimate.objects.latest().log_det == pytest.approx(3 * math.log(5), abs=1e-6)


def test_unequal_labels_are_above_one_by_their_shares(axes: Campaign, pool: Pool) -> None:
    """Shares 1/2, 1/4, 1/4: g = 1 / (1/4) = 4 on three features."""
    balance(axes, hire(pool, 1)[0], (8, 4, 4))
    certificate, worst = summary_of(axes)
    assert certificate == pytest.approx(4 / 3, abs=1e-6)
    assert worst == pytest.approx(math.sqrt(4 / 5), abs=1e-6)


def test_labels_of_a_teacher_half_as_rational_leave_the_certificate_at_four(axes: Campaign, pool: Pool) -> None:
    """Their weight is a quarter of what a teacher of rationality 1 would give the same rows."""
    balance(axes, hire(pool, 1, rationality=0.5)[0], (4, 4, 4))
    certificate, worst = summary_of(axes)
    assert certificate == pytest.approx(4.0, abs=1e-6)
    assert worst == pytest.approx(math.sqrt(4 / (1 + 4 / 4)), abs=1e-6)


def test_a_direction_without_labels_has_no_certificate_and_the_priors_error(axes: Campaign, pool: Pool) -> None:
    balance(axes, hire(pool, 1)[0], (4, 4, 0))
    certificate, worst = summary_of(axes)
    assert certificate is None
    assert worst == pytest.approx(2.0, abs=1e-6)


def test_what_may_no_longer_be_asked_is_not_in_the_worst_error(axes: Campaign, pool: Pool) -> None:
    balance(axes, hire(pool, 1)[0], (8, 8, 4))
    Comparison.objects.filter(pk__in=[row.pk for row in along(axes, 2)]).update(is_active=False)
    assert summary_of(axes)[1] == pytest.approx(math.sqrt(4 / 9), abs=1e-6)


def take_back(campaign: Campaign, *labels: Label) -> None:
    Label.objects.filter(pk__in=[label.pk for label in labels]).update(state="withdrawn")
    Campaign.objects.filter(pk=campaign.pk).update(label_version=F("label_version") + 1)


def is_measured(campaign: Campaign) -> bool:
    refit(campaign.pk)
    return Estimate.objects.latest().worst_error is not None


@pytest.fixture
def large(axes: Campaign, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A pool too large to be measured with every estimate, measured at 40 labels and fitted once more at 41."""
    monkeypatch.setattr(measuring, "MEASURE_ROWS", 0)
    monkeypatch.setattr(measuring, "MEASURE_EVERY", 1.1)
    balance(axes, hire(pool, 1)[0], (16, 16, 8))
    assert is_measured(axes)
    give(axes, along(axes, 2)[8], hire(pool, 1)[0], 1.0)
    assert not is_measured(axes)
    return axes


def test_labels_taken_back_from_a_large_pool_are_in_no_figure_on_the_page(large: Campaign) -> None:
    last = Label.objects.latest("id")
    others = Label.objects.filter(comparison__in=along(large, 2)).exclude(pk=last.pk)
    take_back(large, last, *others.order_by("comparison")[:4])
    certificate, worst = summary_of(large)
    # 16, 16 and 4 labels along the axes: the variance of a row along the last is 2^2 / (1 + 4), and g / d = 36 / 4 / 3
    assert worst == pytest.approx(math.sqrt(4 / 5), abs=1e-6)
    assert certificate == pytest.approx(3.0, abs=1e-6)


def test_a_large_pool_is_measured_anew_after_one_label_of_many_is_taken_back(large: Campaign, pool: Pool) -> None:
    """Also where as many remain as were measured, or more."""
    give(large, along(large, 2)[9], hire(pool, 1)[0], 0.0)
    assert not is_measured(large)  # 42 labels
    take_back(large, Label.objects.earliest("id"))
    assert is_measured(large)  # 41
    take_back(large, Label.objects.latest("id"))
    assert is_measured(large)  # 40


def test_a_large_pool_is_measured_anew_where_as_many_labels_are_fitted_otherwise_and_not_after_a_repeat(
    large: Campaign, pool: Pool
) -> None:
    again = Comparison.objects.get(labels=Label.objects.earliest("id"))
    give(large, again, hire(pool, 1)[0], 1.0, arm="repeat")
    assert not is_measured(large)
    Campaign.objects.filter(pk=large.pk).update(ridge=5.0)
    assert is_measured(large)
    give(large, along(large, 2)[9], hire(pool, 1)[0], 0.0)
    assert not is_measured(large)
    take_back(large, Label.objects.earliest("id"))
    give(large, along(large, 2)[10], hire(pool, 1)[0], 0.0)
    assert is_measured(large)  # 42 labels as before, one along axis 2 in the place of one along axis 0


def test_a_large_pool_with_other_features_or_another_model_of_its_teachers_is_measured_anew(large: Campaign) -> None:
    Campaign.objects.filter(pk=large.pk).update(rationality_mode="estimated")
    assert is_measured(large)
    Campaign.objects.filter(pk=large.pk).update(dimensions=2)
    embed(large.pk)
    assert is_measured(large)
    assert Estimate.objects.latest().projection.dimensions == 2


def test_the_price_of_a_nat_is_what_was_spent_over_log_det(axes: Campaign, pool: Pool) -> None:
    balance(axes, hire(pool, 1)[0], (4, 4, 4))
    refit(axes.pk)
    Campaign.objects.filter(pk=axes.pk).update(spent="6.00")
    axes.refresh_from_db()
    assert read_work(axes, Estimate.objects.latest()).per_nat == pytest.approx(6 / (3 * math.log(5)))


def test_an_offers_reason_holds_the_figures_worked_by_hand(axes: Campaign, pool: Pool) -> None:
    """Axis 2 is known least: q = 2^2 / (1 + 4), at gap 0 a teacher of rationality 3 weighs 9/4, one of 1 weighs 1/4."""
    gone, blunt, sharp = (hire(pool, 1, rationality=rho)[0] for rho in (1.0, 1.0, 3.0))
    Membership.objects.filter(teacher=gone).update(capacity=0)
    Campaign.objects.filter(pk=axes.pk).update(queue_depth=1)
    balance(axes, gone, (8, 8, 4))
    replan(axes.pk)
    why = OfferReason.objects.get(offer__teacher=sharp)
    assert why.offer.comparison_id in {row.pk for row in along(axes, 2)}
    assert (why.gap, why.rationality) == (pytest.approx(0.0, abs=1e-6), 3.0)
    assert why.uncertainty == pytest.approx(4 / 5, abs=1e-5)
    assert why.weight == pytest.approx(9 / 4)
    assert why.gain == pytest.approx(math.log(1 + 9 / 4 * 4 / 5), abs=1e-5)
    other, *near = why.runners_up
    assert (other["teacher"], other["gain"]) == (blunt.pk, pytest.approx(math.log(1 + 1 / 4 * 4 / 5), abs=1e-5))
    assert [row["gain"] for row in near] == [pytest.approx(why.gain, abs=1e-5)] * 3  # the others along axis 2


def test_the_kept_share_is_that_of_the_variance_within_prompts(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variances along four axes as 4 : 3 : 2 : 1, of which two dimensions keep seven tenths."""
    lengths = (2.0, math.sqrt(3), math.sqrt(2), 1.0)
    monkeypatch.setattr(embedding, "open_encoder", lambda name: AxisEncoder(*lengths))
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=2)
    add_conversations(campaign, 40)
    embed(campaign.pk)
    assert Projection.objects.get().kept_variance == pytest.approx(0.7, abs=1e-6)
    campaign.refresh_from_db()
    assert read_features(campaign).percent_kept == 70


def test_an_accuracy_that_stands_still_is_carried_on_and_ends_the_campaign(
    campaign: Campaign, teacher: Teacher
) -> None:
    """Eight of every ten control labels are predicted right, from the first ten to the last."""
    plant_scores(campaign, [(0.9, float(number % 10 < 8)) for number in range(80)], teacher)
    outlook = read_outlook(
        campaign, read_curve(campaign), read_scores(campaign), Question(Measure.ACCURACY, 200, 0.005)
    )
    assert outlook.now == pytest.approx(0.8)
    assert outlook.at_end is not None
    assert outlook.at_end.value == pytest.approx(0.8)
    assert outlook.advice.should_stop is True
    assert outlook.advice.change.value == pytest.approx(0.0, abs=1e-9)


def test_an_accuracy_is_carried_on_from_the_labels_that_are_left(campaign: Campaign, teacher: Teacher) -> None:
    """All right up to some 440 labels, most of which were taken back; half right since."""
    plant_scores(campaign, [(0.9, 1.0)] * 40, teacher)
    ControlScore.objects.update(label_count=F("label_count") + 400)
    plant_scores(campaign, [(0.9, float(number % 2)) for number in range(40)], teacher)
    question = Question(Measure.ACCURACY, 200, 0.005)
    counts, values = measured(read_curve(campaign), read_scores(campaign), question)
    assert values.tolist() == [0.5] * 4
    assert counts[-1] <= ControlScore.objects.latest("pk").label_count
