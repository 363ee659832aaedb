"""New terms at a desk that is open: the answer is stored, the terms are shown and agreed to, and work goes on."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from annotation.models import Campaign, InvitationLetter, Label, Membership, Offer, Pool, User
from annotation.services.invitations import invite_by_email
from annotation.services.pools import change_terms
from tests.browser.conftest import Visitor
from tests.browser.test_looks import SCREENS, axe

TERMS = "Labels are paid at the end of the month.\n\nNothing is shared with others."


def test_an_answer_is_stored_before_the_terms_are_shown(desk: Visitor, alice: User, pool: Pool) -> None:
    page = desk.page
    page.wait_for_timeout(400)
    page.get_by_text("Reason and flag").click()
    page.locator("#id_reason").fill("Half a sentence")
    change_terms(pool=pool, user=alice, terms=TERMS)
    page.reload()
    expect(page.get_by_role("heading", name="The terms have changed")).to_be_visible()
    page.get_by_role("button", name="I agree").click()
    expect(page.locator("#id_reason")).to_have_value("Half a sentence")
    change_terms(pool=pool, user=alice, terms=TERMS + " At all.")
    page.wait_for_timeout(400)
    page.locator("#desk-heading").focus()
    page.keyboard.press("1")
    expect(page.get_by_role("heading", name="The terms have changed")).to_be_focused()
    assert Label.objects.get().reason == "Half a sentence"
    kept = "Object.entries(localStorage).filter(([name, kept]) => name.startsWith('outbox') && kept !== '[]')"
    assert page.evaluate(kept) == []
    page.get_by_role("button", name="I agree").press("Enter")
    expect(page.locator("#prompt")).to_be_visible()
    assert Membership.objects.get().accepted_terms == 3


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_terms_and_letters_pass_axe(
    visit: Callable[..., Visitor],
    alice: User,
    bob: User,
    campaign: Campaign,
    pool: Pool,
    offers: list[Offer],
    scheme: Any,
    width: int,
    picture: Callable[..., None],
) -> None:
    change_terms(pool=pool, user=alice, terms=TERMS)
    page = visit(bob, color_scheme=scheme, viewport={"width": width, "height": 800}).page
    page.goto(f"/desk/{campaign.code}/")
    expect(page.get_by_role("heading", name="The terms have changed")).to_be_visible()
    axe(page)
    picture(page, "terms")
    addresses = ["ann@example.org", "ben@example.org", "a-rather-long-name-of-somebody@a-long-domain.example.org"]
    invite_by_email(user=alice, pool=pool, addresses=addresses, origin="https://x.example/", language="en")
    InvitationLetter.objects.exclude(invitation__email="ann@example.org").update(
        state="given_up", reason="550 5.1.1 No such user here: the account that you tried to reach does not exist"
    )
    page = visit(alice, color_scheme=scheme, viewport={"width": width, "height": 800}).page
    page.goto(f"/pools/{pool.pk}/")
    expect(page.get_by_role("button", name="Try all again")).to_be_visible()
    axe(page)
    picture(page, "letters", full_page=True)
