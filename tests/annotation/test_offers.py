"""The life of an offer."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.models import Campaign, Comparison, Enrolment, Membership, Offer, Pool, Teacher, User
from annotation.services.campaigns import create_campaign
from annotation.services.offers import claim_offer, lapse_offers, skip_offer, withdraw_offers
from annotation.services.queueing import queue_offers
from annotation.services.refusals import CampaignNotOpen, OfferNotHeld
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


def join_another_pool(campaign: Campaign, teacher: Teacher) -> Membership:
    pool = Pool.objects.create(name="The second pool", pay_per_label="0.10")
    campaign.pools.add(pool)
    return Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)


class TestQueueing:
    def test_it_puts_each_draft_on_its_teachers_queue(self, campaign: Campaign, queued: list[Offer]) -> None:
        assert [offer.state for offer in queued] == ["queued"] * 3
        assert [offer.slot for offer in queued] == [1, 1, 1]
        campaign.refresh_from_db()
        assert campaign.reserved == Decimal("0.3")

    def test_it_numbers_designed_slots_from_one_and_keeps_zero_for_control(
        self, campaign: Campaign, teacher: Teacher, dora: Teacher, comparisons: list[Comparison]
    ) -> None:
        offers = queue_offers(
            campaign=campaign,
            drafts=[
                draft_for(comparisons[0], teacher),
                draft_for(comparisons[0], dora, arm=Offer.Arm.CONTROL),
            ],
        )
        assert [offer.slot for offer in offers if offer] == [1, 0]

    def test_it_refuses_more_designed_judgements_than_the_limit(
        self, campaign: Campaign, teacher: Teacher, dora: Teacher, comparisons: list[Comparison]
    ) -> None:
        campaign.overlap_limit = 1
        campaign.save()
        offers = queue_offers(
            campaign=campaign, drafts=[draft_for(comparisons[0], teacher), draft_for(comparisons[0], dora)]
        )
        assert [offer is None for offer in offers] == [False, True]

    def test_it_refuses_the_same_comparison_for_one_teacher_twice(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        twice = [draft_for(comparisons[0], teacher), draft_for(comparisons[0], teacher, rank=1.0)]
        assert [offer is None for offer in queue_offers(campaign=campaign, drafts=twice)] == [False, True]
        assert queue_offers(campaign=campaign, drafts=twice) == [None, None]

    def test_it_lets_the_same_person_repeat_once(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        again = draft_for(comparisons[0], teacher, arm=Offer.Arm.REPEAT, b_first=True)
        offers = queue_offers(campaign=campaign, drafts=[draft_for(comparisons[0], teacher), again, again])
        assert [offer is None for offer in offers] == [False, False, True]

    def test_it_does_not_ask_again_what_the_teacher_skipped(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert held is not None
        skip_offer(offer=held, reason="I do not know this field")
        assert queue_offers(campaign=campaign, drafts=[draft_for(held.comparison, teacher)]) == [None]

    def test_it_stops_where_the_budget_ends_and_keeps_the_smallest_ranks(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        Campaign.objects.filter(pk=campaign.pk).update(budget="0.25")
        drafts = [draft_for(comparison, teacher, rank=-float(place)) for place, comparison in enumerate(comparisons)]
        offers = queue_offers(campaign=campaign, drafts=drafts)
        assert [offer is None for offer in offers] == [True, False, False]
        campaign.refresh_from_db()
        assert campaign.reserved == Decimal("0.2")
        assert Offer.objects.count() == 2

    def test_it_fills_a_budget_to_the_last_cent(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        """0.1 + 0.1 + 0.1 is 0.3 here, whatever a float says."""
        Campaign.objects.filter(pk=campaign.pk).update(budget="0.3")
        drafts = [draft_for(comparison, teacher) for comparison in comparisons]
        assert all(queue_offers(campaign=campaign, drafts=drafts))

    def test_it_leaves_out_suspended_members(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        draft = draft_for(comparisons[0], teacher)
        Membership.objects.update(status=Membership.Status.SUSPENDED)
        assert queue_offers(campaign=campaign, drafts=[draft]) == [None]

    def test_it_leaves_out_comparisons_that_were_taken_out(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        Comparison.objects.filter(pk=comparisons[0].pk).update(is_active=False)
        assert queue_offers(campaign=campaign, drafts=[draft_for(comparisons[0], teacher)]) == [None]

    def test_it_refuses_a_campaign_that_is_not_open(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        Campaign.objects.update(state=Campaign.State.PAUSED)
        with pytest.raises(CampaignNotOpen):
            queue_offers(campaign=campaign, drafts=[draft_for(comparisons[0], teacher)])

    def test_its_cost_does_not_grow_with_the_drafts(
        self, campaign: Campaign, teacher: Teacher, django_assert_max_num_queries: Any
    ) -> None:
        drafts = [draft_for(comparison, teacher) for comparison in add_conversations(campaign, 40)]
        with django_assert_max_num_queries(9):
            assert all(queue_offers(campaign=campaign, drafts=drafts))


class TestClaiming:
    def test_it_holds_the_head_of_the_queue(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert held == queued[0]
        held.refresh_from_db()
        assert held.state == Offer.State.HELD
        assert held.held_until == held.held_at + timedelta(seconds=campaign.lease_seconds)

    def test_a_reload_returns_the_same_offer_with_the_same_end(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        first = claim_offer(campaign=campaign, teacher=teacher)
        again = claim_offer(campaign=campaign, teacher=teacher)
        assert first == again
        assert first.held_until == again.held_until

    def test_an_offer_past_its_end_that_nobody_swept_is_held_anew(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        held = claim_offer(campaign=campaign, teacher=teacher)
        Offer.objects.filter(pk=held.pk).update(held_until=timezone.now() - timedelta(seconds=1))
        again = claim_offer(campaign=campaign, teacher=teacher)
        assert again == held
        assert again.held_until > timezone.now()

    def test_nothing_waits_for_somebody_with_an_empty_queue(
        self, campaign: Campaign, dora: Teacher, queued: list[Offer]
    ) -> None:
        assert claim_offer(campaign=campaign, teacher=dora) is None

    def test_a_paused_campaign_gives_nothing(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        campaign.state = Campaign.State.PAUSED
        assert claim_offer(campaign=campaign, teacher=teacher) is None

    def test_a_suspended_member_gets_nothing(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        Membership.objects.update(status=Membership.Status.SUSPENDED)
        assert claim_offer(campaign=campaign, teacher=teacher) is None

    @pytest.mark.parametrize("terms", [{"capacity": 3, "label_count": 3}, {"day_count": 5}])
    def test_it_stops_at_the_terms(
        self, campaign: Campaign, teacher: Teacher, pool: Pool, queued: list[Offer], terms: dict[str, int]
    ) -> None:
        Pool.objects.update(daily_limit=5)
        Membership.objects.update(day=timezone.now().date(), **terms)
        assert claim_offer(campaign=campaign, teacher=teacher) is None
        assert set(Offer.objects.values_list("state", flat=True)) == {"withdrawn"}, "others may be asked"
        Membership.objects.update(day=timezone.now().date() - timedelta(days=1), capacity=None)
        add = [draft_for(offer.comparison, teacher) for offer in queued]
        queue_offers(campaign=campaign, drafts=add)
        assert claim_offer(campaign=campaign, teacher=teacher) is not None

    def test_what_is_held_may_be_finished_when_the_terms_end(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        held = claim_offer(campaign=campaign, teacher=teacher)
        Membership.objects.update(capacity=1, label_count=1)
        assert claim_offer(campaign=campaign, teacher=teacher) == held

    def test_one_pool_that_is_full_does_not_stand_before_another(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        first, second = Membership.objects.get(), join_another_pool(campaign, teacher)
        queue_offers(
            campaign=campaign,
            drafts=[
                draft_for(comparisons[0], teacher, membership_id=first.pk, rank=0.1),
                draft_for(comparisons[1], teacher, membership_id=second.pk, rank=0.2),
            ],
        )
        Membership.objects.filter(pk=first.pk).update(capacity=0)
        claimed = claim_offer(campaign=campaign, teacher=teacher)
        assert claimed is not None
        assert claimed.membership_id == second.pk

    def test_gold_comes_under_the_pool_that_has_room(
        self, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        first, second = Membership.objects.get(), join_another_pool(campaign, teacher)
        Comparison.objects.filter(pk=comparisons[0].pk).update(gold_outcome=1)
        campaign.gold_share = 1.0
        Enrolment.objects.create(campaign=campaign, teacher=teacher, stage="working")
        Membership.objects.filter(pk=first.pk).update(capacity=0)
        gold = claim_offer(campaign=campaign, teacher=teacher)
        assert gold is not None
        assert (gold.arm, gold.membership_id) == ("gold", second.pk)
        withdraw_offers(offers=[gold], also_held=True)
        Membership.objects.filter(pk=second.pk).update(capacity=0)
        assert claim_offer(campaign=campaign, teacher=teacher) is None
        assert Offer.objects.count() == 1, "nothing is made that could not be claimed"

    def test_guidelines_come_first(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        Enrolment.objects.create(campaign=campaign, teacher=teacher)
        assert claim_offer(campaign=campaign, teacher=teacher) is None

    def test_it_costs_the_same_for_a_queue_of_any_length(
        self, campaign: Campaign, teacher: Teacher, django_assert_num_queries: Any
    ) -> None:
        drafts = [draft_for(comparison, teacher) for comparison in add_conversations(campaign, 40)]
        queue_offers(campaign=campaign, drafts=drafts)
        with django_assert_num_queries(5):  # enrolment, head, savepoint, update, release
            held = claim_offer(campaign=campaign, teacher=teacher)
            assert held.comparison.conversation.messages
            assert held.comparison.a.messages

    def test_what_is_held_in_another_campaign_counts_against_the_terms(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer], pool: Pool, alice: User
    ) -> None:
        other = create_campaign(user=alice, name="Another")
        other.pools.add(pool)
        Campaign.objects.filter(pk=other.pk).update(state="open")
        other.refresh_from_db()
        Membership.objects.filter(teacher=teacher).update(capacity=1)
        queue_offers(campaign=other, drafts=[draft_for(one, teacher) for one in add_conversations(other, 2)])
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert claim_offer(campaign=other, teacher=teacher) is None
        skip_offer(offer=held)
        assert claim_offer(campaign=other, teacher=teacher).campaign_id == other.pk


class TestClosing:
    def test_a_skip_frees_slot_and_money(
        self, campaign: Campaign, teacher: Teacher, dora: Teacher, queued: list[Offer]
    ) -> None:
        Campaign.objects.filter(pk=campaign.pk).update(overlap_limit=1)
        campaign.refresh_from_db()
        Enrolment.objects.create(campaign=campaign, teacher=teacher, stage=Enrolment.Stage.WORKING)
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert queue_offers(campaign=campaign, drafts=[draft_for(held.comparison, dora)]) == [None]
        for _again in range(2):
            assert skip_offer(offer=held, reason="unclear").state == Offer.State.SKIPPED
        campaign.refresh_from_db()
        assert campaign.reserved == Decimal("0.2")
        assert Enrolment.objects.get().skip_count == 1
        assert queue_offers(campaign=campaign, drafts=[draft_for(held.comparison, dora)]) != [None]

    def test_an_answered_offer_cannot_be_skipped(self, queued: list[Offer]) -> None:
        Offer.objects.filter(pk=queued[0].pk).update(state=Offer.State.ANSWERED)
        with pytest.raises(OfferNotHeld):
            skip_offer(offer=queued[0])

    def test_withdrawing_leaves_held_offers_unless_asked(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        claim_offer(campaign=campaign, teacher=teacher)
        assert withdraw_offers(offers=queued) == 2
        assert withdraw_offers(offers=queued) == 0
        assert withdraw_offers(offers=queued, also_held=True) == 1
        campaign.refresh_from_db()
        assert campaign.reserved == 0

    def test_a_lease_that_ends_frees_slot_and_money(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        Teacher.objects.update(last_seen=timezone.now())
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert lapse_offers() == 0
        assert lapse_offers(now=held.held_until + timedelta(seconds=1)) >= 1
        held.refresh_from_db()
        assert held.state == Offer.State.LAPSED

    def test_an_absent_teachers_queue_is_freed_after_one_lease(
        self, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        later = timezone.now() + timedelta(seconds=campaign.lease_seconds + 1)
        Teacher.objects.update(last_seen=later)
        assert lapse_offers(now=later) == 0
        Teacher.objects.update(last_seen=timezone.now() - timedelta(seconds=5))
        assert lapse_offers(now=later) == 3
        campaign.refresh_from_db()
        assert campaign.reserved == 0

    def test_a_model_teacher_keeps_its_queue(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        Teacher.objects.update(kind=Teacher.Kind.MODEL)
        assert lapse_offers(now=timezone.now() + timedelta(days=1)) == 0

    def test_what_was_queued_while_the_campaign_closed_is_swept(self, campaign: Campaign, queued: list[Offer]) -> None:
        Campaign.objects.filter(pk=campaign.pk).update(state="closed")
        assert lapse_offers() == 0, "nobody hoarded it"
        assert set(Offer.objects.values_list("state", flat=True)) == {"withdrawn"}
        campaign.refresh_from_db()
        assert campaign.reserved == 0


class TestConstraints:
    """Tried against the database itself, past every service."""

    @pytest.fixture
    def insert(self, campaign: Campaign) -> Callable[..., Offer]:
        def insert_offer(comparison: Comparison, teacher: Teacher, **values: Any) -> Offer:
            with transaction.atomic():
                return Offer.objects.create(campaign=campaign, comparison=comparison, teacher=teacher, **values)

        return insert_offer

    @pytest.mark.parametrize("state", ["queued", "answered"])
    def test_one_taken_offer_for_a_comparison_and_teacher(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher, state: str
    ) -> None:
        insert(comparisons[0], teacher, slot=1, state=state)
        with pytest.raises(IntegrityError):
            insert(comparisons[0], teacher, slot=2)
        insert(comparisons[0], teacher, arm="repeat")
        with pytest.raises(IntegrityError):
            insert(comparisons[0], teacher, arm="repeat")

    @pytest.mark.parametrize("state", ["skipped", "lapsed", "withdrawn"])
    def test_a_closed_offer_leaves_its_place(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher, state: str
    ) -> None:
        insert(comparisons[0], teacher, slot=1, state=state)
        insert(comparisons[0], teacher, slot=1)

    def test_one_taken_offer_for_a_slot(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher, dora: Teacher
    ) -> None:
        insert(comparisons[0], teacher, slot=1)
        with pytest.raises(IntegrityError):
            insert(comparisons[0], dora, slot=1)

    @pytest.mark.parametrize(
        ("arm", "slot"), [("control", 1), ("control", None), ("designed", 0), ("designed", None), ("gold", 1)]
    )
    def test_the_arm_says_which_slots_there_are(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher, arm: str, slot: int | None
    ) -> None:
        with pytest.raises(IntegrityError):
            insert(comparisons[0], teacher, arm=arm, slot=slot)

    def test_a_teacher_holds_one_offer_at_a_time(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher
    ) -> None:
        until = timezone.now() + timedelta(minutes=1)
        insert(comparisons[0], teacher, slot=1, state="held", held_until=until)
        with pytest.raises(IntegrityError):
            insert(comparisons[1], teacher, slot=1, state="held", held_until=until)

    def test_a_held_offer_has_an_end(
        self, insert: Callable[..., Offer], comparisons: list[Comparison], teacher: Teacher
    ) -> None:
        with pytest.raises(IntegrityError):
            insert(comparisons[0], teacher, slot=1, state="held")

    @pytest.mark.parametrize("money", [{"reserved": "0.8", "spent": "0.3"}, {"reserved": "-0.1"}, {"spent": "-0.1"}])
    def test_a_campaign_stays_within_its_budget(self, campaign: Campaign, money: dict[str, str]) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Campaign.objects.filter(pk=campaign.pk).update(budget=1, **money)
