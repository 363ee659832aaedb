"""A teacher at work: by keyboard alone, without JavaScript, twice at once, there and back."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotation.models import Campaign, Label, Offer, Response, Teacher, User
from annotation.services.campaigns import publish_guidelines
from tests.browser.conftest import Visitor, queue
from tests.conftest import add_conversations

GUARD = 450  # ms, a little longer than the page's own guard against a second click


def prompt(page: Page) -> str:
    return page.locator("#prompt").inner_text()


def wait_for_prompt(page: Page, number: int) -> None:
    expect(page.locator("#prompt")).to_contain_text(f"list number {number} ")
    page.wait_for_timeout(GUARD)


def current() -> list[tuple[str, int | None]]:
    return list(Label.objects.filter(state=Label.State.CURRENT).order_by("pk").values_list("choice", "strength"))


def test_the_whole_flow_by_keyboard_alone(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, picture: Callable[..., None]
) -> None:
    queue(campaign, teacher, add_conversations(campaign, 8))
    page = visit().page
    page.goto(f"/desk/{campaign.code}/")
    page.get_by_label(re.compile("Login", re.IGNORECASE)).focus()
    page.keyboard.type("bob")
    page.keyboard.press("Tab")
    while not page.locator("#id_password").evaluate("field => field === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.type("correct horse")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Before you begin")).to_be_visible()
    picture(page, "guidelines")
    while not page.get_by_role("button", name="I have read them").evaluate("one => one === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_prompt(page, 0)

    page.keyboard.press("2")  # A, clearly
    wait_for_prompt(page, 1)
    expect(page.locator("#desk-heading")).to_be_focused()
    expect(page.locator("#desk-status")).to_contain_text("Stored. Which response is better? Answers today: 1.")

    page.keyboard.press("ArrowRight")  # B, clearly
    wait_for_prompt(page, 2)
    page.keyboard.press("t")
    wait_for_prompt(page, 3)
    page.keyboard.press("x")
    wait_for_prompt(page, 4)
    assert current() == [("first", 2), ("second", 2), ("tie", None), ("both_bad", None)]

    page.keyboard.press("u")
    wait_for_prompt(page, 3)
    assert len(current()) == 3

    page.keyboard.press("r")
    page.keyboard.type("Both were 1 and 2 steps short.")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.keyboard.press("7")  # B, much
    wait_for_prompt(page, 4)
    label = Label.objects.latest("pk")
    assert (label.choice, label.strength, label.is_flagged) == ("second", 3, True)
    assert label.reason == "Both were 1 and 2 steps short."

    page.keyboard.press("s")
    expect(page.get_by_role("button", name="I cannot judge this")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for_prompt(page, 5)
    assert Offer.objects.get(state=Offer.State.SKIPPED).skip_reason == "cannot judge"

    page.keyboard.press("d")
    expect(page.locator("mark").first).to_be_visible()
    page.keyboard.press("g")
    expect(page.get_by_role("complementary", name="Guidelines")).to_contain_text("helps more")
    picture(page, "guidelines beside")
    page.keyboard.press("g")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    picture(page, "shortcuts")
    page.keyboard.press("2")  # nothing while the dialog is open
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert len(current()) == 4


def test_the_answers_have_names_and_keys_for_assistive_technology(desk: Visitor) -> None:
    for name in ("A is better: much", "A is better: slightly", "Tie", "B is better: clearly", "Both bad"):
        expect(desk.page.get_by_role("button", name=name)).to_be_visible()
    expect(desk.page.get_by_role("button", name="Tie")).to_have_attribute("aria-keyshortcuts", "4")
    expect(desk.page.get_by_role("region", name="Response A")).to_be_visible()
    expect(desk.page.get_by_role("group", name="Prompt")).to_be_visible()


def test_everything_works_without_javascript(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, offers: list[Offer]
) -> None:
    page = visit(bob, java_script_enabled=False).page
    page.goto(f"/desk/{campaign.code}/")
    page.get_by_text("Reason and flag").click()
    page.get_by_label("Reason (optional)").fill("plain")
    page.get_by_role("button", name="A is better: much").click()
    expect(page.locator("#prompt")).to_contain_text("list number 1 ")
    page.locator("summary", has_text="Skip").click()
    page.get_by_role("button", name="It is disturbing").click()
    expect(page.locator("#prompt")).to_contain_text("list number 2 ")
    page.get_by_role("button", name="Undo last").click()
    expect(page.locator("#prompt")).to_contain_text("list number 0 ")
    expect(page.get_by_text("Taken back.")).to_be_visible()
    page.get_by_role("link", name="Show differences").click()
    expect(page.locator("mark").first).to_be_visible()
    page.get_by_role("button", name="Tie").click()
    page.reload()
    expect(page.locator("#prompt")).to_contain_text("list number 2 ")
    assert list(Label.objects.order_by("pk").values_list("choice", "state", "reason")) == [
        ("first", "retracted", "plain"),
        ("tie", "current", "plain"),
    ]


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_break_is_suggested_with_scripts_and_without(
    visit: Callable[..., Visitor],
    bob: User,
    campaign: Campaign,
    teacher: Teacher,
    offers: list[Offer],
    has_scripts: bool,
    picture: Callable[..., None],
) -> None:
    visitor = visit(bob, java_script_enabled=has_scripts, viewport={"width": 360, "height": 740})
    page = visitor.page
    page.goto(f"/desk/{campaign.code}/")
    began = int((timezone.now() - timedelta(minutes=46)).timestamp())
    cookie = {"name": "desk_since", "value": f"{teacher.pk}.{began}", "domain": "localhost", "path": "/desk/"}
    visitor.context.clear_cookies(name="desk_since")
    visitor.context.add_cookies([cookie])
    page.wait_for_timeout(GUARD)
    page.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("You have worked for three quarters of an hour.").first).to_be_visible()
    expect(page.locator("#prompt")).to_contain_text("list number 1 ")
    if has_scripts:
        expect(page.get_by_role("status")).to_contain_text("A short break keeps judgements sharp")
    picture(page)


def test_enter_on_a_criterion_or_the_flag_is_no_answer(desk: Visitor, campaign: Campaign) -> None:
    Campaign.objects.update(criteria=["helpful"])
    page = desk.page
    page.reload()
    wait_for_prompt(page, 0)
    page.get_by_role("radio", name="Tie").press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").get_by_text("Choose one of the answers.")).to_be_visible()
    expect(page.get_by_role("radio", name="Tie")).to_be_focused()
    page.keyboard.press("8")
    wait_for_prompt(page, 1)
    expect(page.get_by_text("Choose one of the answers.")).to_have_count(0)
    label = Label.objects.get()
    assert (label.choice, label.criteria) == ("both_bad", {"helpful": "tie"})
    page.goto(f"/desk/{campaign.code}/history/{label.pk}/")
    page.get_by_role("radio", name="Tie").press("Enter")
    expect(page.get_by_text("Choose one of the answers.")).to_be_visible()
    assert current() == [("both_bad", None)]


def test_an_arrow_that_scrolls_a_table_is_no_answer(desk: Visitor) -> None:
    page = desk.page
    table = "| a | b |\n|---|---|\n| " + "wide " * 100 + " | " + "wide " * 100 + " |"
    Response.objects.update(messages=[{"role": "assistant", "content": table}])
    page.reload()
    wait_for_prompt(page, 0)
    page.locator("#comparison .table-wrap").first.press("ArrowRight")
    page.locator("#prompt").press("ArrowLeft")
    page.locator("#desk-heading").press("t")
    wait_for_prompt(page, 1)
    assert current() == [("tie", None)]


def test_a_double_click_is_one_answer(desk: Visitor) -> None:
    desk.page.wait_for_timeout(GUARD)
    desk.page.get_by_role("button", name="A is better: much").dblclick()
    wait_for_prompt(desk.page, 1)
    assert current() == [("first", 3)]
    assert prompt(desk.page).count("list number 1 ") == 1


def test_a_key_held_down_is_one_answer(desk: Visitor) -> None:
    desk.page.wait_for_timeout(GUARD)
    for _repeat in range(5):
        desk.page.keyboard.down("4")
    desk.page.keyboard.up("4")
    wait_for_prompt(desk.page, 1)
    assert current() == [("tie", None)]


def test_two_tabs_share_one_comparison_and_the_first_answer_counts(desk: Visitor, campaign: Campaign) -> None:
    other = desk.open()
    other.goto(f"/desk/{campaign.code}/")
    wait_for_prompt(other, 0)
    desk.page.keyboard.press("1")
    wait_for_prompt(desk.page, 1)
    other.keyboard.press("7")
    expect(other.get_by_text("already answered this comparison differently")).to_be_visible()
    expect(other.locator("#prompt")).to_contain_text("list number 1 ")
    assert current() == [("first", 3)]


def test_the_back_button_shows_the_comparison_of_now(desk: Visitor, campaign: Campaign) -> None:
    wait_for_prompt(desk.page, 0)
    desk.page.keyboard.press("1")
    wait_for_prompt(desk.page, 1)
    desk.page.goto(f"/desk/{campaign.code}/summary/")
    desk.page.go_back()
    wait_for_prompt(desk.page, 1)
    desk.page.keyboard.press("1")
    wait_for_prompt(desk.page, 2)
    assert len(current()) == 2


def test_a_ranking_by_keyboard(
    visit: Callable[..., Visitor],
    bob: User,
    campaign: Campaign,
    teacher: Teacher,
    enrolment: Any,
    picture: Callable[..., None],
) -> None:
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.RANKING)
    campaign.refresh_from_db()
    comparisons = add_conversations(campaign, 2, responses=4)
    queue(campaign, teacher, [comparisons[0], comparisons[6]])
    page = visit(bob).page
    page.goto(f"/desk/{campaign.code}/")
    wait_for_prompt(page, 0)
    sides = page.locator("[data-rank] input[value='1']").evaluate_all("all => all.map(one => one.name)")
    ids = [int(name.removeprefix("place-")) for name in sides]
    for key in ("3", "1", "=", "4", "2"):
        page.keyboard.press(key)
    expect(page.locator("#desk-status")).to_contain_text("C: 1, A: 2, D: 2, B: 4")
    picture(page)
    page.keyboard.press("Enter")
    wait_for_prompt(page, 1)
    ranking = Label.objects.get().ranking
    assert ranking == [[ids[2]], sorted([ids[0], ids[3]], key=ids.index), [ids[1]]]
    User.objects.update(preferences={"shortcuts_off": True})
    page.reload()
    expect(page.get_by_text("Keys: press the numbers")).to_be_hidden()
    for key in ("3", "1", "4", "2", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".rank input:checked")).to_have_count(0)
    assert Label.objects.count() == 1


def test_the_guidelines_panel_follows_their_version_and_gives_the_focus_back(
    desk: Visitor, campaign: Campaign, alice: User
) -> None:
    page = desk.page
    panel = page.get_by_role("complementary", name="Guidelines")
    wait_for_prompt(page, 0)
    page.locator("#guidelines-link").press("Space")
    expect(panel).to_contain_text("Version 1")
    expect(panel).to_be_focused()
    publish_guidelines(campaign=campaign, text="Prefer the shorter.", user=alice)
    page.keyboard.press("1")
    page.get_by_role("button", name="I have read them").click()
    wait_for_prompt(page, 1)
    expect(panel).to_contain_text("Prefer the shorter.")
    panel.get_by_role("button", name="Close").press("Enter")
    expect(page.locator("#guidelines-link")).to_be_focused()
    page.locator("#desk-heading").focus()
    page.keyboard.press("g")
    expect(panel).to_be_focused()
    page.keyboard.press("g")
    expect(page.locator("#desk-heading")).to_be_focused()


def test_other_keys_after_they_were_changed(desk: Visitor, campaign: Campaign) -> None:
    page = desk.page
    page.goto(f"/desk/{campaign.code}/shortcuts/")
    page.get_by_label("Tie:", exact=True).press("e")
    page.get_by_role("button", name="Store the keys").click()
    wait_for_prompt(page, 0)
    page.keyboard.press("t")
    page.wait_for_timeout(300)
    assert current() == []
    page.keyboard.press("e")
    wait_for_prompt(page, 1)
    assert current() == [("tie", None)]


def test_waiting_turns_into_work_by_itself(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, enrolment: Any
) -> None:
    page = visit(bob).page
    page.clock.install()
    page.goto(f"/desk/{campaign.code}/")
    expect(page.get_by_role("heading", name="Nothing to compare right now")).to_be_visible()
    queue(campaign, teacher, add_conversations(campaign, 1))
    page.clock.fast_forward(11_000)
    expect(page.locator("#prompt")).to_contain_text("list number 0 ")


def test_a_message_of_blanks_is_refused_beside_what_was_typed(desk: Visitor, picture: Callable[..., None]) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    page.keyboard.press("r")
    page.keyboard.type("A thought")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.type("   ")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#message-notice")).to_have_text("This field is required.")
    picture(page)
    expect(page.locator("#desk #prompt")).to_contain_text("list number 0 ")
    expect(page.get_by_label("Reason (optional)")).to_have_value("A thought")
    expect(page.get_by_role("banner")).to_have_count(1)
    page.get_by_label("Message").fill("B stops in the middle.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Your message is with the admins.").first).to_be_visible()
    expect(page.locator("#message-notice")).to_be_empty()


def test_a_message_to_the_admins_leaves_the_comparison_in_place(desk: Visitor) -> None:
    wait_for_prompt(desk.page, 0)
    desk.page.keyboard.press("m")
    desk.page.keyboard.type("B stops in the middle.")
    desk.page.get_by_role("button", name="Send").click()
    expect(desk.page.get_by_text("Your message is with the admins.").first).to_be_visible()
    wait_for_prompt(desk.page, 0)
