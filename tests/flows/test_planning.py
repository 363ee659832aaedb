"""The loop: teachers answer at the desk, the worker refits and plans, and the estimate comes near the truth."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from activelearning import arrays, tasks
from activelearning.algorithms.types import Floats, Singles
from activelearning.curves import read_calibration, read_scores
from activelearning.models import ControlScore, Estimate, OfferReason, Plan, Projection
from activelearning.pipeline import embed, embedding, known, replan, replay
from activelearning.storage import read_arrays
from annotation.models import (
    Campaign,
    Comparison,
    Label,
    LedgerEntry,
    Membership,
    Offer,
    Pool,
    Teacher,
    User,
)
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
Sent = list[tuple[str, tuple[Any, ...]]]
WIDTH = 16


class SpreadEncoder:
    """A vector per text, drawn from its bytes; the coordinates fall off, as those of real texts do."""

    def encode(self, texts: list[str]) -> Singles:
        scale = np.arange(1, WIDTH + 1) ** -0.5
        rows = [scale * np.random.default_rng(list(text.encode())).standard_normal(WIDTH) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), WIDTH)


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker process that has just started, with an encoder that needs no model."""
    monkeypatch.setattr(embedding, "open_encoder", lambda name: SpreadEncoder())
    cache.clear()
    arrays.forget()
    known.forget()
    yield
    arrays.forget()
    known.forget()


@pytest.fixture
def prepared(campaign: Campaign) -> Campaign:
    """200 comparisons in two categories, a fifth held out, in five dimensions; nobody has come yet."""
    Campaign.objects.filter(pk=campaign.pk).update(
        dimensions=5, control_share=0.2, rationality_mode="estimated", queue_depth=2
    )
    add_conversations(campaign, 100)
    add_conversations(campaign, 100, category="writing")
    held = Comparison.objects.filter(campaign=campaign).order_by("id").values_list("id", flat=True)[::5]
    Comparison.objects.filter(pk__in=list(held)).update(is_held_out=True)
    campaign.refresh_from_db()
    return campaign


class Crowd:
    """Teachers of planted rationality who answer by a planted reward, one after the other."""

    def __init__(self, campaign: Campaign, pool: Pool, rationality: list[float], *, seed: int = 0) -> None:
        self.campaign, self.rng = campaign, np.random.default_rng(seed)
        rows = arrays.load_pool(campaign, Projection.objects.get(campaign=campaign))
        self.theta = self.rng.standard_normal(rows.design.shape[1])
        self.theta *= 2 / float((rows.design @ self.theta).std())
        self.gap = dict(zip(rows.ids.tolist(), (rows.design @ self.theta).tolist(), strict=True))
        self.teachers = []
        for rho in rationality:
            teacher = Teacher.objects.create(last_seen=timezone.now())
            Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)
            self.teachers.append((teacher, rho))

    def answer(self, labels: int) -> None:
        """So many answers, each followed by a plan."""
        replan(self.campaign.pk)
        given = 0
        while given < labels:
            for teacher, rho in self.teachers:
                offer = claim_offer(campaign=self.campaign, teacher=teacher)
                if offer is None:
                    continue
                prefers_a = self.rng.random() < 1 / (1 + math.exp(-rho * self.gap[offer.comparison_id]))
                record_label(offer=offer, choice="first" if prefers_a != offer.b_first else "second")
                given += 1
            replan(self.campaign.pk)

    def truth_of(self, estimate: Estimate) -> tuple[Floats, Floats]:
        return self.theta, read_arrays(estimate.arrays)["theta"]


def test_the_estimate_comes_near_the_planted_truth(prepared: Campaign, pool: Pool) -> None:
    embed(prepared.pk)
    crowd = Crowd(prepared, pool, [2.0, 1.0, 1.0, 0.3])
    crowd.answer(160)

    estimate = Estimate.objects.latest()
    planted, found = crowd.truth_of(estimate)
    angle = float(planted @ found / np.linalg.norm(planted) / np.linalg.norm(found))
    assert angle > 0.85

    held = set(Comparison.objects.filter(is_held_out=True).values_list("id", flat=True))
    assert not Offer.objects.filter(arm="designed", comparison__in=held).exists()
    learned = Label.objects.filter(state="current").exclude(arm="repeat").exclude(comparison__in=held).count()
    assert estimate.label_count == learned

    control = Label.objects.filter(arm="control", state="current").count()
    assert ControlScore.objects.count() == control > 15
    assert (read_calibration(prepared, read_scores(prepared)).accuracy.value or 0) > 0.55

    curve = list(Estimate.objects.order_by("id").values_list("log_det", flat=True))
    assert curve[-1] > curve[len(curve) // 2] > curve[0]
    assert OfferReason.objects.count() == Offer.objects.count()
    for plan in Plan.objects.order_by("?")[:5]:
        assert replay(plan).is_same


def test_designed_labels_tell_more_than_uniform_ones(prepared: Campaign, pool: Pool) -> None:
    """The same crowd, the same number of labels, from the same start: the design has more information."""
    embed(prepared.pk)
    reached = {}
    for strategy in ("dual", "uniform"):
        Campaign.objects.filter(pk=prepared.pk).update(
            strategy=strategy, control_share=0, rationality_mode="known", label_count=0
        )
        prepared.refresh_from_db()
        LedgerEntry.objects.all().delete()
        Label.objects.all().delete()
        Offer.objects.all().delete()
        Estimate.objects.all().delete()
        Teacher.objects.all().delete()
        Crowd(prepared, pool, [1.0, 1.0, 1.0]).answer(60)
        reached[strategy] = Estimate.objects.latest().log_det
    assert reached["dual"] > reached["uniform"] + 1.0


def test_a_restarted_worker_goes_on_where_the_killed_one_stopped(prepared: Campaign, pool: Pool) -> None:
    embed(prepared.pk)
    crowd = Crowd(prepared, pool, [1.0, 1.0])
    crowd.answer(20)
    before = Estimate.objects.latest()
    arrays.forget()
    known.forget()  # all that a process remembers
    crowd.answer(4)
    after = Estimate.objects.latest()
    assert after.label_count >= before.label_count + 3
    assert replay(Plan.objects.latest("id")).is_same


def test_an_undo_and_an_edit_are_unlearned(prepared: Campaign, pool: Pool) -> None:
    from annotation.services.labels import edit_label, undo_label

    embed(prepared.pk)
    Campaign.objects.filter(pk=prepared.pk).update(control_share=0)
    prepared.refresh_from_db()
    crowd = Crowd(prepared, pool, [1.0])
    crowd.answer(6)
    first = Estimate.objects.latest()
    label = Label.objects.filter(state="current").latest("id")
    edit_label(label=label, choice="second" if label.choice == "first" else "first")
    replan(prepared.pk)
    edited = Estimate.objects.latest()
    assert edited.label_count == first.label_count
    assert not np.allclose(read_arrays(edited.arrays)["theta"], read_arrays(first.arrays)["theta"])
    undo_label(campaign=prepared, teacher=crowd.teachers[0][0])
    replan(prepared.pk)
    assert Estimate.objects.latest().label_count == first.label_count - 1


def test_a_teacher_at_the_desk_never_waits(
    prepared: Campaign, teacher: Teacher, bob: User, client: Client, sent_tasks: Sent
) -> None:
    """Before there are features and after: every answer brings the next comparison, and asks for a plan."""
    client.force_login(bob)
    desk = reverse("desk", args=[prepared.code])
    client.get(desk)
    client.post(reverse("desk_read", args=[prepared.code]), {"version": prepared.guidelines.get().version})
    tasks.reconcile()
    run_messages(sent_tasks, but_not="activelearning.embed")
    for number in range(8):
        if number == 4:
            tasks.embed(prepared.pk)
        offer = held_offer(client, desk, teacher)
        client.post(reverse("desk_answer", args=[prepared.code]), {"offer": str(offer.code), "choice": "first"})
        tasks.replan(prepared.pk)
    assert Label.objects.count() == 8
    assert set(Plan.objects.values_list("strategy", flat=True)) == {"uniform", "dual"}
    assert Estimate.objects.latest().label_count >= 6


def held_offer(client: Client, desk: str, teacher: Teacher) -> Offer:
    assert client.get(desk).status_code == 200
    offer = Offer.objects.filter(teacher=teacher, state="held").first()
    assert offer is not None, "the teacher waits"
    return offer


def run_messages(sent: Sent, *, but_not: str) -> None:
    """What a worker would do with the messages so far."""
    work = {"activelearning.replan": tasks.replan, "activelearning.embed": tasks.embed}
    waiting, sent[:] = list(sent), []
    for name, arguments in waiting:
        if name in work and name != but_not:
            work[name](*arguments)
