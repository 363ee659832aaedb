"""What a withdrawal would cost the estimate is worked out before it, and is what it costs."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from activelearning.models import Estimate, WithdrawalEffect
from activelearning.pipeline import embed, refit, replan, weigh_withdrawal
from activelearning.pipeline.leaving import angle
from activelearning.services import ask_for_effects, effects_of, unsent_effects
from activelearning.storage import read_arrays
from activelearning.tasks import reconcile
from annotation.models import Campaign, Comparison, Enrolment, Label, Offer, Pool, Teacher, User
from annotation.services.people import REMOVE, withdraw_teacher
from tests.activelearning.conftest import answer, hire, work_through
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(campaign: Campaign, pool: Pool) -> list[Teacher]:
    """Three who answered 45 comparisons between them, and the control arm's answers on held-out ones."""
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3, control_share=0.3, ridge=0.7, queue_depth=4)
    campaign.refresh_from_db()
    comparisons = add_conversations(campaign, 40)
    Comparison.objects.filter(pk__in=[one.pk for one in comparisons[::4]]).update(is_held_out=True)
    staff = hire(pool, 3)
    embed(campaign.pk)
    for number in range(15):
        replan(campaign.pk)
        for place, teacher in enumerate(staff):
            answer(campaign, teacher, "first" if (number + place) % 3 else "second")
    campaign.refresh_from_db()
    return staff


def weigh(teacher: Teacher) -> WithdrawalEffect:
    (pk,) = ask_for_effects(teacher=teacher)
    weigh_withdrawal(pk)
    return WithdrawalEffect.objects.get(pk=pk)


def label_by_hand(comparison: Comparison, teacher: Teacher, *, arm: str, slot: int) -> None:
    offer = Offer.objects.create(
        campaign=comparison.campaign, comparison=comparison, teacher=teacher, arm=arm, slot=slot, state="answered"
    )
    Label.objects.create(
        campaign=comparison.campaign,
        offer=offer,
        comparison=comparison,
        teacher=teacher,
        arm=arm,
        b_first=False,
        choice="first",
    )


@pytest.mark.parametrize("mode", ["known", "estimated"])
def test_it_tells_what_the_withdrawal_then_does(campaign: Campaign, staff: list[Teacher], mode: str) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(rationality_mode=mode)
    campaign.refresh_from_db()
    before, leaver = refit(campaign.pk), staff[0]
    estimates = Estimate.objects.count()
    effect = weigh(leaver)
    assert (effect.state, effect.reason) == ("done", "")
    assert Estimate.objects.count() == estimates, "looking changes nothing"
    assert Label.objects.filter(teacher=leaver, state="current").count() == 15

    withdraw_teacher(teacher=leaver, how=REMOVE, user=None)
    after = refit(campaign.pk)
    assert before is not None
    assert after is not None
    assert (effect.labels_lost + effect.labels_left, effect.labels_left) == (before.label_count, after.label_count)
    assert effect.log_det_before == pytest.approx(before.log_det, rel=1e-4)
    assert effect.log_det_after == pytest.approx(after.log_det, rel=1e-4)
    assert effect.log_det_after < effect.log_det_before
    assert effect.worst_error_before == pytest.approx(before.worst_error, rel=1e-3)
    assert effect.worst_error_after == pytest.approx(after.worst_error, rel=1e-3)
    one, other = (read_arrays(row.arrays)["theta"] for row in (before, after))
    assert effect.angle == pytest.approx(angle(one, other), abs=0.1)


def test_accuracy_is_over_held_out_answers_of_the_others(campaign: Campaign, staff: list[Teacher]) -> None:
    free = Comparison.objects.filter(campaign=campaign, is_held_out=True, offers__isnull=True)
    for comparison, teacher in zip(free, staff, strict=False):
        label_by_hand(comparison, teacher, arm="control", slot=0)
    effect = weigh(staff[0])
    held_out = Label.objects.filter(comparison__is_held_out=True, state="current").exclude(choice="tie")
    others = held_out.exclude(teacher=staff[0])
    assert 0 < others.count() < held_out.count()
    assert effect.held_out_count == others.count()
    assert 0 <= effect.accuracy_before <= 1
    assert (effect.accuracy_before * effect.held_out_count) % 1 == pytest.approx(0, abs=1e-9)
    held_out.delete()
    Campaign.objects.filter(pk=campaign.pk).update(label_version=campaign.label_version + 1)
    again = weigh(staff[0])
    assert (again.held_out_count, again.accuracy_before) == (0, None)


def test_whoever_gave_every_label_leaves_the_prior(campaign: Campaign, pool: Pool) -> None:
    (alone,) = hire(pool, 1)
    add_conversations(campaign, 8)
    embed(campaign.pk)
    work_through(campaign, alone, plans=3)
    effect = weigh(alone)
    assert (effect.state, effect.labels_left) == ("done", 0)
    assert effect.log_det_after == pytest.approx(0, abs=1e-9), "no labels, no information"
    assert effect.angle is None, "there is no direction left"


def test_a_new_label_makes_it_stale_and_what_holds_is_not_asked_again(campaign: Campaign, staff: list[Teacher]) -> None:
    effect = weigh(staff[0])
    assert ask_for_effects(teacher=staff[0]) == []
    assert effects_of(staff[0]) == [effect]
    Campaign.objects.filter(pk=campaign.pk).update(label_version=campaign.label_version + 1)
    assert effects_of(staff[0]) == []
    assert ask_for_effects(teacher=staff[0]) == [effect.pk]
    weigh_withdrawal(effect.pk)
    WithdrawalEffect.objects.update(angle=90)
    weigh_withdrawal(effect.pk)  # a doubled message does nothing
    assert WithdrawalEffect.objects.get().angle == 90


def test_without_features_it_says_why(campaign: Campaign, teacher: Teacher) -> None:
    (comparison,) = add_conversations(campaign, 1)
    label_by_hand(comparison, teacher, arm="designed", slot=1)
    effect = weigh(teacher)
    assert effect.state == "failed"
    assert "no features" in effect.reason


def test_while_one_worker_is_at_it_the_others_leave_it(
    campaign: Campaign, staff: list[Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def ask_again_meanwhile(campaign: Campaign, *, leaver: int) -> dict[str, Any]:
        begun.append(leaver)
        weigh_withdrawal(pk)
        return {"state": "done"}

    monkeypatch.setattr("activelearning.pipeline.leaving.compare_fits", ask_again_meanwhile)
    (pk,) = ask_for_effects(teacher=staff[0])
    weigh_withdrawal(pk)
    assert begun == [staff[0].pk]
    WithdrawalEffect.objects.update(state="waiting")
    weigh_withdrawal(pk)
    assert len(begun) == 2, "the claim ends with the work"


def test_what_a_killed_worker_had_is_taken_up_when_its_time_is_over(campaign: Campaign, staff: list[Teacher]) -> None:
    (pk,) = ask_for_effects(teacher=staff[0])
    WithdrawalEffect.objects.update(begun_at=timezone.now(), asked_at=timezone.now() - timedelta(minutes=20))
    weigh_withdrawal(pk)
    assert WithdrawalEffect.objects.get().state == "waiting", "somebody is at it"
    assert unsent_effects() == []
    WithdrawalEffect.objects.update(begun_at=timezone.now() - timedelta(minutes=12))
    assert unsent_effects() == [pk]
    weigh_withdrawal(pk)
    assert WithdrawalEffect.objects.get().state == "done"


def test_whatever_breaks_is_said_on_the_page(
    campaign: Campaign, staff: list[Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(campaign: Campaign, *, leaver: int) -> dict[str, Any]:
        raise MemoryError("the pool is too large")

    monkeypatch.setattr("activelearning.pipeline.leaving.compare_fits", break_down)
    effect = weigh(staff[0])
    assert (effect.state, effect.reason) == ("failed", "MemoryError: the pool is too large")


def test_a_lost_message_is_sent_again(campaign: Campaign, staff: list[Teacher], sent_tasks: list[Any]) -> None:
    (pk,) = ask_for_effects(teacher=staff[0])
    message = ("activelearning.weigh_withdrawal", (pk,))
    reconcile()
    assert message not in sent_tasks
    WithdrawalEffect.objects.update(asked_at=timezone.now() - timedelta(minutes=1))
    reconcile()
    reconcile()
    assert sent_tasks.count(message) == 1


def test_the_page_asks_follows_and_shows(
    campaign: Campaign,
    staff: list[Teacher],
    alice: User,
    client: Client,
    sent_tasks: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    client.force_login(alice)
    leaver = staff[0]
    assert Enrolment.objects.filter(campaign=campaign, teacher=leaver).exists()
    where = reverse("withdrawal_effect", args=[campaign.code, leaver.code])
    assert (
        f'hx-get="{where}"'
        in client.get(reverse("teacher_withdraw", args=[campaign.code, leaver.code])).content.decode()
    )
    page = client.get(where).content.decode()
    assert "Work it out" in page
    assert not WithdrawalEffect.objects.exists(), "to look is not to ask"
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post(where).url == where
    effect = WithdrawalEffect.objects.get()
    assert ("activelearning.weigh_withdrawal", (effect.pk,)) in sent_tasks
    assert 'hx-trigger="every 2s"' in client.get(where).content.decode()
    weigh_withdrawal(effect.pk)
    effect.refresh_from_db()
    page = client.get(where, headers={"hx-request": "true"}).content.decode()
    assert "<html" not in page
    assert "hx-trigger" not in page
    assert f"{effect.log_det_after:.2f}" in page
    assert f"turns by {effect.angle:.1f}°" in page


def test_the_angle_is_between_0_and_180() -> None:
    assert angle(np.array([1.0, 0]), np.array([0, 2.0])) == pytest.approx(90)
    assert angle(np.array([1.0, 0]), np.array([-3.0, 0])) == pytest.approx(180)
    assert angle(np.array([0.1, 0.2]), np.array([0.1, 0.2])) == pytest.approx(0, abs=1e-5)
    assert angle(np.zeros(2), np.ones(2)) is None
