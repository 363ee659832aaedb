"""New terms stand before the next comparison: nothing that was held, written or answered is lost over them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from activelearning.arrays.teachers import Member, load_members
from annotation.models import Campaign, Enrolment, Label, Membership, Offer, Pool, Teacher, User
from annotation.services.offers import claim_offer, lapse_offers
from annotation.services.pools import change_member, change_terms
from annotation.services.terms import present_members, record_presence

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def desk(client: Client, bob: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Client:
    """Bob at work."""
    Enrolment.objects.create(
        campaign=campaign,
        teacher=teacher,
        stage=Enrolment.Stage.WORKING,
        read_version=campaign.guidelines.first(),
        working_since=timezone.now() - timedelta(days=1),
    )
    client.force_login(bob)
    return client


@pytest.fixture
def new_terms(alice: User, pool: Pool, desk: Client, campaign: Campaign) -> Offer:
    """Terms that changed while Bob had a comparison open, being answered."""
    desk.get(reverse("desk", args=[campaign.code]))
    held = Offer.objects.get(state=Offer.State.HELD)
    change_terms(pool=pool, user=alice, terms="You also agree to **nothing** else.")
    return held


def members_for_a_plan(campaign: Campaign) -> list[Member]:
    return load_members(campaign, categories=("coding",), kinds=[(0, "")], live={}, holding=set(), now=timezone.now())


def agree(desk: Client, campaign: Campaign, **changes: Any) -> str:
    member = Membership.objects.get(teacher__user__username="bob")
    sent = {"member": member.pk, "version": 2, **changes}
    return desk.post(reverse("desk_terms", args=[campaign.code]), sent, **HTMX).content.decode()


def test_they_are_shown_in_place_of_the_next_comparison(desk: Client, campaign: Campaign, new_terms: Offer) -> None:
    page = desk.get(reverse("desk", args=[campaign.code])).content.decode()
    assert 'data-state="terms"' in page
    assert "The terms have changed" in page
    assert "nothing** else" in page
    assert "How do I reverse list" not in page
    assert desk.get(reverse("desk_next", args=[campaign.code])).status_code == 204


def test_what_was_held_is_kept(desk: Client, campaign: Campaign, new_terms: Offer) -> None:
    desk.get(reverse("desk", args=[campaign.code]))
    kept = Offer.objects.get(pk=new_terms.pk)
    assert (kept.state, kept.held_until) == ("held", new_terms.held_until)
    page = agree(desk, campaign)
    assert f'data-offer="{new_terms.code}"' in page
    assert Membership.objects.get(teacher__user__username="bob").accepted_terms == 2


def test_an_answer_of_a_desk_that_is_still_open_is_stored(desk: Client, campaign: Campaign, new_terms: Offer) -> None:
    sent = {"offer": str(new_terms.code), "answer": "first"}
    reply = desk.post(reverse("desk_answer", args=[campaign.code]), sent, **HTMX)
    assert reply["X-Settled"] == str(new_terms.code)
    assert 'data-state="terms"' in reply.content.decode()
    assert Label.objects.get().offer == new_terms
    assert not Offer.objects.filter(state=Offer.State.HELD).exists()


@pytest.mark.parametrize(("policy", "labels"), [("accept", 1), ("refuse", 0)])
def test_a_late_one_follows_the_campaigns_policy(
    desk: Client, campaign: Campaign, new_terms: Offer, policy: str, labels: int
) -> None:
    Campaign.objects.update(late_policy=policy)
    Offer.objects.filter(pk=new_terms.pk).update(held_until=timezone.now() - timedelta(seconds=1))
    sent = {"offer": str(new_terms.code), "answer": "first"}
    reply = desk.post(reverse("desk_answer", args=[campaign.code]), sent, **HTMX)
    assert reply["X-Settled" if labels else "X-Refused"] == str(new_terms.code)
    assert Label.objects.count() == labels


def test_only_the_version_that_was_read_is_agreed_to(
    desk: Client, campaign: Campaign, pool: Pool, alice: User, new_terms: Offer
) -> None:
    change_terms(pool=pool, user=alice, terms="And yet others.")
    page = agree(desk, campaign)
    assert "changed while you read them" in page
    assert "And yet others" in page
    for wrong in ({"version": ""}, {"version": "-1"}, {"member": "x"}, {"member": 10**30}):
        assert 'data-state="terms"' in agree(desk, campaign, **wrong)
    assert Membership.objects.get(teacher__user__username="bob").accepted_terms == 1


def test_pay_of_ones_own_is_shown_and_agreed_to(desk: Client, campaign: Campaign, alice: User) -> None:
    desk.get(reverse("desk", args=[campaign.code]))
    member = Membership.objects.get(teacher__user__username="bob")
    for pay in ("0.0100", "0.0500"):
        change_member(membership=member, user=alice, cost_per_label=Decimal(pay))
        member.refresh_from_db()
        page = desk.get(reverse("desk", args=[campaign.code])).content.decode()
        assert 'data-state="terms"' in page
        assert (f"{pay} EUR" in page, "0.1000 EUR" in page, f'name="pay" value="{pay}"' in page) == (True, False, True)
        assert f"{pay} EUR" in desk.get(reverse("terms", args=[member.pk])).content.decode()
    assert "changed while you read them" in agree(desk, campaign, version=1, pay="0.0100")
    assert Membership.objects.get(pk=member.pk).accepted_terms == 0
    assert 'data-state="offer"' in agree(desk, campaign, version=1, pay="0.0500")
    change_member(membership=member, user=alice, cost_per_label=Decimal("0.05"), capacity=9)
    assert Membership.objects.get(pk=member.pk).accepted_terms == 1, "nothing changed that was agreed to"


def test_nobody_agrees_for_somebody_else(desk: Client, campaign: Campaign, dora: Teacher, new_terms: Offer) -> None:
    other = Membership.objects.get(teacher=dora)
    agree(desk, campaign, member=other.pk)
    other.refresh_from_db()
    assert other.accepted_terms == 1


def test_who_has_not_agreed_is_not_planned_for(campaign: Campaign, teacher: Teacher, new_terms: Offer) -> None:
    record_presence(teacher)
    assert present_members(campaign) == []
    assert members_for_a_plan(campaign) == []
    Membership.objects.update(accepted_terms=2)
    assert len(present_members(campaign)) == 1
    assert [member.teacher_id for member in members_for_a_plan(campaign)] == [teacher.pk]


def test_what_waits_for_whoever_does_not_agree_goes_to_others_after_a_lease(
    campaign: Campaign, teacher: Teacher, new_terms: Offer
) -> None:
    record_presence(teacher)
    lapse_offers()
    waiting = Offer.objects.filter(state=Offer.State.QUEUED)
    assert waiting.count() == 2
    waiting.update(created_at=timezone.now() - timedelta(seconds=campaign.lease_seconds + 1))
    lapse_offers()
    assert waiting.count() == 0
    assert Offer.objects.get(pk=new_terms.pk).state == "held"


def test_with_an_empty_queue_the_terms_come_before_the_rest(desk: Client, campaign: Campaign, new_terms: Offer) -> None:
    Offer.objects.all().delete()
    where = reverse("desk", args=[campaign.code])
    assert 'data-state="terms"' in desk.get(where, {"waiting": ""}, **HTMX).content.decode()
    assert 'data-state="rest"' in agree(desk, campaign)


def test_a_model_is_not_asked(campaign: Campaign, teacher: Teacher, new_terms: Offer) -> None:
    Teacher.objects.update(kind=Teacher.Kind.MODEL)
    teacher.refresh_from_db()
    assert claim_offer(campaign=campaign, teacher=teacher) == new_terms
