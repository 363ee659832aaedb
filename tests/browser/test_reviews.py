"""The reviewer's page in a real browser: by keyboard alone, without JavaScript, and axe objects to nothing."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from annotation.models import Adjudication, Campaign, Label, Offer, Review, Role, Teacher, User
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer
from tests.browser.conftest import Visitor
from tests.browser.test_looks import SCREENS, axe, rich  # noqa: F401

BASE = "/campaigns/{code}/reviews/"


@pytest.fixture
def carol(campaign: Campaign) -> User:
    user = User.objects.create_user("carol", "carol@example.org", "correct horse")
    Role.objects.create(campaign=campaign, user=user, name=Role.Name.REVIEWER)
    return user


@pytest.fixture
def reviews(campaign: Campaign, teacher: Teacher, rich: list[Offer]) -> list[Review]:  # noqa: F811
    """Four flagged answers, the first of them of a long conversation."""
    Campaign.objects.update(reviews_flags=True, reviews_disagreements=True)
    campaign.refresh_from_db()
    for _offer in rich:
        record_label(
            offer=claim_offer(campaign=campaign, teacher=teacher),
            choice="first",
            strength=2,
            criteria={"helpful": "second"},
            reason="The **code** of the other one does not run, and it says so itself in its last sentence.",
            is_flagged=True,
        )
    dora = Teacher.objects.create(pseudonym="teacher-dora")
    first = Label.objects.order_by("pk")[0]
    offer = Offer.objects.create(campaign=campaign, comparison=first.comparison, teacher=dora, state="answered", slot=2)
    Label.objects.create(
        campaign=campaign, offer=offer, comparison=first.comparison, teacher=dora, arm="designed", b_first=False,
        choice="second",
    )  # fmt: skip
    Review.objects.filter(comparison=first.comparison).update(disagrees=True)
    return list(Review.objects.order_by("pk"))


def at(review: Review) -> str:
    return f"{BASE.format(code=review.campaign.code)}{review.pk}/"


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_every_page_of_a_reviewer_passes_axe(
    visit: Callable[..., Visitor],
    carol: User,
    alice: User,
    campaign: Campaign,
    reviews: list[Review],
    scheme: Any,
    width: int,
    picture: Callable[..., None],
) -> None:
    page = visit(carol, color_scheme=scheme, viewport={"width": width, "height": 800}).page
    base = BASE.format(code=campaign.code)
    page.goto(base)
    axe(page)
    picture(page, "queue")
    page.goto(at(reviews[0]))
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, "review", full_page=True)
    picture(page, "review at once")
    page.get_by_label("Reason (optional)").fill("The first one's code runs.")
    page.get_by_role("button", name="A is better").click()
    page.wait_for_url("**?decided=*")
    axe(page)
    picture(page, "stored")
    page.goto(at(reviews[0]))
    axe(page)
    page.goto(base + "?show=decided")
    axe(page)
    picture(page, "decided")
    page.goto(f"/campaigns/{campaign.code}/comparisons/{reviews[0].comparison_id}/")
    expect(page.get_by_role("heading", name="Reviews")).to_be_visible()
    Adjudication.objects.create(
        campaign=campaign, comparison=reviews[1].comparison, reviewer=alice, verdict="b", note="No."
    )
    page.goto(at(reviews[2]))
    Adjudication.objects.create(campaign=campaign, comparison=reviews[2].comparison, reviewer=alice, verdict="b")
    page.get_by_label("Reason (optional)").fill("A reason that must not be lost.")
    page.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("alice decided meanwhile")).to_be_visible()
    expect(page.get_by_label("Reason (optional)")).to_have_value("A reason that must not be lost.")
    axe(page)
    picture(page, "second of two")


def test_a_reviewer_works_by_keys_alone(visit: Callable[..., Visitor], carol: User, reviews: list[Review]) -> None:
    page = visit(carol).page
    page.goto(at(reviews[0]))
    page.wait_for_timeout(400)
    page.locator(".table-wrap").last.press("ArrowLeft")
    page.keyboard.press("r")
    page.keyboard.type("Because t and x.")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**?decided=*")
    assert page.url.split("/")[-2] == str(reviews[1].pk)
    decided = Adjudication.objects.get()
    assert (decided.verdict, decided.note, decided.comparison) == ("b", "Because t and x.", reviews[0].comparison)
    page.wait_for_timeout(400)
    page.keyboard.press("u")
    expect(page.get_by_text("The decision is taken back.")).to_be_visible()
    assert Adjudication.objects.get().state == "retracted"
    page.get_by_label("Single-key shortcuts").uncheck()
    page.reload()
    page.wait_for_timeout(400)
    page.keyboard.press("x")
    page.wait_for_timeout(300)
    assert not Adjudication.objects.filter(state="current").exists()


def test_a_key_in_the_moment_a_slow_page_appears_decides_nothing(
    visit: Callable[..., Visitor], carol: User, reviews: list[Review]
) -> None:
    page = visit(carol).page
    page.goto(at(reviews[0]))
    page.wait_for_timeout(400)
    pressed = "document.dispatchEvent(new KeyboardEvent('keydown', { key: 't', bubbles: true }))"
    page.add_init_script(f"addEventListener('DOMContentLoaded', () => setTimeout(() => {pressed}, 20))")

    def answer_late(route: Route) -> None:
        time.sleep(0.5)
        route.continue_()

    page.route("**" + at(reviews[0]), answer_late)
    page.keyboard.press("t")
    page.wait_for_url("**?decided=*")
    page.wait_for_timeout(500)
    assert Adjudication.objects.count() == 1


def test_all_of_it_works_without_javascript(visit: Callable[..., Visitor], carol: User, reviews: list[Review]) -> None:
    page = visit(carol, java_script_enabled=False).page
    page.goto(BASE.format(code=reviews[0].campaign.code))
    page.get_by_role("link", name=str(reviews[0].comparison_id), exact=True).click()
    page.get_by_label("Reason (optional)").fill("Fair.")
    page.get_by_role("button", name="No decision").click()
    expect(page.get_by_text("Stored for comparison")).to_be_visible()
    assert Adjudication.objects.get().verdict == "left"
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("The decision is taken back.")).to_be_visible()
    assert Review.objects.get(pk=reviews[0].pk).is_waiting
