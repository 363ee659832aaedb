"""Pay through its pages: what is owed, payouts booked once, and CSV that runs nothing."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Enrolment, LedgerEntry, Offer, Teacher, User
from annotation.services.labels import record_label
from annotation.services.ledger import grant_bonus, unbalanced_movements
from annotation.services.offers import claim_offer
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


def test_what_is_owed_is_shown_and_paid_once(admin: Client, campaign: Campaign, earned: Teacher) -> None:
    where = reverse("campaign_ledger", args=[campaign.code])
    (account,) = admin.get(where).context["accounts"]
    assert account.owed == {"EUR": Decimal("0.3000")}
    for _time in range(2):
        admin.post(reverse("ledger_pay", args=[campaign.code]), {"teacher": earned.pk, "memo": "Transfer 17"})
    paid = LedgerEntry.objects.get(account="paid")
    assert (paid.amount, paid.memo, paid.created_by) == (Decimal("0.3000"), "Transfer 17", campaign.created_by)
    assert admin.get(where).context["accounts"][0].owed == {}
    assert unbalanced_movements() == []


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


def test_who_only_got_a_bonus_is_listed_and_paid(
    admin: Client, campaign: Campaign, teacher: Teacher, alice: User
) -> None:
    Enrolment.objects.create(campaign=campaign, teacher=teacher, stage="working")
    where = reverse("campaign_ledger", args=[campaign.code])
    assert admin.get(where).context["accounts"] == []
    grant_bonus(campaign=campaign, teacher=teacher, amount=Decimal(5), user=alice, memo="care")
    (account,) = admin.get(where).context["accounts"]
    assert account.owed == {"EUR": Decimal(5)}
    (row,) = rows_of(admin.get(reverse("payouts_csv", args=[campaign.code])))
    assert (row["account"], row["owed"]) == ("bob", "5.0000")


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
