"""The plan: queues filled for who is present, with a reason for every offer."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from activelearning.arrays import forget
from activelearning.models import ControlScore, Estimate, OfferReason, Plan, PlanLease, TeacherRationality
from activelearning.pipeline import embed, refit, replan, replanning, replay
from activelearning.pipeline.scene import look
from activelearning.planning import choose
from activelearning.progress import Lost, read_lost
from activelearning.services import needs_planning
from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    Label,
    Membership,
    Offer,
    Pool,
    RecordedJudgement,
    Teacher,
    User,
)
from annotation.services.campaigns import change_settings
from annotation.services.labels import undo_label
from annotation.services.offers import lapse_offers
from annotation.services.people import REMOVE, withdraw_teacher
from annotation.services.pools import change_member
from tests.activelearning.conftest import answer, hire, hold_out, live_offers
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def ready(campaign: Campaign, pool: Pool) -> Campaign:
    """Forty comparisons with features, four dimensions, three teachers at work."""
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=4, control_share=0, overlap_limit=2)
    add_conversations(campaign, 20)
    add_conversations(campaign, 20, category="writing")
    hire(pool, 3)
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def test_it_fills_the_queue_of_every_present_teacher(ready: Campaign) -> None:
    assert replan(ready.pk) == 12
    for teacher in Teacher.objects.all():
        assert len(live_offers(ready, teacher=teacher)) == ready.queue_depth


def test_a_second_run_finds_nothing_to_do(ready: Campaign) -> None:
    replan(ready.pk)
    assert replan(ready.pk) == 0
    assert Plan.objects.count() == 1
    assert Estimate.objects.count() == 1


def test_before_there_are_features_offers_are_drawn_uniformly(campaign: Campaign, pool: Pool) -> None:
    add_conversations(campaign, 10)
    hire(pool, 1)
    assert replan(campaign.pk) == campaign.queue_depth
    assert set(Plan.objects.values_list("strategy", "estimate")) == {("uniform", None)}
    assert OfferReason.objects.filter(gain__isnull=True, propensity__gt=0).count() == campaign.queue_depth


def test_an_absent_teacher_gets_nothing(ready: Campaign, pool: Pool) -> None:
    away = hire(pool, 1)[0]
    Teacher.objects.filter(pk=away.pk).update(last_seen=timezone.now() - timezone.timedelta(hours=1))
    replan(ready.pk)
    assert not live_offers(ready, teacher=away)


def test_a_teacher_who_has_never_come_finds_a_first_queue(ready: Campaign, teacher: Teacher) -> None:
    assert teacher.last_seen is None
    replan(ready.pk)
    assert len(live_offers(ready, teacher=teacher)) == ready.queue_depth


def test_a_label_is_learned_and_its_place_filled(ready: Campaign) -> None:
    replan(ready.pk)
    somebody = Teacher.objects.first()
    assert somebody is not None
    answer(ready, somebody)
    assert replan(ready.pk) == 1
    estimate = Estimate.objects.latest()
    assert estimate.label_count == 1
    assert estimate.log_det > 0
    assert len(live_offers(ready, teacher=somebody)) == ready.queue_depth


def test_a_rationality_goes_with_the_labels_that_it_was_of(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(rationality_mode=Campaign.RationalityMode.ESTIMATED)
    replan(ready.pk)
    stays, goes = Teacher.objects.all()[:2]
    for teacher in (stays, goes, stays, goes):
        answer(ready, teacher)
    refit(ready.pk)
    kept = set(TeacherRationality.objects.filter(teacher=stays).values_list("category", flat=True))
    assert TeacherRationality.objects.filter(teacher=goes).exists()
    withdraw_teacher(teacher=goes, how=REMOVE, user=None)
    refit(ready.pk)
    assert not TeacherRationality.objects.filter(teacher=goes).exists()
    assert set(TeacherRationality.objects.filter(teacher=stays).values_list("category", flat=True)) == kept
    assert {row.estimate for row in TeacherRationality.objects.all()} == {Estimate.objects.latest()}
    while undo_label(campaign=ready, teacher=stays):
        pass
    refit(ready.pk)
    assert not TeacherRationality.objects.exists()


def test_offers_in_flight_are_counted_so_that_teachers_who_come_one_by_one_get_complementary_comparisons(
    ready: Campaign, pool: Pool
) -> None:
    Teacher.objects.all().delete()
    Campaign.objects.filter(pk=ready.pk).update(queue_depth=1, overlap_limit=12)
    for _ in range(12):
        hire(pool, 1)
        assert replan(ready.pk) == 1  # no label comes between: without the count all twelve would be asked the same
    assert len({offer.comparison_id for offer in live_offers(ready)}) >= 6


def test_every_offer_has_its_reason(ready: Campaign) -> None:
    replan(ready.pk)
    for why in OfferReason.objects.select_related("offer"):
        assert why.gain is not None
        assert why.gain > 0
        assert why.weight == pytest.approx(0.25)  # spanning start: theta is 0 and everybody's rationality 1
        assert {"teacher", "gain"} <= set(why.runners_up[0])
        assert why.offer.comparison_id not in [near.get("comparison") for near in why.runners_up]


def test_a_plan_replays_from_its_stored_inputs(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(control_share=0.3)
    replan(ready.pk)
    for teacher in Teacher.objects.all():
        answer(ready, teacher)
    replan(ready.pk)
    add_conversations(ready, 5, category="later")  # the pool grows
    embed(ready.pk)
    plans = list(Plan.objects.order_by("id"))
    assert len(plans) == 2
    for plan in plans:
        again = replay(plan)
        assert again.then
        assert again.is_same, (again.now, again.then)


def test_a_plan_without_features_replays_too(campaign: Campaign, pool: Pool) -> None:
    add_conversations(campaign, 10)
    hire(pool, 2)
    replan(campaign.pk)
    embed(campaign.pk)
    assert replay(Plan.objects.get()).is_same


def test_held_out_conversations_enter_neither_designed_offers_nor_the_fit(ready: Campaign) -> None:
    held = list(Comparison.objects.filter(campaign=ready).order_by("id")[:30])
    hold_out(held)
    Campaign.objects.filter(pk=ready.pk).update(overlap_limit=3)
    replan(ready.pk)
    asked = {offer.comparison_id for offer in live_offers(ready)}
    assert asked
    assert not asked & {row.pk for row in held}
    somebody = Teacher.objects.first()
    assert somebody is not None
    secret = Offer.objects.create(
        campaign=ready, comparison=held[0], teacher=somebody, arm="control", slot=0, state="answered"
    )
    Label.objects.create(
        campaign=ready, offer=secret, comparison=held[0], teacher=somebody, arm="control", b_first=False, choice="first"
    )
    estimate = refit(ready.pk)
    assert estimate is not None
    assert estimate.label_count == 0


def test_a_control_label_is_scored_by_the_estimate_that_preceded_it(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(control_share=1.0)
    replan(ready.pk)
    before = Estimate.objects.latest()
    somebody = Teacher.objects.first()
    assert somebody is not None
    answer(ready, somebody)
    replan(ready.pk)
    score = ControlScore.objects.get()
    assert score.estimate == before
    assert score.label_count == 0
    assert score.probability == pytest.approx(0.5)
    after = Estimate.objects.latest()
    answer(ready, somebody)
    replan(ready.pk)
    second = ControlScore.objects.latest("id")
    assert second.estimate == after
    assert second.label_count == 1


def test_control_offers_stand_in_their_own_slot(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(control_share=1.0)
    replan(ready.pk)
    assert {(offer.arm, offer.slot) for offer in live_offers(ready)} == {("control", 0)}


def test_what_lapses_lose_is_told_until_somebody_is_asked(ready: Campaign, client: Client, alice: User) -> None:
    """Two go away with their queues: what they were to tell is lost, until the third is asked the same."""
    Campaign.objects.filter(pk=ready.pk).update(overlap_limit=1)
    stays, *away = Teacher.objects.order_by("pk")
    Membership.objects.filter(teacher=stays).update(capacity=0)
    replan(ready.pk)
    gains = {offer.pk: offer.why.gain for offer in live_offers(ready)}
    assert len(gains) == 8
    assert read_lost(ready) == Lost(0, 0.0)
    long_ago = timezone.now() - timedelta(hours=1)
    Teacher.objects.filter(pk__in=[one.pk for one in away]).update(last_seen=long_ago)
    Offer.objects.filter(campaign=ready).update(created_at=long_ago)
    assert lapse_offers() == 8
    assert read_lost(ready) == Lost(8, pytest.approx(sum(gains.values())))
    client.force_login(alice)
    page = client.get(f"/campaigns/{ready.code}/progress/").content.decode()
    assert f"{sum(gains.values()):.3f} nats of 8 offers" in page
    Membership.objects.filter(teacher=stays).update(capacity=None)
    replan(ready.pk)
    asked = {offer.comparison_id for offer in live_offers(ready)}
    rest = [offer for offer in Offer.objects.filter(state="lapsed") if offer.comparison_id not in asked]
    assert len(rest) < 8
    assert read_lost(ready) == Lost(len(rest), pytest.approx(sum(gains[offer.pk] for offer in rest)))
    again = live_offers(ready)[0]
    replaced = Offer.objects.filter(comparison=again.comparison, state="lapsed")
    assert replaced.exists()
    Offer.objects.filter(pk=again.pk).update(state="lapsed", closed_at=timezone.now())
    assert read_lost(ready).offers == len(rest) + 1  # the second lapse stands for both


def test_a_lapsed_control_offer_is_drawn_again(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(control_share=1.0)
    replan(ready.pk)
    Campaign.objects.filter(pk=ready.pk).update(control_share=0.0)
    lapsed = live_offers(ready)[0]
    Offer.objects.filter(pk=lapsed.pk).update(state="lapsed", closed_at=timezone.now())
    replan(ready.pk)
    again = Offer.objects.get(replaces=lapsed)
    assert again.arm == "control"
    assert not [offer for offer in live_offers(ready) if offer.arm == "designed"]


def test_what_was_answered_is_not_drawn_again_where_its_teacher_takes_the_labels_along(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(control_share=1.0)
    replan(ready.pk)
    gone = Teacher.objects.order_by("pk")[0]
    for _ in range(2):
        answer(ready, gone)
    waiting = {offer.pk for offer in live_offers(ready, teacher=gone)}
    withdraw_teacher(teacher=gone, how=REMOVE, user=None)
    assert len(waiting) == 2
    assert {offer for offer, _, _ in look(ready).unanswered} == waiting


def test_a_repeat_asks_the_same_person_in_the_mirrored_order(ready: Campaign) -> None:
    replan(ready.pk)
    somebody = Teacher.objects.first()
    assert somebody is not None
    for _ in range(4):
        answer(ready, somebody)
    Campaign.objects.filter(pk=ready.pk).update(repeat_share=0.99)
    replan(ready.pk)
    repeats = [offer for offer in live_offers(ready, teacher=somebody) if offer.arm == "repeat"]
    assert repeats
    for repeat in repeats:
        first = Offer.objects.get(comparison=repeat.comparison, teacher=somebody, state="answered")
        assert repeat.b_first != first.b_first


def test_offers_of_a_teacher_who_left_are_withdrawn(ready: Campaign) -> None:
    replan(ready.pk)
    gone = Teacher.objects.first()
    assert gone is not None
    Membership.objects.filter(teacher=gone).update(status="departed")
    replan(ready.pk)
    assert not live_offers(ready, teacher=gone)
    assert Offer.objects.filter(teacher=gone, state="withdrawn").count() == ready.queue_depth


def test_offers_on_a_comparison_that_was_taken_out_are_withdrawn(ready: Campaign) -> None:
    replan(ready.pk)
    out = live_offers(ready)[0]
    Comparison.objects.filter(pk=out.comparison_id).update(is_active=False)
    replan(ready.pk)
    assert not [offer for offer in live_offers(ready) if offer.comparison_id == out.comparison_id]
    assert len(live_offers(ready)) == 12


def test_no_offer_is_made_beyond_the_label_target(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(label_target=5)
    replan(ready.pk)
    assert len(live_offers(ready)) == 5


def test_no_offer_is_made_beyond_the_budget(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(budget="0.55")
    replan(ready.pk)
    assert len(live_offers(ready)) == 5
    ready.refresh_from_db()
    assert ready.reserved <= ready.budget


def test_a_paused_campaign_gets_no_offers(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(state="paused")
    assert replan(ready.pk) == 0


def test_a_planner_that_finds_the_lease_taken_leaves_its_request_counted(ready: Campaign) -> None:
    PlanLease.objects.create(campaign=ready, until=timezone.now() + timezone.timedelta(seconds=10))
    assert replan(ready.pk) == 0
    assert PlanLease.objects.get().asked == 1
    assert not live_offers(ready)


def test_a_lease_that_ran_out_is_taken_over(ready: Campaign) -> None:
    PlanLease.objects.create(campaign=ready, until=timezone.now() - timezone.timedelta(seconds=1))
    assert replan(ready.pk) == 12
    lease = PlanLease.objects.get()
    assert lease.holder is None
    assert lease.finished_at is not None


def test_a_planner_that_lost_its_lease_while_it_chose_offers_nothing(
    ready: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = uuid4()

    def choose_slowly(*given: Any) -> Any:
        PlanLease.objects.update(holder=other, until=timezone.now() + timezone.timedelta(seconds=15))
        return choose(*given)

    monkeypatch.setattr(replanning, "choose", choose_slowly)
    assert replan(ready.pk) == 0
    assert not live_offers(ready)
    assert PlanLease.objects.get().holder == other, "the other planner keeps it"


def test_urgent_comparisons_come_first(ready: Campaign) -> None:
    urgent = Comparison.objects.filter(campaign=ready).order_by("-id")[0]
    Comparison.objects.filter(pk=urgent.pk).update(priority=5)
    replan(ready.pk)
    heads = [live_offers(ready, teacher=teacher)[0].comparison_id for teacher in Teacher.objects.all()]
    assert heads.count(urgent.pk) == 2  # the overlap limit


def test_no_teacher_is_offered_what_they_judged_or_skipped(ready: Campaign) -> None:
    somebody = Teacher.objects.first()
    assert somebody is not None
    seen = set()
    for _ in range(30):
        replan(ready.pk)
        offer = answer(ready, somebody)
        assert offer is not None
        assert offer.comparison_id not in seen
        seen.add(offer.comparison_id)


@pytest.mark.parametrize(
    "strategy",
    ["dual", "uniform", "uncertainty", "conversation_only", "teacher_only", "apo", "best_teacher", "infomax"],
)
@pytest.mark.parametrize("mode", ["known", "estimated"])
def test_every_strategy_fills_the_queues(ready: Campaign, strategy: str, mode: str) -> None:
    Campaign.objects.filter(pk=ready.pk).update(strategy=strategy, rationality_mode=mode)
    replan(ready.pk)
    for _ in range(4):
        for teacher in Teacher.objects.all():
            answer(ready, teacher)
        replan(ready.pk)
    assert len(live_offers(ready)) == 12
    assert Estimate.objects.latest().label_count == 12
    assert replay(Plan.objects.latest("id")).is_same


def test_a_recorded_judge_is_asked_only_what_the_data_holds(ready: Campaign, pool: Pool) -> None:
    judge = hire(pool, 1)[0]
    Teacher.objects.filter(pk=judge.pk).update(kind=Teacher.Kind.RECORDED, external={"judge": "expert-7"})
    held = list(Comparison.objects.filter(campaign=ready).order_by("id")[5:8])
    RecordedJudgement.objects.bulk_create(
        RecordedJudgement(comparison=comparison, judge="expert-7", outcome=1.0) for comparison in held
    )
    RecordedJudgement.objects.create(comparison=Comparison.objects.all()[0], judge="expert-8", outcome=0.0)
    replan(ready.pk)
    asked = {offer.comparison_id for offer in live_offers(ready, teacher=judge)}
    assert asked == {comparison.pk for comparison in held}


def test_a_comparison_that_is_due_within_a_day_goes_first(ready: Campaign) -> None:
    due, later = Comparison.objects.filter(campaign=ready).order_by("-id")[:2]
    Comparison.objects.filter(pk=due.pk).update(due_at=timezone.now() + timedelta(hours=23))
    Comparison.objects.filter(pk=later.pk).update(due_at=timezone.now() + timedelta(days=3))
    replan(ready.pk)
    heads = [live_offers(ready, teacher=teacher)[0].comparison_id for teacher in Teacher.objects.all()]
    assert heads.count(due.pk) == 2  # the overlap limit
    assert later.pk not in heads


def test_what_becomes_due_overtakes_a_queue_that_was_already_there(ready: Campaign) -> None:
    somebody = Teacher.objects.order_by("pk")[0]
    replan(ready.pk)
    answer(ready, somebody)
    offered = Offer.objects.filter(campaign=ready).values("comparison")
    due = Comparison.objects.filter(campaign=ready).exclude(pk__in=offered).order_by("id")[0]
    Comparison.objects.filter(pk=due.pk).update(due_at=timezone.now() - timedelta(hours=1), priority=0)
    replan(ready.pk)
    assert live_offers(ready, teacher=somebody)[0].comparison_id == due.pk


def asked_of(campaign: Campaign, teacher: Teacher, *, rounds: int = 6) -> set[str]:
    """The languages of what a teacher is offered while everybody answers."""
    for _round in range(rounds):
        replan(campaign.pk)
        for one in Teacher.objects.all():
            answer(campaign, one)
    offers = Offer.objects.filter(campaign=campaign, teacher=teacher)
    return set(offers.values_list("comparison__conversation__language", flat=True))


@pytest.mark.parametrize("strategy", ["dual", "uniform", "uncertainty"])
def test_nobody_is_asked_about_a_language_they_do_not_read(ready: Campaign, strategy: str) -> None:
    """Control offers and the random start included; an unknown language suits everybody."""
    Campaign.objects.filter(pk=ready.pk).update(strategy=strategy, control_share=0.3)
    for number, conversation in enumerate(Conversation.objects.filter(campaign=ready)):
        Conversation.objects.filter(pk=conversation.pk).update(language=("de", "en", "")[number % 3])
    german, english, anybody = Teacher.objects.order_by("pk")
    Teacher.objects.filter(pk=german.pk).update(languages=["de"])
    Teacher.objects.filter(pk=english.pk).update(languages=["en"])
    assert asked_of(ready, german) == {"de", ""}
    assert asked_of(ready, english) == {"en", ""}
    assert asked_of(ready, anybody) == {"de", "en", ""}


def test_a_pool_reads_its_languages_only(ready: Campaign, pool: Pool) -> None:
    Conversation.objects.filter(campaign=ready, category="coding").update(language="fr")
    Pool.objects.filter(pk=pool.pk).update(languages=["English"])
    replan(ready.pk)
    assert {offer.comparison.category for offer in live_offers(ready)} == {"writing"}


def test_languages_leave_a_teachers_rationality_by_category_alone(ready: Campaign) -> None:
    """The plan is the same, pair by pair, as where no language is known, if everybody reads them all."""
    replan(ready.pk)
    plain = [(offer.comparison_id, offer.teacher_id, offer.b_first) for offer in live_offers(ready)]
    Offer.objects.all().delete()
    Plan.objects.all().delete()
    for number, conversation in enumerate(Conversation.objects.filter(campaign=ready)):
        Conversation.objects.filter(pk=conversation.pk).update(language=("de", "en", "")[number % 3])
    forget()
    replan(ready.pk)
    assert [(offer.comparison_id, offer.teacher_id, offer.b_first) for offer in live_offers(ready)] == plain


def test_a_plan_with_languages_is_replayed_after_another_came(ready: Campaign) -> None:
    Conversation.objects.filter(campaign=ready, category="coding").update(language="fr")
    replan(ready.pk)
    add_conversations(ready, 5)
    Conversation.objects.filter(pk__in=Conversation.objects.order_by("-pk").values("pk")[:5]).update(language="es")
    embed(ready.pk)
    assert replay(Plan.objects.get()).is_same


def test_a_rationality_that_is_stated_anew_is_learned_from_in_a_closed_campaign_too(ready: Campaign) -> None:
    Campaign.objects.filter(pk=ready.pk).update(rationality_mode=Campaign.RationalityMode.KNOWN)
    teacher = Teacher.objects.order_by("pk")[0]
    for _ in range(4):
        replan(ready.pk)
        answer(ready, teacher)
    refit(ready.pk)
    before = Estimate.objects.latest()
    Campaign.objects.filter(pk=ready.pk).update(state=Campaign.State.CLOSED)
    member = teacher.memberships.get()
    change_member(membership=member, user=None, capacity=9, rationality=1.0)
    assert not needs_planning(Campaign.objects.get(pk=ready.pk)), "nothing about the labels has changed"
    change_member(membership=member, user=None, rationality=0.1)
    assert needs_planning(Campaign.objects.get(pk=ready.pk))
    replan(ready.pk)
    assert {row.value for row in TeacherRationality.objects.filter(teacher=teacher)} == {0.1}
    assert Estimate.objects.latest().log_det < before.log_det
    assert not needs_planning(Campaign.objects.get(pk=ready.pk))


@pytest.mark.parametrize("changed", [{"ridge": 3.0}, {"rationality_mode": "estimated"}, {"pools": []}])
def test_settings_that_the_fit_depends_on_are_learned_with_in_a_closed_campaign_too(
    ready: Campaign, changed: dict[str, Any]
) -> None:
    Campaign.objects.filter(pk=ready.pk).update(rationality_mode="known", state="closed")
    refit(ready.pk)
    assert not needs_planning(Campaign.objects.get(pk=ready.pk))
    change_settings(campaign=Campaign.objects.get(pk=ready.pk), user=None, **changed)
    assert needs_planning(Campaign.objects.get(pk=ready.pk))
    replan(ready.pk)
    assert not needs_planning(Campaign.objects.get(pk=ready.pk))
    assert Estimate.objects.count() == 2
