"""A stored ranking of N responses, from its row to the fit: its implied comparisons, of weight 2/N each."""

import re
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from activelearning.algorithms.types import Floats, Singles
from activelearning.arrays import LabelRows, PoolRows, fit_labels, load_labels, load_pool, teacher_axis
from activelearning.arrays import labels as label_arrays
from activelearning.arrays.rankings import Tiers, imply
from activelearning.models import Embedding, Estimate, Projection, TeacherRationality
from activelearning.pipeline import embed, embedding, refit, replan
from activelearning.pipeline.estimating import PULL
from activelearning.storage import read_arrays
from annotation.models import Campaign, Label, Offer, Pool, Response, Teacher
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer
from tests.activelearning.conftest import hire
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
N = 4


@pytest.fixture
def ranked(campaign: Campaign) -> Campaign:
    """60 conversations of four responses; one comparison of each is asked, and answered by a ranking of all four."""
    Campaign.objects.filter(pk=campaign.pk).update(
        dimensions=3, ridge=1.0, control_share=0, answer_mode=Campaign.AnswerMode.RANKING
    )
    add_conversations(campaign, 60, responses=N)
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def pool_of(campaign: Campaign) -> PoolRows:
    return load_pool(campaign, Projection.objects.get(campaign=campaign))


def rank(campaign: Campaign, teacher: Teacher, count: int, *, theta: Floats, ties: bool = False) -> None:
    """So many rankings by the planted reward with Gumbel noise: Plackett and Luce, whose pairs are (M2)."""
    rng, rows = np.random.default_rng(teacher.pk), pool_of(campaign)
    place = dict(zip(rows.response_ids.tolist(), range(len(rows.phi)), strict=True))
    for _ in range(count):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        if offer is None:
            replan(campaign.pk)
            offer = claim_offer(campaign=campaign, teacher=teacher)
        assert offer is not None
        names = Response.objects.filter(conversation=offer.comparison.conversation_id).values_list("pk", flat=True)
        worth = {pk: float(rows.phi[place[pk]] @ theta + rng.gumbel()) for pk in names}
        best, second, *rest = sorted(worth, key=lambda pk: -worth[pk])
        tiers = [[best, second], *([pk] for pk in rest)] if ties else [[best], [second], *([pk] for pk in rest)]
        record_label(offer=offer, choice="", ranking=tiers)


def fitted(campaign: Campaign) -> dict[str, Floats]:
    refit(campaign.pk)
    return read_arrays(Estimate.objects.latest().arrays)


@pytest.mark.parametrize("ties", [False, True])
def test_the_estimate_is_that_of_every_pair_at_half_a_label(ranked: Campaign, pool: Pool, ties: bool) -> None:
    """Six pairs of weight 2/4 for each ranking, worked out here from the rows alone and fitted by scipy."""
    rank(ranked, hire(pool, 1)[0], 12, theta=np.array([1.5, -1.0, 0.5]), ties=ties)
    rows, differences, outcomes = pool_of(ranked), [], []
    phi = dict(zip(rows.response_ids.tolist(), rows.phi.astype(np.float64), strict=True))
    for label in Label.objects.all():
        tier = {pk: number for number, names in enumerate(label.ranking) for pk in names}
        for better, worse in combinations(sorted(tier, key=lambda pk: tier[pk]), 2):
            differences.append(phi[better] - phi[worse])
            outcomes.append(0.5 if tier[better] == tier[worse] else 1.0)
    z, y = np.array(differences), np.array(outcomes)
    assert len(z) == 12 * 6

    def loss(theta: Floats) -> float:
        u = z @ theta
        return float(0.5 * np.sum(np.logaddexp(0, u) - y * u) + 0.5 * theta @ theta)

    found = fitted(ranked)
    np.testing.assert_allclose(found["theta"], minimize(loss, np.zeros(3), tol=1e-12).x, atol=1e-4)
    p = 1 / (1 + np.exp(-(z @ found["theta"])))
    information = np.eye(3) + (z * (0.5 * p * (1 - p))[:, None]).T @ z
    np.testing.assert_allclose(found["information"], information, rtol=1e-4)


def test_a_planted_reward_is_found_within_its_errors(ranked: Campaign, pool: Pool) -> None:
    planted = np.array([1.5, -1.0, 0.5])
    rank(ranked, hire(pool, 1)[0], 60, theta=planted)
    found = fitted(ranked)
    error = np.sqrt(np.diag(found["covariance"]))
    assert np.all(np.abs(found["theta"] - planted) < 3.5 * error)
    assert np.all(error < 0.6)


def test_a_ranking_is_one_label_and_says_nothing_of_the_order_shown(ranked: Campaign, pool: Pool) -> None:
    somebody = hire(pool, 1)[0]
    rank(ranked, somebody, 10, theta=np.array([1.5, -1.0, 0.5]))
    refit(ranked.pk)
    assert Estimate.objects.latest().label_count == 10
    row = TeacherRationality.objects.get(teacher=somebody)
    assert (row.bias, row.bias_error) == (pytest.approx(0.0, abs=1e-9), pytest.approx(PULL))


def test_rankings_and_pairs_stand_in_the_order_of_their_labels(ranked: Campaign) -> None:
    """Every row against a loop over labels; of a response without features nothing is implied."""
    rows, rng = pool_of(ranked), np.random.default_rng(4)
    count, absent = 40, 10**9
    is_ranking, row = rng.random(count) < 0.6, rng.integers(len(rows), size=count)
    rankings: dict[int, Tiers] = {}
    for label in np.flatnonzero(is_ranking).tolist():
        names = rng.choice(rows.response_ids, size=int(rng.integers(2, 6)), replace=False).tolist()
        if label % 3 == 0:
            names[1] = absent
        rankings[label + 1] = [names[:2], *([name] for name in names[2:])] if label % 2 else [[name] for name in names]
    labels = LabelRows(
        ids=np.arange(1, count + 1),
        row=row,
        teacher=rng.integers(1, 4, size=count),
        arm=np.full(count, "designed"),
        outcome=rng.random(count).round(),
        side=rng.choice([-1.0, 1.0], size=count),
        is_ranking=is_ranking,
        implied=imply(rankings),
    )
    mask = rng.random(count) < 0.8
    teachers = teacher_axis(labels, mask)
    expected = []
    for place in np.flatnonzero(mask).tolist():
        teacher, category = teachers.tolist().index(labels.teacher[place]), rows.category[row[place]]
        if not is_ranking[place]:
            plain = (labels.outcome[place], teacher, category, labels.side[place], 1.0)
            expected.append((rows.design[row[place]], *plain))
            continue
        tier = {name: number for number, names in enumerate(rankings[place + 1]) for name in names}
        for better, worse in combinations(tier, 2):
            if absent not in (better, worse):
                z = phi_of(rows, better) - phi_of(rows, worse)
                expected.append((z, 0.5 if tier[better] == tier[worse] else 1.0, teacher, category, 0.0, 2 / len(tier)))
    found = fit_labels(labels, mask, rows, teachers=teachers)
    columns = list(zip(*expected, strict=True))
    assert len(found) == len(expected) > 60
    np.testing.assert_allclose(found.design, np.array(columns[0]), atol=1e-6)
    for name, column in zip(("outcome", "teacher", "category", "side", "weight"), columns[1:], strict=True):
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def phi_of(rows: PoolRows, response: int) -> Floats:
    return rows.phi[int(np.searchsorted(rows.response_ids, response))].astype(np.float64)


def test_a_ranking_is_taken_apart_once(ranked: Campaign, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[int]] = []

    def counting(rankings: dict[int, Tiers]) -> object:
        taken.append(sorted(rankings))
        return imply(rankings)

    monkeypatch.setattr(label_arrays, "imply", counting)
    somebody, theta = hire(pool, 1)[0], np.array([1.5, -1.0, 0.5])
    rank(ranked, somebody, 3, theta=theta)
    for _ in range(2):
        rows = pool_of(ranked)
        labels = load_labels(ranked, rows)
        mask = labels.learned(rows)
        assert len(fit_labels(labels, mask, rows, teachers=teacher_axis(labels, mask))) == 3 * 6
    rank(ranked, somebody, 1, theta=theta)
    Label.objects.filter(pk=Label.objects.earliest("id").pk).update(state="retracted")
    labels = load_labels(ranked, rows)
    assert len(fit_labels(labels, labels.learned(rows), rows, teachers=np.array([somebody.pk]))) == 3 * 6
    assert sorted(pk for some in taken for pk in some) == sorted(Label.objects.values_list("pk", flat=True))


def test_one_comparison_of_a_conversation_is_offered(ranked: Campaign, pool: Pool) -> None:
    Campaign.objects.filter(pk=ranked.pk).update(queue_depth=20)
    hire(pool, 1)
    replan(ranked.pk)
    asked = list(Offer.objects.values_list("comparison__conversation", flat=True))
    assert len(asked) == len(set(asked)) == 20


def values_by_hand(campaign: Campaign) -> tuple[list[float], list[list[float]]]:
    """w z' H^-1 z of every comparison, and of every pair of responses by conversation; H of the labels alone."""
    found, rows = fitted(campaign), pool_of(campaign)
    inverse = np.linalg.inv(found["information"] - found["ridge"] * np.eye(len(found["theta"])))

    def value(z: Floats) -> float:
        p = 1 / (1 + np.exp(-(z @ found["theta"])))
        return float(p * (1 - p) * z @ inverse @ z)

    phi = dict(zip(rows.response_ids.tolist(), rows.phi.astype(np.float64), strict=True))
    groups: dict[int, list[Floats]] = {}
    for response in Response.objects.order_by("id"):
        groups.setdefault(response.conversation_id, []).append(phi[response.pk])
    pairs = [[value(one - other) for one, other in combinations(group, 2)] for group in groups.values()]
    return [value(z) for z in rows.design.astype(np.float64)], pairs


def test_the_certificate_of_rankings_takes_all_their_pairs_and_each_for_one_label(ranked: Campaign, pool: Pool) -> None:
    """Uniform rankings of four are a poor design; that each is worth three labels made it look better than the best."""
    rank(ranked, hire(pool, 1)[0], 60, theta=np.array([0.3, -0.2, 0.1]))
    _, pairs = values_by_hand(ranked)
    row = Estimate.objects.latest()
    assert row.certificate is not None
    assert row.certificate == pytest.approx(60 * max(sum(group) * 2 / N for group in pairs) / 3, rel=1e-4)
    assert row.certificate > 1


def test_rankings_of_different_lengths_are_each_weighed_by_their_own(ranked: Campaign, pool: Pool) -> None:
    add_conversations(ranked, 20, responses=3)
    embed(ranked.pk)
    ranked.refresh_from_db()
    rank(ranked, hire(pool, 1)[0], 80, theta=np.array([0.3, -0.2, 0.1]))
    _, pairs = values_by_hand(ranked)
    best = max(sum(group) * 2 / {6: 4, 3: 3}[len(group)] for group in pairs)
    assert Estimate.objects.latest().certificate == pytest.approx(80 * best / 3, rel=1e-4)


def test_rankings_beside_pairs_count_as_the_labels_that_they_weigh(ranked: Campaign, pool: Pool) -> None:
    rank(ranked, hire(pool, 1)[0], 12, theta=np.array([0.3, -0.2, 0.1]))
    Campaign.objects.filter(pk=ranked.pk).update(answer_mode=Campaign.AnswerMode.PAIR)
    comparisons, _ = values_by_hand(ranked)
    assert Estimate.objects.latest().certificate == pytest.approx(12 * (N - 1) * max(comparisons) / 3, rel=1e-4)


class CornerEncoder:
    """Every conversation's four responses lie at the corners of one tetrahedron."""

    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float32)

    def encode(self, texts: list[str]) -> Singles:
        return self.corners[[int(re.findall(r"Answer (\d+)", text)[0]) for text in texts]]


def test_rankings_that_tell_every_direction_alike_are_the_d_optimal_design(
    ranked: Campaign, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rank the corners one way as the other, so that the reward is 0 and every pair weighs 1/4."""
    monkeypatch.setattr(embedding, "open_encoder", lambda name: CornerEncoder())
    Embedding.objects.all().delete()
    Projection.objects.all().delete()
    embed(ranked.pk)
    somebody = hire(pool, 1)[0]
    for number in range(20):
        replan(ranked.pk)
        offer = claim_offer(campaign=ranked, teacher=somebody)
        assert offer is not None
        names = offer.comparison.conversation.responses.order_by("id").values_list("pk", flat=True)
        tiers = [[pk] for pk in names]
        record_label(offer=offer, choice="", ranking=tiers[:: 1 if number % 2 else -1])
    refit(ranked.pk)
    assert Estimate.objects.latest().certificate == pytest.approx(1.0, abs=1e-6)
