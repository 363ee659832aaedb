"""Pay through its pages: what is owed, payouts booked once, and CSV that runs nothing."""

import csv
import io
import re
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Enrolment, LedgerEntry, Offer, Teacher, User
from annotation.services.labels import record_label, undo_label
from annotation.services.ledger import balance, grant_bonus, pay_out, unbalanced_movements
from annotation.services.offers import claim_offer
from annotation.services.terms import present_members
from annotation.spreadsheets import safe_cell

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def earned(campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Teacher:
    """Bob has answered three for ten cents each."""
    Enrolment.objects.create(campaign=campaign, teacher=teacher, stage="working")
    for _time in range(3):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        assert offer is not None
        record_label(offer=offer, choice="tie")
    return teacher


def rows_of(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


def fields_of(page: Any) -> dict[str, list[str]]:
    """The hidden fields of a page's forms."""
    fields: dict[str, list[str]] = defaultdict(list)
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode()):
        fields[name].append(value)
    return fields


def pay(admin: Client, campaign: Campaign, fields: dict[str, list[str]], **also: Any) -> str:
    page = admin.post(reverse("ledger_pay", args=[campaign.code]), {**fields, **also}, follow=True)
    return page.content.decode()


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_is_owed_is_shown_and_paid_once(admin: Client, campaign: Campaign, earned: Teacher, language: str) -> None:
    """A double click pays nobody twice, not even where as much is owed again by then."""
    where = reverse("campaign_ledger", args=[campaign.code])
    page = admin.get(where, headers={"accept-language": language})
    (account,) = page.context["accounts"]
    assert account.owed == {"EUR": Decimal("0.3000")}
    fields = fields_of(page)
    assert "1 payout is booked" in pay(admin, campaign, fields, teacher=earned.pk, memo="Transfer 17")
    grant_bonus(campaign=campaign, teacher=earned, amount=Decimal("0.3"), user=page.wsgi_request.user, memo="care")
    pay(admin, campaign, fields, teacher=earned.pk, memo="Transfer 17")
    assert admin.get(where).context["accounts"][0].owed == {"EUR": Decimal("0.3000")}
    pay(admin, campaign, fields_of(admin.get(where)), teacher=earned.pk, memo="Transfer 17")
    assert LedgerEntry.objects.filter(account="paid").count() == 2
    paid = LedgerEntry.objects.filter(account="paid").first()
    assert paid is not None
    assert (paid.amount, paid.memo, paid.created_by) == (Decimal("0.3000"), "Transfer 17", campaign.created_by)
    assert admin.get(where).context["accounts"][0].owed == {}
    assert unbalanced_movements() == []


def test_what_was_shown_is_booked_and_not_what_is_owed_by_now(
    admin: Client, campaign: Campaign, earned: Teacher, alice: User
) -> None:
    """Between the page and the click Bob earns more; then he is paid from another page."""
    where = reverse("campaign_ledger", args=[campaign.code])
    fields = fields_of(admin.get(where))
    grant_bonus(campaign=campaign, teacher=earned, amount=Decimal(5), user=alice, memo="care")
    pay(admin, campaign, fields, teacher=earned.pk)
    assert LedgerEntry.objects.get(account="paid").amount == Decimal("0.3")
    assert admin.get(where).context["accounts"][0].owed == {"EUR": Decimal(5)}
    fields = fields_of(admin.get(where))
    pay_out(campaign=campaign, teacher=earned, amount=Decimal(1), currency="EUR", user=alice)
    said = pay(admin, campaign, fields, teacher=earned.pk)
    assert "teacher-bob: This is more than is owed to the teacher." in said
    assert admin.get(where).context["accounts"][0].owed == {"EUR": Decimal(4)}


def test_one_that_is_refused_keeps_no_other_from_being_paid(
    admin: Client, campaign: Campaign, earned: Teacher, dora: Teacher, alice: User
) -> None:
    grant_bonus(campaign=campaign, teacher=dora, amount=Decimal(2), user=alice, memo="care")
    fields = fields_of(admin.get(reverse("campaign_ledger", args=[campaign.code])))
    pay_out(campaign=campaign, teacher=earned, amount=Decimal("0.1"), currency="EUR", user=alice)
    said = pay(admin, campaign, fields, teacher=[earned.pk, dora.pk])
    assert "1 payout is booked" in said
    assert "teacher-bob: This is more" in said
    assert balance(dora) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": "x"}, {"form": ""}, {"teacher": "x"}, {"teacher": ""}, {"owed": "x"}, {"owed": "1 EUR -1"},
        {"owed": "1 EUR 1e9"}, {"owed": "1 EUR 0.0000"}, {"owed": "٣ EUR 1"}, {"owed": ""},
    ],
)  # fmt: skip
def test_what_no_page_has_sent_pays_nobody(
    admin: Client, campaign: Campaign, earned: Teacher, wrong: dict[str, str]
) -> None:
    fields = fields_of(admin.get(reverse("campaign_ledger", args=[campaign.code])))
    pay(admin, campaign, fields, **{"teacher": earned.pk, **wrong})
    assert not LedgerEntry.objects.filter(account="paid").exists()


def test_the_ledger_as_csv_has_both_sides_of_everything(admin: Client, campaign: Campaign, earned: Teacher) -> None:
    rows = rows_of(admin.get(reverse("ledger_csv", args=[campaign.code])))
    assert len(rows) == 6
    assert sum(Decimal(row["amount"]) for row in rows) == 0
    assert {row["teacher"] for row in rows} == {"teacher-bob"}
    listed = admin.get(reverse("ledger_entries", args=[campaign.code])).context["page"].rows
    assert [str(entry.movement) for entry in reversed(listed)] == [row["movement"] for row in rows]


def test_payouts_as_csv_name_whom_to_pay(admin: Client, campaign: Campaign, earned: Teacher) -> None:
    (row,) = rows_of(admin.get(reverse("payouts_csv", args=[campaign.code])))
    assert (row["account"], row["e-mail"], row["owed"], row["currency"]) == (
        "bob", "bob@example.org", "0.3000", "EUR",
    )  # fmt: skip


def test_who_was_paid_for_an_answer_that_was_taken_back_is_shown_and_not_paid(
    admin: Client, campaign: Campaign, earned: Teacher, alice: User
) -> None:
    pay_out(teacher=earned, amount=Decimal("0.30"), currency="EUR", user=alice, campaign=campaign)
    undo_label(campaign=campaign, teacher=earned)
    page = admin.get(reverse("campaign_ledger", args=[campaign.code]))
    assert page.context["accounts"][0].owed == {"EUR": Decimal("-0.1000")}
    assert 'name="teacher"' not in page.content.decode()


def test_who_only_got_a_bonus_is_listed_and_paid(
    admin: Client, campaign: Campaign, teacher: Teacher, alice: User
) -> None:
    """Also somebody who has not been to the desk."""
    where = reverse("campaign_ledger", args=[campaign.code])
    assert admin.get(where).context["accounts"] == []
    grant_bonus(campaign=campaign, teacher=teacher, amount=Decimal(5), user=alice, memo="care")
    (account,) = admin.get(where).context["accounts"]
    assert account.owed == {"EUR": Decimal(5)}
    (row,) = rows_of(admin.get(reverse("payouts_csv", args=[campaign.code])))
    assert (row["account"], row["owed"]) == ("bob", "5.0000")
    assert Enrolment.objects.get().stage == Enrolment.Stage.GUIDELINES
    pay(admin, campaign, fields_of(admin.get(where)), teacher=teacher.pk)
    assert balance(teacher) == {}


def test_a_bonus_shuts_no_model_out(campaign: Campaign, teacher: Teacher, alice: User) -> None:
    Teacher.objects.update(kind=Teacher.Kind.MODEL)
    teacher.refresh_from_db()
    grant_bonus(campaign=campaign, teacher=teacher, amount=Decimal(5), user=alice, memo="electricity")
    assert len(present_members(campaign)) == 1


def test_a_memo_that_is_a_formula_does_not_run(admin: Client, campaign: Campaign, earned: Teacher, alice: User) -> None:
    formula = '=HYPERLINK("http://evil.example","x")'
    grant_bonus(campaign=campaign, teacher=earned, amount=Decimal(1), user=alice, memo=formula)
    rows = rows_of(admin.get(reverse("ledger_csv", args=[campaign.code])))
    assert [row["memo"] for row in rows if row["memo"]] == [f"'{formula}"] * 2


FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\r\n=1",
    "  =1", " \t=1", "\u00a0=1", "\u3000=1", "\ufeff=1", "\u200b=1",
    "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", " \uff1d1",
]  # fmt: skip
"""OWASP's list, \"CSV Injection\": signs, tab and line breaks, full-width signs; and blanks that a reader drops."""


@pytest.mark.parametrize("text", FORMULAS)
def test_cells_that_would_run_are_quoted(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["plain", "", Decimal("-0.10"), -3, "a=b"])
def test_other_cells_stay_as_they_are(value: Any) -> None:
    assert safe_cell(value) == value
