"""Reviews: what comes into the queue and leaves it, decisions beside the labels, and two reviewers at once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from annotation.models import (
    Adjudication,
    AuditEntry,
    Campaign,
    Comparison,
    Label,
    Offer,
    Review,
    Role,
    Teacher,
    User,
)
from annotation.services.campaigns import change_settings
from annotation.services.copies import clone_campaign
from annotation.services.labels import edit_label, record_label, undo_label
from annotation.services.offers import claim_offer
from annotation.services.people import REMOVE, withdraw_teacher
from annotation.services.queueing import queue_offers
from annotation.services.refusals import Refusal
from annotation.services.reviews import (
    GRACE,
    HOLD,
    DecidedMeanwhile,
    campaigns_to_fill,
    decide_review,
    fill_reviews,
    hold_review,
    next_review,
    refer_comparisons,
    take_back_decision,
)
from tests.annotation.conftest import draft_for
from tests.annotation.test_concurrency import at_once, on_postgres
from tests.conftest import add_conversations


def switch_on(campaign: Campaign, *, disagreements: bool = True, flags: bool = True) -> None:
    campaign.reviews_disagreements, campaign.reviews_flags = disagreements, flags
    campaign.save()


def answer(comparison: Comparison, teacher: Teacher, choice: str, **said: Any) -> Label:
    b_first = said.pop("b_first", False)
    arm = said.pop("arm", Offer.Arm.DESIGNED)
    campaign = Campaign.objects.get(pk=comparison.campaign_id)
    draft = draft_for(comparison, teacher, b_first=b_first, arm=arm)
    (offer,) = queue_offers(campaign=campaign, drafts=[draft])
    assert offer is not None
    held = claim_offer(campaign=campaign, teacher=teacher)
    assert held == offer
    return record_label(offer=offer, choice=choice, **said)


def waiting(campaign: Campaign) -> list[int]:
    rows = Review.objects.filter(campaign=campaign, is_waiting=True)
    return list(rows.order_by("pk").values_list("comparison_id", flat=True))


@pytest.fixture
def carol(campaign: Campaign) -> User:
    """A reviewer."""
    user = User.objects.create_user("carol")
    Role.objects.create(campaign=campaign, user=user, name=Role.Name.REVIEWER)
    return user


@pytest.fixture
def disputed(campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher) -> Review:
    """Bob and Dora prefer different sides of the first comparison."""
    switch_on(campaign)
    answer(comparisons[0], teacher, "first", reason="Shorter.")
    answer(comparisons[0], dora, "first", b_first=True)
    return Review.objects.get()


class TestQueue:
    @pytest.mark.parametrize(
        ("first", "second", "b_first", "is_disputed"),
        [
            ("first", "second", False, True),
            ("first", "first", True, True),  # the other side, as the second teacher saw the pair the other way round
            ("first", "second", True, False),
            ("first", "tie", False, True),
            ("tie", "both_bad", False, False),
        ],
    )
    def test_teachers_who_prefer_different_sides_disagree(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher,
        first: str, second: str, b_first: bool, is_disputed: bool,
    ) -> None:  # fmt: skip
        switch_on(campaign)
        answer(comparisons[0], teacher, first)
        assert waiting(campaign) == []
        answer(comparisons[0], dora, second, b_first=b_first)
        assert waiting(campaign) == ([comparisons[0].pk] if is_disputed else [])

    def test_nothing_comes_where_it_is_off(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher
    ) -> None:
        answer(comparisons[0], teacher, "first", is_flagged=True)
        answer(comparisons[0], dora, "second")
        assert not Review.objects.exists()

    def test_each_reason_is_asked_for_by_itself(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher
    ) -> None:
        switch_on(campaign, disagreements=False)
        answer(comparisons[0], teacher, "first")
        answer(comparisons[0], dora, "second")
        answer(comparisons[1], dora, "second", is_flagged=True)
        assert waiting(campaign) == [comparisons[1].pk]
        switch_on(campaign, flags=False)
        answer(comparisons[2], dora, "second", is_flagged=True)
        answer(comparisons[1], teacher, "first")
        review = Review.objects.get(comparison=comparisons[1])
        assert (review.disagrees, review.is_flagged, review.is_waiting) == (True, False, True)
        assert waiting(campaign) == [comparisons[1].pk]

    def test_a_teacher_who_contradicts_themselves_is_no_disagreement(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher
    ) -> None:
        switch_on(campaign)
        answer(comparisons[0], teacher, "first")
        answer(comparisons[0], teacher, "second", arm=Offer.Arm.REPEAT)
        assert waiting(campaign) == []

    def test_gold_is_not_disputed_but_may_be_flagged(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher
    ) -> None:
        switch_on(campaign)
        answer(comparisons[0], teacher, "first", arm=Offer.Arm.GOLD)
        answer(comparisons[0], dora, "second", arm=Offer.Arm.GOLD)
        answer(comparisons[1], dora, "second", arm=Offer.Arm.GOLD, is_flagged=True)
        assert waiting(campaign) == [comparisons[1].pk]

    def test_an_edit_an_undo_and_a_withdrawal_take_it_out_again(
        self, campaign: Campaign, disputed: Review, teacher: Teacher, dora: Teacher, comparisons: list[Comparison]
    ) -> None:
        label = Label.objects.get(teacher=dora)
        edit_label(label=label, choice="second")
        assert waiting(campaign) == []
        edit_label(label=Label.objects.get(teacher=dora, state="current"), choice="tie")
        assert waiting(campaign) == [comparisons[0].pk]
        undo_label(campaign=Campaign.objects.get(pk=campaign.pk), teacher=dora)
        assert waiting(campaign) == []
        record_label(offer=Offer.objects.get(teacher=dora), choice="first")
        assert waiting(campaign) == [comparisons[0].pk]
        withdraw_teacher(teacher=dora, how=REMOVE, user=None)
        assert waiting(campaign) == []
        disputed.refresh_from_db()
        assert not disputed.disagrees

    def test_switched_on_later_it_finds_what_is_there(
        self, alice: User, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher
    ) -> None:
        answer(comparisons[0], teacher, "first")
        answer(comparisons[0], dora, "second")
        answer(comparisons[1], dora, "second", is_flagged=True)
        change_settings(campaign=campaign, user=alice, reviews_disagreements=True)
        assert campaigns_to_fill() == []  # answers on their way may not know of it yet
        later = timezone.now() + GRACE + timedelta(seconds=1)
        assert campaigns_to_fill(now=later) == [campaign.pk]
        Campaign.objects.update(reviews_due_at=timezone.now())
        fill_reviews(campaign.pk)
        assert waiting(campaign) == [comparisons[0].pk]
        assert campaigns_to_fill(now=later) == []
        change_settings(campaign=campaign, user=alice, reviews_disagreements=False, reviews_flags=True)
        Campaign.objects.update(reviews_due_at=timezone.now())
        fill_reviews(campaign.pk)
        assert waiting(campaign) == [comparisons[1].pk]

    def test_a_worker_leaves_what_another_has_claimed(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher
    ) -> None:
        answer(comparisons[0], teacher, "first", is_flagged=True)
        switch_on(campaign)
        Campaign.objects.update(reviews_due_at=timezone.now() + timedelta(seconds=30))
        fill_reviews(campaign.pk)
        assert waiting(campaign) == []

    def test_a_change_of_the_setting_ends_the_work_of_the_old_one(
        self, campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer(comparisons[0], teacher, "first", is_flagged=True)
        switch_on(campaign)
        soon = timezone.now() + GRACE

        def refer(**arguments: Any) -> None:
            Campaign.objects.update(reviews_due_at=soon)

        monkeypatch.setattr("annotation.services.reviews.refer_comparisons", refer)
        Campaign.objects.update(reviews_due_at=timezone.now())
        fill_reviews(campaign.pk)
        assert Campaign.objects.get().reviews_due_at == soon

    def test_a_copy_begins_with_nothing_due(self, alice: User, campaign: Campaign) -> None:
        change_settings(campaign=campaign, user=alice, reviews_flags=True)
        clone = clone_campaign(campaign=campaign, user=alice, name="Another")
        assert (clone.reviews_flags, clone.reviews_due_at) == (True, None)

    def test_the_next_one_is_nobody_elses_and_begins_again_at_the_end(
        self, campaign: Campaign, alice: User, carol: User, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        switch_on(campaign)
        for comparison in comparisons:
            answer(comparison, teacher, "first", is_flagged=True)
        first, second, third = Review.objects.order_by("pk")
        assert next_review(campaign=campaign, user=carol) == first
        assert hold_review(review=first, user=alice).held_by == alice
        assert hold_review(review=first, user=carol).held_by == alice
        assert next_review(campaign=campaign, user=carol) == second
        assert next_review(campaign=campaign, user=carol, after=third.pk) == second
        assert next_review(campaign=campaign, user=alice) == first
        Review.objects.filter(pk=first.pk).update(held_until=timezone.now() - timedelta(seconds=1))
        assert next_review(campaign=campaign, user=carol) == first
        held = hold_review(review=first, user=carol)
        assert held.held_by == carol
        assert held.held_until is not None
        assert held.held_until > timezone.now() + HOLD - timedelta(seconds=30)


class TestDecisions:
    def test_the_labels_stay_and_the_decision_stands_beside_them(
        self, campaign: Campaign, disputed: Review, carol: User
    ) -> None:
        before = list(Label.objects.order_by("pk").values())
        version = Campaign.objects.get().label_version
        decided = decide_review(review=disputed, user=carol, verdict="a", note=" Correct. ", seen=None)
        assert (decided.verdict, decided.note, decided.reviewer, decided.state) == ("a", "Correct.", carol, "current")
        assert list(Label.objects.order_by("pk").values()) == before
        assert Campaign.objects.get().label_version == version  # nothing to fit anew
        assert waiting(campaign) == []
        entry = AuditEntry.objects.get(verb="adjudicate")
        assert (entry.user, entry.campaign, entry.details["verdict"]) == (carol, campaign, "a")

    def test_a_label_that_comes_later_does_not_open_it_again(
        self, campaign: Campaign, disputed: Review, carol: User, dora: Teacher
    ) -> None:
        decide_review(review=disputed, user=carol, verdict="left", seen=None)
        edit_label(label=Label.objects.get(teacher=dora), choice="both_bad", is_flagged=True)
        assert waiting(campaign) == []

    def test_the_same_decision_twice_is_one(self, disputed: Review, carol: User) -> None:
        for _time in range(2):
            decide_review(review=disputed, user=carol, verdict="tie", note="Equal.", seen=None)
        assert Adjudication.objects.count() == 1
        assert AuditEntry.objects.filter(verb="adjudicate").count() == 1

    def test_the_second_reviewer_is_told_and_may_put_theirs_in_its_place(
        self, disputed: Review, alice: User, carol: User
    ) -> None:
        first = decide_review(review=disputed, user=carol, verdict="a", seen=None)
        with pytest.raises(DecidedMeanwhile, match="carol decided meanwhile: A is better") as told:
            decide_review(review=disputed, user=alice, verdict="b", note="No.", seen=None)
        assert told.value.other == first
        assert Adjudication.objects.get() == first
        second = decide_review(review=disputed, user=alice, verdict="b", note="No.", seen=first.pk)
        first.refresh_from_db()
        assert (first.state, second.state, second.supersedes) == ("superseded", "current", first)

    def test_one_that_is_taken_back_waits_again(
        self, campaign: Campaign, disputed: Review, alice: User, carol: User
    ) -> None:
        decided = decide_review(review=disputed, user=carol, verdict="a", seen=None)
        assert take_back_decision(review=disputed, user=carol, adjudication_id=decided.pk)
        assert waiting(campaign) == [disputed.comparison_id]
        assert not take_back_decision(review=disputed, user=carol, adjudication_id=decided.pk)
        assert AuditEntry.objects.filter(verb="take back adjudication").count() == 1
        with pytest.raises(DecidedMeanwhile, match="taken back"):
            decide_review(review=disputed, user=alice, verdict="b", seen=decided.pk)

    def test_what_is_no_decision_is_refused(self, disputed: Review, carol: User) -> None:
        with pytest.raises(Refusal):
            decide_review(review=disputed, user=carol, verdict="first", seen=None)

    def test_the_database_keeps_one_current_decision(self, disputed: Review, carol: User) -> None:
        decide_review(review=disputed, user=carol, verdict="a", seen=None)
        with pytest.raises(IntegrityError, match=r"adjudication_one_current|UNIQUE"), transaction.atomic():
            Adjudication.objects.create(
                campaign=disputed.campaign, comparison=disputed.comparison, reviewer=carol, verdict="b"
            )


@on_postgres
def test_the_queue_is_read_by_its_index(campaign: Campaign, alice: User) -> None:
    """Where nearly all that once waited is decided, and nearly all decisions were made anew."""
    comparisons = add_conversations(campaign, 1, responses=46)
    waiting = {one.pk for one in comparisons[::100]}
    Review.objects.bulk_create(
        Review(campaign=campaign, comparison=one, is_waiting=one.pk in waiting) for one in comparisons
    )
    Adjudication.objects.bulk_create(
        Adjudication(
            campaign=campaign,
            comparison=one,
            reviewer=alice,
            verdict="a",
            state="current" if one.pk in waiting else "superseded",
        )
        for one in comparisons
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE annotation_review, annotation_adjudication")
        cursor.execute("SET LOCAL enable_sort = off")  # ten rows are few enough to sort
    middle = Review.objects.all()[500].pk
    rows = Review.objects.filter(campaign=campaign, is_waiting=True, pk__gt=middle).order_by("pk")[:51]
    assert "review_queue" in rows.explain()
    middle = Adjudication.objects.all()[500].pk
    decided = Adjudication.objects.filter(campaign=campaign, state="current", pk__lt=middle).order_by("-pk")[:51]
    assert "adjudication_decided" in decided.explain()


@on_postgres
@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_two_answers_in_the_same_moment_are_seen_as_a_disagreement(
        self, campaign: Campaign, teacher: Teacher, dora: Teacher
    ) -> None:
        switch_on(campaign)
        for comparison in add_conversations(campaign, 15):
            offers = []
            for one in (teacher, dora):
                queue_offers(campaign=campaign, drafts=[draft_for(comparison, one)])
                offers.append(claim_offer(campaign=campaign, teacher=one))
            acts: list[Callable[[], object]] = [
                lambda offer=offer, choice=choice: record_label(offer=offer, choice=choice)
                for offer, choice in zip(offers, ("first", "second"), strict=True)
            ]
            at_once(*acts)
            assert Review.objects.get(comparison=comparison).is_waiting

    def test_of_two_decisions_in_the_same_moment_one_is_stored_and_the_other_told(
        self, disputed: Review, alice: User, carol: User
    ) -> None:
        stored, told = 0, 0
        for _time in range(10):
            results = at_once(
                lambda: decide_review(review=disputed, user=alice, verdict="a", seen=None),
                lambda: decide_review(review=disputed, user=carol, verdict="b", seen=None),
            )
            stored += sum(isinstance(one, Adjudication) for one in results)
            told += sum(isinstance(one, DecidedMeanwhile) for one in results)
            Adjudication.objects.all().delete()
        assert (stored, told) == (10, 10)


def test_it_costs_nothing_where_it_is_off(campaign: Campaign, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        refer_comparisons(campaign=campaign, ids=[1, 2, 3])
