"""Every statistic that a page shows, against a truth that was planted in the rows."""

import math
import uuid
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from activelearning.algorithms.figures import proportion
from activelearning.algorithms.forecast import Measure
from activelearning.algorithms.pessimism import ConfidenceSet, certify, choose, confidence_radius, reference_feature
from activelearning.arrays import load_pool
from activelearning.curves import (
    POINTS,
    Scores,
    read_calibration,
    read_curve,
    read_scores,
    recent_gain,
    running_accuracy,
)
from activelearning.models import ControlScore, Estimate, Projection
from activelearning.outlook import Axis, Question, read_outlook
from activelearning.pipeline import embed, known, refit, replan
from activelearning.plots import Line, draw_lines
from activelearning.portraits import OUTCOME, inverted_among, read_agreement, read_portraits
from activelearning.progress import read_course, read_summary, read_work
from annotation.models import Campaign, Comparison, Conversation, Label, Offer, Pool, Response, Teacher
from tests.activelearning.conftest import hire
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


def give(
    campaign: Campaign,
    comparison: Comparison,
    teacher: Teacher,
    outcome: float,
    *,
    arm: str = "designed",
    seconds: float = 9,
) -> Label:
    """A label as the desk would leave it, of whatever outcome; the order shown alternates."""
    b_first = bool(comparison.pk % 2)
    if outcome == 0.5:
        choice = "tie"
    else:
        choice = "first" if (outcome == 1.0) != b_first else "second"
    taken = Offer.objects.filter(comparison=comparison, arm="designed").count()
    offer = Offer.objects.create(
        campaign=campaign,
        comparison=comparison,
        teacher=teacher,
        arm=arm,
        slot={"designed": taken + 1, "control": 0}.get(arm),
        b_first=b_first,
        state="answered",
    )
    label = Label.objects.create(
        campaign=campaign,
        offer=offer,
        comparison=comparison,
        teacher=teacher,
        arm=arm,
        b_first=b_first,
        choice=choice,
        seconds=seconds,
    )
    assert label.outcome == outcome
    Campaign.objects.filter(pk=campaign.pk).update(label_version=label.pk, label_count=Label.objects.count())
    return label


def plant_scores(campaign: Campaign, rows: list[tuple[float, float]], teacher: Teacher) -> None:
    for (probability, outcome), comparison in zip(rows, add_conversations(campaign, len(rows)), strict=True):
        label = give(campaign, comparison, teacher, outcome, arm="control")
        ControlScore.objects.create(
            label=label,
            campaign=campaign,
            comparison=comparison,
            probability=probability,
            outcome=outcome,
            label_count=label.pk,
        )


def plant_estimates(
    campaign: Campaign, counts: list[int], log_det: list[float], error: Sequence[float | None], **rest: object
) -> None:
    """One estimate after the other, all of the same features: new ones with every call."""
    projection = Projection.objects.create(campaign=campaign, requested=2, dimensions=2, kept_variance=1, rows=4)
    rows = [
        Estimate(
            campaign=campaign,
            projection=projection,
            label_version=count,
            label_count=count,
            ridge=1,
            log_det=bits,
            worst_error=worst,
            smallest_eigenvalue=1,
            **rest,
        )
        for count, bits, worst in zip(counts, log_det, error, strict=True)
    ]
    Estimate.objects.bulk_create(rows)


def take_labels_back(campaign: Campaign, count: int, *, error: float | None) -> Estimate:
    """A newer estimate of fewer labels, beside the others."""
    last = Estimate.objects.latest()
    last.pk, last.code, last._state.adding = None, uuid.uuid4(), True
    last.label_count, last.worst_error, last.saving, last.saving_low, last.saving_high = count, error, None, None, None
    last.save()
    return last


# Control arm ----------------------------------------------------------------------------------------------------------


def test_accuracy_counts_a_tie_as_half_right(campaign: Campaign, teacher: Teacher) -> None:
    plant_scores(campaign, [(0.9, 1.0), (0.8, 0.0), (0.3, 0.0), (0.2, 0.5)], teacher)
    scores = read_scores(campaign)
    assert scores.right.tolist() == [1.0, 0.0, 1.0, 0.5]
    counts, value, low, high = running_accuracy(scores)
    assert counts.tolist() == [1, 2, 3, 4]
    assert value.tolist() == [1.0, 0.5, pytest.approx(2 / 3), 0.625]
    assert (low <= value).all()
    assert (value <= high).all()
    assert read_calibration(campaign, scores).accuracy.value == 0.625


def test_fifty_thousand_control_labels_are_drawn_at_few_points() -> None:
    right = (np.random.default_rng(0).random(50_000) < 0.7).astype(float)
    scores = Scores(np.full(50_000, 0.7), right, np.arange(50_000.0), np.arange(50_000))
    counts, value, low, high = running_accuracy(scores)
    assert len(counts) == POINTS
    assert (counts[0], counts[-1]) == (1, 50_000)
    for place in (0, 100, -1):
        so_far = right[: int(counts[place])]
        by_hand = proportion(float(so_far.sum()), len(so_far))
        assert (value[place], low[place], high[place]) == (by_hand.value, by_hand.low, by_hand.high)
    drawn = draw_lines([Line("accuracy", counts, value, low, high)], x="x", y="y", theme="light")
    assert len(drawn) < 100_000


def test_a_label_that_was_taken_back_is_no_longer_scored(campaign: Campaign, teacher: Teacher) -> None:
    plant_scores(campaign, [(0.9, 1.0), (0.8, 0.0)], teacher)
    Label.objects.filter(pk=Label.objects.latest("id").pk).update(state="retracted")
    assert len(read_scores(campaign)) == 1


def test_predictions_drawn_from_their_own_probabilities_are_calibrated(campaign: Campaign, teacher: Teacher) -> None:
    rng = np.random.default_rng(3)
    chances = rng.uniform(0.1, 0.9, size=200)
    plant_scores(campaign, [(p, float(rng.random() < p)) for p in chances.tolist()], teacher)
    found = read_calibration(campaign, read_scores(campaign))
    assert found.error.value is not None
    assert found.chance_error is not None
    assert found.error.value < 2 * found.chance_error
    assert found.accuracy.low is not None
    assert found.accuracy.high is not None
    assert found.accuracy.low < np.maximum(chances, 1 - chances).mean() < found.accuracy.high


def test_predictions_that_are_too_sure_are_found_out(campaign: Campaign, teacher: Teacher) -> None:
    rng = np.random.default_rng(4)
    plant_scores(campaign, [(0.95, float(rng.random() < 0.6)) for _ in range(150)], teacher)
    found = read_calibration(campaign, read_scores(campaign))
    assert found.error.low is not None
    assert found.chance_error is not None
    assert found.error.low > 3 * found.chance_error
    assert found.error.value == pytest.approx(0.35, abs=0.1)


# The curve and its future ---------------------------------------------------------------------------------------------


def test_the_curve_has_the_last_estimate_of_every_count(campaign: Campaign) -> None:
    plant_estimates(campaign, [0, 10, 10, 20], [0.0, 1.0, 1.5, 2.5], [1.0, 0.8, 0.7, 0.5])
    curve = read_curve(campaign)
    assert curve.labels.tolist() == [0, 10, 20]
    assert curve.log_det.tolist() == [0.0, 1.5, 2.5]
    assert np.isnan(curve.certificate).all()


def test_a_long_curve_is_thinned_and_keeps_its_ends(campaign: Campaign) -> None:
    plant_estimates(campaign, list(range(500)), [float(n) for n in range(500)], [1.0] * 500)
    curve = read_curve(campaign)
    assert len(curve) <= 300
    assert (curve.labels[0], curve.labels[-1]) == (0, 499)


def test_the_curve_ends_with_the_labels_that_are_left(campaign: Campaign) -> None:
    counts = list(range(20, 501, 20))
    plant_estimates(campaign, counts, [1.0] * 25, [4 / math.sqrt(n) for n in counts], saving=2.0)
    take_labels_back(campaign, 300, error=0.7)
    question = Question(Measure.STANDARD_ERROR, 100, 0.01)
    curve, found = read_curve(campaign), read_summary(campaign, question, read_course(campaign))
    assert curve.labels.tolist() == list(range(20, 301, 20))
    assert (curve.worst_error[-1], found.worst_error, found.outlook.now) == (0.7, 0.7, 0.7)
    assert (found.saving.value, found.saving.count) == (2.0, 280), "the last that was measured on what still stands"
    take_labels_back(campaign, 0, error=1.0)
    assert read_curve(campaign).labels.tolist() == [0]
    assert read_summary(campaign, question, read_course(campaign)).saving.value is None


def test_an_answer_taken_back_and_given_again_leaves_one_estimate_a_count(campaign: Campaign) -> None:
    plant_estimates(campaign, [1, 2, 3, 2, 3, 4], [1.0, 2.0, 3.0, 2.5, 3.5, 4.0], [1.0] * 6)
    curve = read_curve(campaign)
    assert curve.labels.tolist() == [1, 2, 3, 4]
    assert curve.log_det.tolist() == [1.0, 2.5, 3.5, 4.0]


def test_no_curve_runs_on_through_a_change_of_features_or_of_the_model(campaign: Campaign) -> None:
    plant_estimates(campaign, [10, 20, 30], [1.0, 2.0, 3.0], [0.9, 0.8, 0.7])
    plant_estimates(campaign, [30, 40], [5.0, 6.0], [0.3, 0.2])
    assert read_curve(campaign).log_det.tolist() == [5.0, 6.0]
    row = Estimate.objects.latest()
    row.pk, row.code, row.is_joint, row.label_count, row.worst_error = None, uuid.uuid4(), True, 41, None
    row.save()
    assert read_curve(campaign).labels.tolist() == [41]
    question = Question(Measure.STANDARD_ERROR, 100, 0.01)
    assert read_summary(campaign, question, read_course(campaign)).worst_error is None


def test_thinning_keeps_what_was_measured_and_leaves_the_rest_in_the_database(campaign: Campaign) -> None:
    """In a large pool one estimate in many is measured; of 2,000 few leave the database."""
    plant_estimates(campaign, list(range(2000)), [1.0] * 2000, [1.0 if n % 100 == 1 else None for n in range(2000)])
    with CaptureQueriesContext(connection) as asked:
        curve = read_curve(campaign)
    assert curve.labels[np.isfinite(curve.worst_error)].tolist() == list(range(1, 2000, 100))
    assert (curve.labels[0], curve.labels[-1]) == (0, 1999)
    fetched = 0
    with connection.cursor() as cursor:
        for one in asked:
            cursor.execute(one["sql"])
            fetched += len(cursor.fetchall())
    assert fetched <= 1 + 2 * POINTS + 20


def test_thinning_brings_no_fallen_saving_back(campaign: Campaign) -> None:
    """The last three are in one stretch of the curve: 25 labels were taken back, and no saving is known since."""
    plant_estimates(campaign, [9960, 9990, 9965, 9995], [1.0, 4.0, 2.0, 3.0], [0.6, 0.5, 0.6, 0.5])
    Estimate.objects.filter(label_count=9990).update(saving=2.0)
    curve = read_curve(campaign)
    assert not np.isfinite(curve.saving).any()
    assert curve.labels.tolist() == [9960, 9995]


def test_the_recent_gain_is_the_slope_of_the_last_fifty_labels(campaign: Campaign) -> None:
    counts = list(range(0, 201, 10))
    plant_estimates(campaign, counts, [n * 0.1 if n <= 150 else 15 + (n - 150) * 0.02 for n in counts], [1.0] * 21)
    assert recent_gain(read_curve(campaign)) == pytest.approx(0.02)


def test_no_gain_is_claimed_from_one_estimate(campaign: Campaign) -> None:
    assert recent_gain(read_curve(campaign)) is None
    plant_estimates(campaign, [0], [0.0], [1.0])
    assert recent_gain(read_curve(campaign)) is None


def test_a_planted_power_law_is_carried_on(campaign: Campaign) -> None:
    counts = list(range(40, 401, 20))
    rng = np.random.default_rng(5)
    plant_estimates(
        campaign,
        counts,
        [1.0] * len(counts),
        [6 / math.sqrt(n) * math.exp(0.01 * rng.standard_normal()) for n in counts],
    )
    question = Question(Measure.STANDARD_ERROR, following=400, threshold=0.01)
    outlook = read_outlook(campaign, read_curve(campaign), read_scores(campaign), question)
    assert outlook.at_end is not None
    assert outlook.at_end.low is not None
    assert outlook.at_end.high is not None
    assert outlook.at_end.low < 6 / math.sqrt(800) < outlook.at_end.high
    assert outlook.advice.should_stop is False
    stop = read_outlook(
        campaign, read_curve(campaign), read_scores(campaign), Question(Measure.STANDARD_ERROR, 10, 0.05)
    )
    assert stop.advice.should_stop is True


def test_a_planted_bound_is_carried_on_along_labels_and_along_money(campaign: Campaign) -> None:
    counts = list(range(40, 401, 20))
    rng = np.random.default_rng(6)
    plant_estimates(campaign, counts, [1.0] * len(counts), [1.0] * len(counts))
    for row in Estimate.objects.all():
        row.bound = 30 / math.sqrt(row.label_count) * math.exp(0.01 * rng.standard_normal())
        row.cost = Decimal(row.label_count) / 4
        row.save()
    Campaign.objects.filter(pk=campaign.pk).update(spent=100, label_count=400)
    campaign.refresh_from_db()
    for axis, following in ((Axis.LABELS, 400), (Axis.MONEY, 100)):
        question = Question(Measure.BOUND, following, 0.1, axis)
        outlook = read_outlook(campaign, read_curve(campaign), read_scores(campaign), question)
        assert outlook.at_end is not None
        assert outlook.at_end.low is not None
        assert outlook.at_end.high is not None
        assert outlook.at_end.low < 30 / math.sqrt(800) < outlook.at_end.high
        assert outlook.cost == pytest.approx(100)
        assert outlook.advice.should_stop is False


def test_labels_that_cost_nothing_have_no_forecast_along_money(campaign: Campaign) -> None:
    counts = list(range(40, 401, 20))
    plant_estimates(campaign, counts, [float(n) for n in counts], [6 / math.sqrt(n) for n in counts])
    question = Question(Measure.STANDARD_ERROR, 100, 0.01, Axis.MONEY)
    outlook = read_outlook(campaign, read_curve(campaign), read_scores(campaign), question)
    assert outlook.advice.should_stop is None
    assert "cost" in outlook.advice.change.reason
    Estimate.objects.update(cost=5)  # one label was paid, the others were free
    Campaign.objects.filter(pk=campaign.pk).update(spent=5)
    campaign.refresh_from_db()
    outlook = read_outlook(campaign, read_curve(campaign), read_scores(campaign), question)
    assert outlook.advice.should_stop is None
    assert "points" in outlook.advice.change.reason


def test_the_bound_of_an_estimate_is_the_certificate_of_the_pessimistic_choice(studied: Campaign, pool: Pool) -> None:
    for conversation in Conversation.objects.all()[:20]:
        third = Response.objects.create(conversation=conversation, digest="third", messages=[])
        first = conversation.responses.order_by("id")[0]
        Comparison.objects.create(campaign=studied, conversation=conversation, a=first, b=third)
    plant_answers(studied, pool, [2.0, 1.0], count=60)
    replan(studied.pk)
    found = known.latest(studied)
    assert found is not None
    rows = load_pool(studied, Projection.objects.get())
    radius = confidence_radius(3, delta=0.1, ridge=found.row.ridge, theta_norm=float(np.linalg.norm(found.theta)))
    confidence = ConfidenceSet(found.theta, found.arrays["marginal_information"], radius)
    pairs = []
    for conversation in Conversation.objects.filter(campaign=studied):
        ids = conversation.responses.order_by("id").values_list("id", flat=True)
        features = np.stack([rows.phi[np.searchsorted(rows.response_ids, one)] for one in ids])
        pairs.append((features, reference_feature(features)))
    chosen = [[choose(confidence, features, v)] for features, v in pairs]
    bound = Estimate.objects.latest().bound
    assert bound == pytest.approx(certify(confidence, pairs, chosen=chosen).regret, rel=1e-5)
    assert sum(len(features) == 3 for features, _ in pairs) == 20


def test_a_young_campaign_gets_no_advice_and_is_told_why(campaign: Campaign) -> None:
    plant_estimates(campaign, [1, 2, 3], [0.1, 0.2, 0.3], [1.0, 0.9, 0.8])
    question = Question(Measure.STANDARD_ERROR, 100, 0.01)
    outlook = read_outlook(campaign, read_curve(campaign), read_scores(campaign), question)
    assert outlook.advice.should_stop is None
    assert "points" in outlook.advice.change.reason


def test_the_price_of_the_next_labels_is_what_labels_cost_so_far(campaign: Campaign) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(spent="5.00", label_count=50)
    campaign.refresh_from_db()
    question = Question(Measure.LOG_DET, 200, 0.1)
    assert read_outlook(campaign, read_curve(campaign), read_scores(campaign), question).cost == pytest.approx(20.0)


def test_work_counts_queues_arms_and_money(campaign: Campaign, pool: Pool) -> None:
    staff = hire(pool, 2)
    rows = add_conversations(campaign, 6)
    give(campaign, rows[0], staff[0], 1.0)
    give(campaign, rows[1], staff[0], 1.0, arm="control")
    Offer.objects.create(campaign=campaign, comparison=rows[2], teacher=staff[0], arm="designed", slot=1)
    Offer.objects.create(
        campaign=campaign,
        comparison=rows[3],
        teacher=staff[1],
        arm="designed",
        slot=1,
        state="held",
        held_until=timezone.now(),
    )
    Campaign.objects.filter(pk=campaign.pk).update(budget=10, spent="0.20", reserved="0.30")
    campaign.refresh_from_db()
    work = read_work(campaign, None)
    assert (work.present, work.queued, work.held) == (2, 1, 1)
    assert work.arms == {"Designed": 1, "Control": 1}
    assert work.left == pytest.approx(campaign.budget - campaign.spent - campaign.reserved)
    assert float(work.per_label or 0) == pytest.approx(0.1)


# Teachers -------------------------------------------------------------------------------------------------------------


def plant_answers(
    campaign: Campaign, pool: Pool, sharpness: list[float], *, count: int, seed: int = 0
) -> list[Teacher]:
    """Teachers who answer the same comparisons by a planted reward, each with a planted rationality."""
    staff = hire(pool, len(sharpness))
    embed(campaign.pk)
    pool_rows = load_pool(campaign, Projection.objects.get())
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(pool_rows.design.shape[1])
    theta *= 2 / (pool_rows.design @ theta).std()
    by_id = Comparison.objects.in_bulk()
    for row in rng.permutation(len(pool_rows))[:count].tolist():
        for teacher, rho in zip(staff, sharpness, strict=True):
            chance = 1 / (1 + math.exp(-rho * float(pool_rows.design[row] @ theta)))
            give(campaign, by_id[int(pool_rows.ids[row])], teacher, float(rng.random() < chance))
    return staff


@pytest.fixture
def studied(campaign: Campaign) -> Campaign:
    Campaign.objects.filter(pk=campaign.pk).update(
        dimensions=3, rationality_mode="estimated", overlap_limit=50, control_share=0
    )
    add_conversations(campaign, 150)
    campaign.refresh_from_db()
    return campaign


def test_planted_rationalities_are_found_with_honest_intervals(studied: Campaign, pool: Pool) -> None:
    truth = [2.0, 1.0, 0.0, -1.0]
    staff = plant_answers(studied, pool, truth, count=150)
    refit(studied.pk)
    portraits = {portrait.teacher.pk: portrait for portrait in read_portraits(studied, staff)}
    sharp, usual, coin, inverted = (portraits[teacher.pk] for teacher in staff)
    assert sharp.cells[0].value > usual.cells[0].value > 0.4
    assert coin.cells[0].is_guess
    assert not coin.is_inverted
    assert inverted.is_inverted
    assert inverted.cells[0].high < 0
    assert list(inverted_among(studied)) == [staff[3]]
    assert all(portrait.labels == 150 and portrait.cells[0].labels == 150 for portrait in portraits.values())


def test_answers_to_gold_inform_the_rationality_and_the_key_itself_is_no_label(studied: Campaign, pool: Pool) -> None:
    staff = plant_answers(studied, pool, [1.5, 1.5], count=60)
    refit(studied.pk)
    before = known.latest(studied)
    assert before is not None
    rows = load_pool(studied, Projection.objects.get())
    asked = set(Label.objects.values_list("comparison", flat=True))
    gap = rows.design @ before.theta
    fresh = [row for row in np.argsort(-np.abs(gap)).tolist() if int(rows.ids[row]) not in asked][:20]
    for row in fresh:
        gold = Comparison.objects.get(pk=int(rows.ids[row]))
        right = float(gap[row] > 0)
        Comparison.objects.filter(pk=gold.pk).update(gold_outcome=right)
        give(studied, gold, staff[0], right, arm="gold")
        give(studied, gold, staff[1], 1 - right, arm="gold")
    row = refit(studied.pk)
    assert row is not None
    assert row.label_count == 120 + 40
    right_one, wrong_one = (portrait.cells[0] for portrait in read_portraits(studied, staff))
    assert right_one.low > wrong_one.high


def test_an_inverted_teacher_is_shown_and_not_used(studied: Campaign, pool: Pool) -> None:
    staff = plant_answers(studied, pool, [2.0, 1.5, -1.5], count=120)
    replan(studied.pk)
    asked = set(Offer.objects.filter(state="queued").values_list("teacher", flat=True))
    assert asked == {staff[0].pk, staff[1].pk}


def test_a_planted_pull_to_the_first_shown_is_found(studied: Campaign, pool: Pool) -> None:
    staff = hire(pool, 2)
    embed(studied.pk)
    rng = np.random.default_rng(1)
    for comparison in Comparison.objects.order_by("id"):
        b_first = bool(comparison.pk % 2)
        wants_first = rng.random() < 0.85
        give(studied, comparison, staff[0], float(wants_first != b_first))
        give(studied, comparison, staff[1], float(rng.random() < 0.5))
    refit(studied.pk)
    portraits = {portrait.teacher.pk: portrait for portrait in read_portraits(studied, staff)}
    drawn, fair = portraits[staff[0].pk], portraits[staff[1].pk]
    assert drawn.bias is not None
    assert drawn.bias > 0.8
    assert drawn.has_position_bias
    assert not fair.has_position_bias


def test_speed_ties_and_offers_are_counted(campaign: Campaign, pool: Pool) -> None:
    somebody = hire(pool, 1)[0]
    rows = add_conversations(campaign, 5)
    for comparison, outcome, seconds in zip(rows[:3], [1.0, 0.5, 0.5], [4.0, 10.0, 90.0], strict=True):
        give(campaign, comparison, somebody, outcome, seconds=seconds)
    Offer.objects.create(
        campaign=campaign, comparison=rows[3], teacher=somebody, arm="designed", slot=1, state="skipped"
    )
    portrait = read_portraits(campaign, [somebody])[0]
    assert portrait.labels == 3
    assert portrait.seconds == 10.0
    assert portrait.tie_share == pytest.approx(2 / 3)
    assert dict(portrait.offers_named) == {"Answered": 3, "Skipped": 1}


def test_consistency_is_the_share_of_repeats_with_the_same_answer(campaign: Campaign, pool: Pool) -> None:
    somebody, other = hire(pool, 2)
    rows = add_conversations(campaign, 4)
    for comparison, first, again in zip(rows, [1.0, 0.0, 1.0, 0.5], [1.0, 0.0, 0.0, 0.5], strict=True):
        give(campaign, comparison, somebody, first)
        give(campaign, comparison, somebody, again, arm="repeat")
        give(campaign, comparison, other, 1.0)
    portraits = {portrait.teacher.pk: portrait for portrait in read_portraits(campaign, [somebody, other])}
    figure = portraits[somebody.pk].consistency
    assert figure is not None
    assert (figure.value, figure.count) == (0.75, 4)
    assert portraits[other.pk].consistency is None


def test_an_even_number_of_labels_has_the_middle_of_two_as_its_median_time(campaign: Campaign, pool: Pool) -> None:
    somebody, other = hire(pool, 2)
    rows = add_conversations(campaign, 4)
    for comparison, seconds in zip(rows, [50.0, 2.0, 8.0, 4.0], strict=True):
        give(campaign, comparison, somebody, 1.0, seconds=seconds)
    give(campaign, rows[0], other, 1.0, seconds=3.0)
    assert [portrait.seconds for portrait in read_portraits(campaign, [somebody, other])] == [6.0, 3.0]


def test_the_database_says_of_a_label_what_python_says(campaign: Campaign, teacher: Teacher) -> None:
    rows = iter(add_conversations(campaign, 8))
    for choice in Label.Choice.values:
        for b_first in (False, True):
            label = give(campaign, next(rows), teacher, 0.5)
            Label.objects.filter(pk=label.pk).update(choice=choice, b_first=b_first)
    told = [label.told for label in Label.objects.annotate(told=OUTCOME).order_by("id")]
    assert told == [label.outcome for label in Label.objects.order_by("id")]


def test_agreement_with_others_by_hand(campaign: Campaign, pool: Pool) -> None:
    anna, ben, carl, lone = hire(pool, 4)
    rows = add_conversations(campaign, 5)
    for teacher, outcomes in ((anna, [1.0, 1.0, 0.5]), (ben, [1.0, 0.0, 0.5]), (carl, [0.0, 0.0])):
        for comparison, outcome in zip(rows, outcomes, strict=False):
            give(campaign, comparison, teacher, outcome)
    give(campaign, rows[3], anna, 1.0)
    give(campaign, rows[4], lone, 1.0)
    give(campaign, rows[0], carl, 1.0, arm="repeat")
    withdrawn = give(campaign, rows[3], ben, 0.0)
    Label.objects.filter(pk=withdrawn.pk).update(state="withdrawn")
    one, two, three, four = read_portraits(campaign, [anna, ben, carl, lone])
    assert one.agreement is not None
    assert two.agreement is not None
    assert three.agreement is not None
    # Anna: half of the others on the first, none on the second, Ben on the third; the fourth and fifth are hers alone.
    assert (one.agreement.value, one.agreement.count) == (pytest.approx(0.5), 3)
    assert (two.agreement.value, two.agreement.count) == (pytest.approx((0.5 + 0.5 + 1) / 3), 3)
    assert (three.agreement.value, three.agreement.count) == (pytest.approx(0.25), 2)
    assert four.agreement is None


def test_a_planted_agreement_with_others_lies_in_its_interval_and_a_coin_flipper_stands_out(
    campaign: Campaign, pool: Pool
) -> None:
    rng = np.random.default_rng(2)
    staff = hire(pool, 4)
    for comparison in add_conversations(campaign, 150):
        truth = float(rng.random() < 0.5)
        for teacher in staff[:3]:
            give(campaign, comparison, teacher, abs(truth - float(rng.random() < 0.1)))
        give(campaign, comparison, staff[3], float(rng.random() < 0.5))
    figures = [portrait.agreement for portrait in read_portraits(campaign, staff)]
    careful = (2 * (0.9**2 + 0.1**2) + 0.5) / 3  # two who err in a tenth of answers, and the coin
    for figure, truth in zip(figures, [careful] * 3 + [0.5], strict=True):
        assert figure is not None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < truth < figure.high
        assert figure.count == 150
    assert figures[3].high < figures[0].low  # type: ignore[union-attr, operator]


def test_perfect_agreement_is_one_and_random_answers_are_nought(campaign: Campaign, pool: Pool) -> None:
    rng = np.random.default_rng(8)
    first, second = hire(pool, 2)
    for comparison in add_conversations(campaign, 60, category="easy"):
        answer = float(rng.random() < 0.5)
        give(campaign, comparison, first, answer)
        give(campaign, comparison, second, answer)
    for comparison in add_conversations(campaign, 60, category="noise"):
        give(campaign, comparison, first, float(rng.random() < 0.5))
        give(campaign, comparison, second, float(rng.random() < 0.5))
    found = {row.category: row.agreement for row in read_agreement(campaign)}
    assert found["easy"].alpha.value == pytest.approx(1.0)
    assert found["easy"].raw.value == 1.0
    noise = found["noise"].alpha
    assert noise.low is not None
    assert noise.high is not None
    assert noise.low < 0 < noise.high
    assert found[None].comparisons == 120


def test_repeats_are_no_agreement(campaign: Campaign, pool: Pool) -> None:
    somebody = hire(pool, 1)[0]
    for comparison in add_conversations(campaign, 10):
        give(campaign, comparison, somebody, 1.0)
        give(campaign, comparison, somebody, 1.0, arm="repeat")
    assert read_agreement(campaign)[0].agreement.comparisons == 0
    assert "two teachers" in read_agreement(campaign)[0].agreement.alpha.reason


def test_a_category_where_all_say_the_same_has_no_alpha_and_says_why(campaign: Campaign, pool: Pool) -> None:
    first, second = hire(pool, 2)
    for comparison in add_conversations(campaign, 6):
        give(campaign, comparison, first, 1.0)
        give(campaign, comparison, second, 1.0)
    alpha = read_agreement(campaign)[0].agreement.alpha
    assert alpha.value is None
    assert "same" in alpha.reason


def test_the_designed_arms_saving_is_measured_on_labels(studied: Campaign, pool: Pool) -> None:
    """Designed labels on the widest rows, control labels on all: the ratio of their D-efficiencies is above 1."""
    Campaign.objects.filter(pk=studied.pk).update(rationality_mode="known")
    somebody, other = hire(pool, 2)
    embed(studied.pk)
    rows = load_pool(studied, Projection.objects.get())
    norms = np.linalg.norm(rows.design, axis=1)
    by_id = Comparison.objects.in_bulk()
    widest = np.argsort(-norms)[:40]
    for row in widest.tolist():
        give(studied, by_id[int(rows.ids[row])], somebody, float(row % 2))
    for row in range(0, 150, 3):
        give(studied, by_id[int(rows.ids[row])], other, float(row % 2), arm="control")
    replan(studied.pk)
    row = Estimate.objects.latest()
    control = rows.design[::3].astype(float)
    designed = rows.design[widest].astype(float)
    plain = [np.linalg.slogdet(z.T @ z / len(z))[1] for z in (designed, control)]
    assert row.saving is not None
    assert row.saving_low is not None
    assert row.saving == pytest.approx(math.exp((plain[0] - plain[1]) / 3), rel=0.15)  # coin flips weigh nearly alike
    assert row.saving_low > 1.2


def test_nobody_loses_their_queue_on_a_wide_interval(studied: Campaign, pool: Pool) -> None:
    """A teacher who was wrong a few times may be below 0 by the estimate; that is no reason for an empty queue."""
    staff = plant_answers(studied, pool, [2.0, 1.5], count=60)
    newcomer = hire(pool, 1)[0]
    replan(studied.pk)
    theta = known.latest(studied)
    assert theta is not None
    rows = load_pool(studied, Projection.objects.get())
    by_id = Comparison.objects.in_bulk()
    for row in np.argsort(-np.abs(rows.design @ theta.theta))[:2].tolist():
        wrong = float(rows.design[row] @ theta.theta < 0)
        Offer.objects.filter(comparison=int(rows.ids[row]), teacher=newcomer).delete()
        give(studied, by_id[int(rows.ids[row])], newcomer, wrong)
    replan(studied.pk)
    portrait = read_portraits(studied, [newcomer])[0]
    assert portrait.cells[0].value < 0.5
    assert not portrait.is_inverted
    assert portrait.offers["queued"] == studied.queue_depth
    assert all(Offer.objects.filter(teacher=one, state="queued").count() == studied.queue_depth for one in staff)
