"""Pay: what each teacher is owed, payouts booked, every movement, and both as CSV."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import ngettext

from annotation.forms.ledger import PayForm
from annotation.models import Campaign, LedgerEntry, Role, Teacher
from annotation.services.payouts import Payout, earning, pay_out_all, read_accounts
from annotation.services.refusals import Refusal
from annotation.spreadsheets import answer_csv
from annotation.views.keyset import newest_first, oldest_first, read_ticked
from annotation.views.pages import PageRequest, staff_page

ACCOUNTS = 25
"""Teachers on a page: their balances are added up from their entries."""
MOST_OWED = 4 * ACCOUNTS
"""Amounts on a page: one for each teacher and currency."""
ENTRIES = 50
CHUNK = 200


@staff_page("GET", role=Role.Name.ADMIN)
def campaign_ledger(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Who is owed what. Only teachers who earned something are listed."""
    page = oldest_first(request, earning(campaign), size=ACCOUNTS)
    context = {"campaign": campaign, "page": page, "accounts": read_accounts(campaign, page.rows), "form": uuid4()}
    return render(request, "annotation/campaign_ledger.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def ledger_pay(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Book payouts that were made outside: to the ticked teachers what the page showed, whatever is owed by now."""
    form = PayForm(request.POST)
    if not form.is_valid():
        messages.warning(request, Refusal.sentence())
        return redirect("campaign_ledger", code=campaign.code)
    ids = read_ticked(request, "teacher", most=ACCOUNTS)
    chosen = Teacher.objects.filter(enrolments__campaign=campaign).in_bulk(ids)
    payouts = [
        Payout(chosen[key], amount, currency)
        for key, currency, amount in form.read_owed(most=MOST_OWED)
        if key in chosen and amount
    ]
    count, refused = pay_out_all(campaign=campaign, payouts=payouts, user=request.user, **form.cleaned_data)
    messages.success(
        request, ngettext("%(count)d payout is booked.", "%(count)d payouts are booked.", count) % {"count": count}
    )
    for sentence in refused:
        messages.warning(request, sentence)
    return redirect("campaign_ledger", code=campaign.code)


@staff_page("GET", role=Role.Name.ADMIN)
def ledger_entries(request: PageRequest, campaign: Campaign) -> HttpResponse:
    found = LedgerEntry.objects.filter(campaign=campaign).select_related("teacher", "created_by")
    page = newest_first(request, found, size=ENTRIES)
    return render(request, "annotation/ledger_entries.html", {"campaign": campaign, "page": page})


@staff_page("GET", role=Role.Name.ADMIN)
def ledger_csv(request: PageRequest, campaign: Campaign) -> StreamingHttpResponse:
    """Every entry, oldest first."""
    header = ("at", "movement", "account", "teacher", "amount", "currency", "label", "memo", "by")
    return answer_csv(f"ledger-{campaign.code}.csv", header, _entries(campaign))


def _entries(campaign: Campaign) -> Iterator[tuple[Any, ...]]:
    found = LedgerEntry.objects.filter(campaign=campaign).select_related("teacher", "created_by").order_by("pk")
    for entry in found.iterator(CHUNK):
        teacher = entry.teacher.pseudonym if entry.teacher is not None else ""
        by = entry.created_by.username if entry.created_by is not None else ""
        yield (
            entry.created_at.isoformat(), entry.movement, entry.account, teacher, entry.amount, entry.currency,
            entry.label_id or "", entry.memo, by,
        )  # fmt: skip


@staff_page("GET", role=Role.Name.ADMIN)
def payouts_csv(request: PageRequest, campaign: Campaign) -> StreamingHttpResponse:
    """What is owed now, one line for each teacher and currency: what a bank or a panel is handed."""
    header = ("teacher", "account", "e-mail", "labels", "earned", "owed", "currency")
    return answer_csv(f"payouts-{campaign.code}.csv", header, _payouts(campaign))


def _payouts(campaign: Campaign) -> Iterator[tuple[Any, ...]]:
    after = 0
    paid = earning(campaign).order_by("pk")
    while chunk := list(paid.filter(pk__gt=after)[:CHUNK]):
        after = chunk[-1].pk
        for account in read_accounts(campaign, chunk):
            one, user = account.enrolment, account.enrolment.teacher.user
            name, email = (user.username, user.email) if user is not None else ("", "")
            for currency, owed in account.owed.items():
                yield (one.teacher.pseudonym, name, email, one.label_count, one.earned, owed, currency)
