"""The life of a campaign: created, opened, paused, closed, archived, cloned, deleted."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotation.models import (
    AuditEntry,
    Campaign,
    Comparison,
    Conversation,
    GuidelineVersion,
    Label,
    LedgerEntry,
    Offer,
    Pool,
    Response,
    Role,
    Teacher,
    User,
)
from annotation.services import deletion
from annotation.services.campaigns import (
    archive_campaign,
    change_settings,
    close_campaign,
    create_campaign,
    open_campaign,
    pause_campaign,
    publish_guidelines,
    put_back_comparisons,
    set_gold,
    set_priority,
    take_out_comparisons,
)
from annotation.services.copies import clone_campaign
from annotation.services.deletion import delete_campaign, preview_deletion
from annotation.services.labels import record_label, undo_label
from annotation.services.ledger import balance, grant_bonus, pay_out
from annotation.services.offers import claim_offer
from annotation.services.pools import change_terms
from annotation.services.queueing import queue_offers
from annotation.services.refusals import CurrencyMismatch, Refusal, StateRefused
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


def test_a_new_campaign_is_a_draft_that_its_maker_administers(alice: User, pool: Pool) -> None:
    campaign = create_campaign(user=alice, name="New", guidelines="Be kind.", pools=[pool], overlap_limit=2)
    assert (campaign.state, campaign.overlap_limit) == (Campaign.State.DRAFT, 2)
    assert Role.objects.get(campaign=campaign).user == alice
    assert campaign.guidelines.get().version == 1


class TestCurrency:
    """One budget, one currency: 10 is not 5 euros and 5 yen."""

    @pytest.fixture
    def yen(self, alice: User) -> Pool:
        return Pool.objects.create(name="Tokyo", pay_per_label="15", currency="JPY", created_by=alice)

    def test_a_new_campaign_pays_as_its_pools_do(self, alice: User, yen: Pool) -> None:
        assert create_campaign(user=alice, name="New", pools=[yen]).currency == "JPY"
        assert create_campaign(user=alice, name="Newer").currency == "EUR"

    def test_pools_of_two_currencies_are_no_campaign(self, alice: User, pool: Pool, yen: Pool) -> None:
        with pytest.raises(CurrencyMismatch, match="The pool Tokyo pays in JPY and the campaign in EUR"):
            create_campaign(user=alice, name="New", pools=[pool, yen])
        assert not Campaign.objects.exists()

    def test_a_pool_of_another_currency_is_not_added(
        self, alice: User, campaign: Campaign, pool: Pool, yen: Pool
    ) -> None:
        for wrong in ({"pools": [pool, yen]}, {"pools": [pool], "currency": "JPY"}, {"currency": "JPY"}):
            with pytest.raises(CurrencyMismatch):
                change_settings(campaign=campaign, user=alice, **wrong)
        assert list(campaign.pools.all()) == [pool]
        assert change_settings(campaign=campaign, user=alice, pools=[yen], currency="JPY").currency == "JPY"
        assert list(campaign.pools.all()) == [yen]

    def test_money_that_moved_keeps_its_currency(self, alice: User, campaign: Campaign, yen: Pool) -> None:
        for moved in ({"spent": 1}, {"reserved": 1, "spent": 0}):
            Campaign.objects.update(**moved)
            with pytest.raises(Refusal, match="clone the campaign"):
                change_settings(campaign=campaign, user=alice, pools=[yen], currency="JPY")

    def test_a_pool_in_use_keeps_its_currency(self, alice: User, campaign: Campaign, pool: Pool, yen: Pool) -> None:
        with pytest.raises(Refusal, match="Helpful answers draws on this pool and pays in EUR"):
            change_terms(pool=pool, user=alice, currency="USD")
        assert change_terms(pool=pool, user=alice, currency="EUR", daily_limit=5).daily_limit == 5
        assert change_terms(pool=yen, user=alice, currency="USD").currency == "USD"

    def test_a_bonus_is_of_the_budgets_currency(self, alice: User, campaign: Campaign, teacher: Teacher) -> None:
        Campaign.objects.update(currency="JPY")
        campaign.refresh_from_db()
        grant_bonus(campaign=campaign, teacher=teacher, amount=Decimal(500), user=alice, memo="care")
        assert set(LedgerEntry.objects.values_list("currency", flat=True)) == {"JPY"}

    def test_the_page_says_which_and_refuses_another(
        self, alice: User, campaign: Campaign, yen: Pool, client: Client
    ) -> None:
        client.force_login(alice)
        Campaign.objects.update(budget=50)
        assert "/ 50.00 EUR" in client.get(f"/campaigns/{campaign.code}/").content.decode()
        where = f"/campaigns/{campaign.code}/settings/"
        form = client.get(where).context["form"]
        data = {name: value for name, value in form.initial.items() if value not in (None, {}, [])}
        said = client.post(where, data | {"content_warnings": "", "pools": [yen.pk], "currency": "eur"})
        assert "The pool Tokyo pays in JPY and the campaign in EUR" in said.content.decode()
        said = client.post(where, data | {"content_warnings": "", "pools": [yen.pk], "currency": "yens"})
        assert "three letters" in said.content.decode()
        client.post(where, data | {"content_warnings": "", "pools": [yen.pk], "currency": "jpy"})
        campaign.refresh_from_db()
        assert campaign.currency == "JPY"


def test_it_opens_when_nothing_is_missing(alice: User, pool: Pool) -> None:
    campaign = create_campaign(user=alice, name="New")
    for missing in ("pool", "conversations", "guidelines"):
        with pytest.raises(Refusal, match=missing):
            open_campaign(campaign=campaign, user=alice)
        if missing == "pool":
            campaign.pools.add(pool)
        elif missing == "conversations":
            add_conversations(campaign, 1)
        else:
            publish_guidelines(campaign=campaign, text="Be kind.", user=alice)
    assert open_campaign(campaign=campaign, user=alice).is_open
    assert AuditEntry.objects.filter(verb="open", campaign=campaign, details={"before": "draft"}).exists()


def test_a_double_click_is_one_click_and_a_wrong_way_is_refused(alice: User, campaign: Campaign) -> None:
    for _again in range(2):
        assert pause_campaign(campaign=campaign, user=alice).state == "paused"
    assert AuditEntry.objects.filter(verb="paused").count() == 1
    with pytest.raises(StateRefused, match="paused cannot become archived"):
        archive_campaign(campaign=campaign, user=alice)


def test_closing_withdraws_what_waits_and_releases_its_money(
    alice: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    claim_offer(campaign=campaign, teacher=teacher)
    campaign = close_campaign(campaign=campaign, user=alice)
    assert (campaign.state, campaign.reserved) == ("closed", 0)
    assert not Offer.objects.filter(state__in=Offer.LIVE).exists()
    assert archive_campaign(campaign=campaign, user=alice).state == "archived"


def test_settings_keep_to_what_was_spent_and_asked(
    alice: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    with pytest.raises(Refusal, match="budget"):
        change_settings(campaign=campaign, user=alice, budget=Decimal("0.20"))
    assert change_settings(campaign=campaign, user=alice, budget=Decimal("0.30")).budget == Decimal("0.3")
    record_label(offer=claim_offer(campaign=campaign, teacher=teacher), choice="tie")
    with pytest.raises(Refusal, match="clone"):  # also where the label came after the campaign was read
        change_settings(campaign=campaign, user=alice, answer_mode="ranking")
    assert AuditEntry.objects.get(verb="change settings").details == {"budget": ["None", "0.30"]}


def test_guidelines_are_versions_and_the_same_text_is_none(alice: User, campaign: Campaign) -> None:
    second = publish_guidelines(campaign=campaign, text="Prefer the kinder one.", user=alice)
    assert second.version == 2
    assert publish_guidelines(campaign=campaign, text="Prefer the kinder one.", user=alice) == second
    with pytest.raises(Refusal):
        publish_guidelines(campaign=campaign, text="  ", user=alice)


def test_what_a_browser_does_to_line_ends_is_no_new_version(alice: User, campaign: Campaign) -> None:
    GuidelineVersion.objects.filter(campaign=campaign).update(text="One.\n\nTwo.\n")
    assert publish_guidelines(campaign=campaign, text="One.\r\n\r\nTwo.", user=alice).version == 1
    assert publish_guidelines(campaign=campaign, text="One.\r\nTwo.\r\n", user=alice).text == "One.\nTwo."
    assert create_campaign(user=alice, name="New", guidelines="One.\r\n").guidelines.get().text == "One."


def test_what_is_taken_out_is_not_asked(alice: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
    every = Comparison.objects.all()
    assert take_out_comparisons(campaign=campaign, comparisons=every, user=alice) == 3
    assert claim_offer(campaign=campaign, teacher=teacher) is None
    assert put_back_comparisons(campaign=campaign, comparisons=every, user=alice) == 3
    assert queue_offers(campaign=campaign, drafts=[draft_for(every[0], teacher)]) != [None]


@pytest.mark.parametrize("urgent", [{"priority": 5}, {"due_at": timezone.now() + timedelta(hours=1)}])
@pytest.mark.parametrize("is_queued_before", [True, False])
def test_the_urgent_comes_first(
    alice: User,
    campaign: Campaign,
    teacher: Teacher,
    comparisons: list[Comparison],
    urgent: dict[str, Any],
    is_queued_before: bool,
) -> None:
    drafts = [draft_for(comparison, teacher, rank=float(place)) for place, comparison in enumerate(comparisons)]
    if is_queued_before:
        queue_offers(campaign=campaign, drafts=drafts)
    last = Comparison.objects.filter(pk=comparisons[2].pk)
    set_priority(campaign=campaign, comparisons=last, user=alice, **urgent)
    if not is_queued_before:
        queue_offers(campaign=campaign, drafts=drafts)
    assert claim_offer(campaign=campaign, teacher=teacher).comparison == comparisons[2]


def test_a_known_answer_is_first_second_or_tie(alice: User, comparisons: list[Comparison]) -> None:
    assert set_gold(comparison=comparisons[0], user=alice, outcome=1.0, feedback="It runs.").gold_outcome == 1.0
    with pytest.raises(Refusal):
        set_gold(comparison=comparisons[0], user=alice, outcome=0.7)


class TestCloning:
    def test_it_takes_the_settings_and_leaves_the_work(
        self, alice: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        campaign.budget, campaign.overlap_limit = Decimal(7), 2
        campaign.save()
        clone = clone_campaign(campaign=campaign, user=alice, name="Again")
        assert (clone.state, clone.budget, clone.overlap_limit, clone.reserved) == ("draft", 7, 2, 0)
        assert clone.code != campaign.code
        assert list(clone.pools.all()) == list(campaign.pools.all())
        assert clone.guidelines.get().text == campaign.guidelines.get().text
        assert (clone.conversation_count, Conversation.objects.filter(campaign=clone).count()) == (0, 0)

    def test_it_copies_conversations_pair_by_pair(
        self, alice: User, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("annotation.services.copies.CHUNK", 2)
        add_conversations(campaign, 5, responses=3)
        clone = clone_campaign(campaign=campaign, user=alice, name="Again", with_conversations=True)
        assert (clone.conversation_count, clone.comparison_count) == (5, 15)

        def pairs(of: Campaign) -> list[tuple[Any, ...]]:
            rows = Comparison.objects.filter(campaign=of).select_related("a", "b", "conversation").order_by("pk")
            return [(row.conversation.digest, row.a.digest, row.b.digest, row.category) for row in rows]

        assert pairs(clone) == pairs(campaign)
        assert not set(Response.objects.filter(conversation__campaign=clone)) & set(
            Response.objects.filter(conversation__campaign=campaign)
        )


class TestDeletion:
    @pytest.fixture
    def label(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Label:
        return record_label(
            offer=claim_offer(campaign=campaign, teacher=teacher),
            choice="first",
            guidelines=campaign.guidelines.get(),
        )

    def test_the_preview_says_what_goes(self, campaign: Campaign, label: Label) -> None:
        counts = dict(preview_deletion(campaign))
        assert {
            "comparisons": 3,
            "conversations": 3,
            "labels": 1,
            "offers": 3,
            "responses": 6,
        }.items() <= counts.items()
        assert not {"ledger entrys", "audit entrys"} & set(counts)

    def test_it_asks_for_the_name_and_for_rest(self, alice: User, campaign: Campaign) -> None:
        with pytest.raises(Refusal, match="name"):
            delete_campaign(campaign=campaign, user=alice, confirmed_name="something")
        with pytest.raises(Refusal, match="Archive"):
            delete_campaign(campaign=campaign, user=alice, confirmed_name=campaign.name)

    def test_what_teachers_are_owed_is_booked_first(
        self, alice: User, campaign: Campaign, teacher: Teacher, label: Label
    ) -> None:
        campaign = archive_campaign(campaign=close_campaign(campaign=campaign, user=alice), user=alice)
        with pytest.raises(Refusal, match="owed"):
            delete_campaign(campaign=campaign, user=alice, confirmed_name=campaign.name)
        assert Label.objects.filter(pk=label.pk).exists()
        pay_out(teacher=teacher, amount=label.cost, currency="EUR", user=alice, campaign=campaign)
        delete_campaign(campaign=campaign, user=alice, confirmed_name=campaign.name)
        assert not Campaign.objects.exists()
        assert balance(teacher) == {}

    def test_what_teachers_owe_keeps_nothing(
        self, alice: User, campaign: Campaign, teacher: Teacher, label: Label
    ) -> None:
        """Paid, then taken back: no payout could even it out."""
        pay_out(teacher=teacher, amount=label.cost, currency="EUR", user=alice, campaign=campaign)
        undo_label(campaign=campaign, teacher=teacher)
        campaign = archive_campaign(campaign=close_campaign(campaign=campaign, user=alice), user=alice)
        delete_campaign(campaign=campaign, user=alice, confirmed_name=campaign.name)
        assert balance(teacher) == {"EUR": -label.cost}

    @pytest.mark.parametrize(("again", "sentence", "labels"), [(False, "Archive", 1), (True, "owed", 0)])
    def test_reopened_meanwhile_it_is_not_deleted_over_teachers_heads(
        self,
        alice: User,
        campaign: Campaign,
        teacher: Teacher,
        comparisons: list[Comparison],
        again: bool,
        sentence: str,
        labels: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Another admin opens it between two transactions, and somebody answers; it may even be archived again."""
        close_campaign(campaign=campaign, user=alice)
        archived = archive_campaign(campaign=Campaign.objects.get(), user=alice)

        def preview_and_open(asked: Campaign) -> list[tuple[str, int]]:
            counts = preview_deletion(asked)
            opened = open_campaign(campaign=close_campaign(campaign=Campaign.objects.get(), user=alice), user=alice)
            queue_offers(campaign=opened, drafts=[draft_for(comparisons[0], teacher)])
            record_label(
                offer=claim_offer(campaign=opened, teacher=teacher),
                choice="first",
                guidelines=opened.guidelines.get(),
            )
            if again:
                archive_campaign(campaign=close_campaign(campaign=opened, user=alice), user=alice)
            return counts

        monkeypatch.setattr(deletion, "preview_deletion", preview_and_open)
        with pytest.raises(Refusal, match=sentence):
            delete_campaign(campaign=archived, user=alice, confirmed_name=archived.name)
        assert (Campaign.objects.count(), Label.objects.count()) == (1, labels)
        assert balance(teacher)["EUR"] > 0

    def test_everything_goes_but_the_books(
        self, alice: User, campaign: Campaign, teacher: Teacher, label: Label
    ) -> None:
        campaign = archive_campaign(campaign=close_campaign(campaign=campaign, user=alice), user=alice)
        pay_out(teacher=teacher, amount=label.cost, currency="EUR", user=alice, campaign=campaign)
        delete_campaign(campaign=campaign, user=alice, confirmed_name=campaign.name)
        for gone in (Campaign, Conversation, Response, Comparison, Offer, Label, Role):
            assert not gone.objects.exists()
        assert LedgerEntry.objects.count() == 4
        assert AuditEntry.objects.get(verb="delete campaign").details["removed"]["labels"] == 1
