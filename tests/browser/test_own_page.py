"""The page of one's own work, at a real browser: it knows a likely time zone, and shows where one is."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from annotation.models import Campaign, Teacher, User
from tests.browser.conftest import Visitor


@pytest.fixture
def bob_in_tokyo(visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher) -> Visitor:
    visitor = visit(bob, timezone_id="Asia/Tokyo", viewport={"width": 360, "height": 740})
    visitor.page.goto("/me/")
    return visitor


def test_the_browsers_time_zone_is_a_click_away(bob_in_tokyo: Visitor, bob: User) -> None:
    page = bob_in_tokyo.page
    page.get_by_role("button", name="Take this browser's: Asia/Tokyo").click()
    expect(page.get_by_label("My time zone")).to_have_value("Asia/Tokyo")
    page.locator("form", has=page.get_by_label("My time zone")).get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Take this browser's")).to_be_hidden()
    bob.refresh_from_db()
    assert bob.time_zone == "Asia/Tokyo"


def test_time_off_and_hours_are_typed_and_taken_back(
    bob_in_tokyo: Visitor, teacher: Teacher, picture: Callable[..., None]
) -> None:
    page = bob_in_tokyo.page
    day = page.evaluate("new Date(Date.now() + 9 * 864e5).toISOString().slice(0, 10)")
    page.get_by_label("I am back on").fill(day)
    page.get_by_role("button", name="Take time off").click()
    page.get_by_label("Monday, from").fill("09:00")
    page.get_by_label("Monday, to").fill("17:30")
    page.locator("form", has=page.get_by_label("Monday, from")).get_by_role("button", name="Save").click()
    picture(page, "narrow", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 800})
    picture(page, "wide", full_page=True)
    stored = Teacher.objects.get(pk=teacher.pk)
    assert stored.working_hours == [[0, "09:00", "17:30"]]
    assert stored.away_until is not None
    page.get_by_role("button", name="End my time off now").click()
    page.get_by_role("button", name="Clear: any time suits me").click()
    expect(page.get_by_label("Monday, from")).to_have_value("")
    stored = Teacher.objects.get(pk=teacher.pk)
    assert (stored.working_hours, stored.away_until) == ([], None)
