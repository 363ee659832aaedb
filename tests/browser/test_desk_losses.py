"""Nothing typed or chosen is lost: reloads, a lost network, an expired session, a server in trouble."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import Page, Route, expect

from annotation.models import Campaign, Label, Message, Offer, User
from tests.browser.conftest import Visitor

GUARD = 450  # ms, a little longer than the page's own guard against a second click


def wait_for_prompt(page: Page, number: int) -> None:
    expect(page.locator("#prompt")).to_contain_text(f"list number {number} ")
    page.wait_for_timeout(GUARD)


def test_a_draft_survives_a_reload_and_goes_with_its_answer(desk: Visitor, campaign: Campaign) -> None:
    Campaign.objects.update(criteria=["helpful"])
    page = desk.page
    page.reload()
    page.keyboard.press("r")
    page.keyboard.type("Half a thought")
    page.get_by_role("radio", name="Tie").check(force=True)
    page.get_by_label("Flag for the admins").check()
    page.reload()
    expect(page.get_by_label("Reason (optional)")).to_have_value("Half a thought")
    expect(page.get_by_role("radio", name="Tie")).to_be_checked()
    expect(page.get_by_label("Flag for the admins")).to_be_checked()
    page.wait_for_timeout(GUARD)
    page.get_by_role("button", name="A is better: clearly").click()
    wait_for_prompt(page, 1)
    label = Label.objects.get()
    assert (label.reason, label.criteria, label.is_flagged) == ("Half a thought", {"helpful": "tie"}, True)
    expect(page.get_by_label("Reason (optional)")).to_have_value("")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:')).length") == 0


def test_an_answer_without_a_network_is_kept_and_sent_once_when_it_returns(
    desk: Visitor, picture: Callable[..., None]
) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    desk.context.set_offline(True)
    page.keyboard.press("3")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    picture(page)
    expect(page.locator("#prompt")).to_contain_text("list number 0 ")
    assert not Label.objects.exists()
    desk.context.set_offline(False)
    wait_for_prompt(page, 1)
    label = Label.objects.get()
    assert (label.choice, label.strength) == ("first", 1)
    expect(page.get_by_text("Your answer is kept in this browser")).to_have_count(0)


def test_a_browser_that_stores_nothing_keeps_the_answer_while_the_page_is_open(desk: Visitor) -> None:
    denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
    desk.context.add_init_script(f"Object.defineProperty(window, 'localStorage', {{ {denied} }})")
    page = desk.page
    page.reload()
    wait_for_prompt(page, 0)
    answer_in_vain(page, "1")
    page.keyboard.press("g")
    expect(page.get_by_role("complementary", name="Guidelines")).to_be_visible()
    page.evaluate("window.dispatchEvent(new Event('online'))")
    wait_for_prompt(page, 1)
    assert Label.objects.get().strength == 3


def test_an_answer_whose_confirmation_was_lost_is_not_doubled(desk: Visitor, live_server: object) -> None:
    """The server stored it, the browser never heard: the retry is the same label."""
    page = desk.page
    wait_for_prompt(page, 0)

    def lose_the_reply(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/answer/", lose_the_reply, times=1)
    page.keyboard.press("1")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    assert Label.objects.count() == 1
    page.evaluate("window.dispatchEvent(new Event('online'))")
    wait_for_prompt(page, 1)
    assert Label.objects.count() == 1


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_answer_that_is_kept_and_taken_back_does_not_come_again(desk: Visitor, is_stored: bool) -> None:
    """Whether or not the server had it: the one before stays, and nothing is left that could be sent later."""
    page = desk.page
    wait_for_prompt(page, 0)
    page.keyboard.press("4")
    wait_for_prompt(page, 1)

    def lose(route: Route) -> None:
        if is_stored:
            route.fetch()
        route.abort()

    page.route("**/answer/", lose, times=1)
    page.keyboard.press("1")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("Taken back.", exact=True)).to_be_visible()
    expect(page.locator("#prompt")).to_contain_text("list number 1 ")
    expect(page.get_by_text("Your answer is kept in this browser")).to_have_count(0)
    assert kept_in(page, "outbox:") == "[]"
    assert list(Label.objects.order_by("pk").values_list("choice", "state")) == [
        ("tie", "current"),
        ("first", "retracted"),
    ]
    page.wait_for_timeout(GUARD)
    page.keyboard.press("7")
    wait_for_prompt(page, 2)
    assert list(Label.objects.filter(state="current").order_by("pk").values_list("choice", "strength")) == [
        ("tie", None),
        ("second", 3),
    ]


def test_an_answer_that_meets_an_undo_on_its_way_is_not_filed(desk: Visitor) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    page.keyboard.press("4")
    wait_for_prompt(page, 1)
    on_its_way: list[Route] = []
    page.route("**/undo/", lambda route: on_its_way.append(route), times=1)
    page.keyboard.press("u")
    expect(page.locator("#desk")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("7")
    on_its_way[0].continue_()
    wait_for_prompt(page, 0)
    assert kept_in(page, "outbox:") in ("", "[]")
    assert Label.objects.get().state == "retracted"


def write_reason(page: Page, words: str) -> None:
    page.keyboard.press("r")
    page.keyboard.type(words)
    page.keyboard.press("Escape")


def answer_offline(desk: Visitor, words: str = "A thought") -> None:
    """With a reason, and kept."""
    page = desk.page
    wait_for_prompt(page, 0)
    write_reason(page, words)
    desk.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()


def answer_in_vain(page: Page, key: str) -> None:
    """It does not leave, and is kept."""
    page.route("**/answer/", lambda route: route.abort(), times=1)
    page.keyboard.press(key)
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()


def kept_in(page: Page, kind: str) -> str:
    """What the browser holds: drafts or the outbox."""
    wanted = "Object.entries(localStorage).filter(([key]) => key.startsWith(kind)).map(([, value]) => value).join()"
    return str(page.evaluate(f"(kind) => {wanted}", kind))


def test_a_kept_answer_that_comes_too_late_is_explained_and_its_words_stay(
    desk: Visitor, picture: Callable[..., None]
) -> None:
    answer_offline(desk)
    page = desk.page
    Campaign.objects.update(late_policy=Campaign.LatePolicy.REFUSE)
    Offer.objects.filter(state=Offer.State.HELD).update(held_until=timezone.now() - timedelta(seconds=1))
    desk.context.set_offline(False)
    expect(page.get_by_text("The time for this comparison was over")).to_be_visible()
    picture(page)
    assert not Label.objects.exists()
    assert kept_in(page, "outbox:") in ("", "[]")
    assert "A thought" in kept_in(page, "draft:")


def test_a_kept_answer_whose_comparison_is_gone_is_explained(desk: Visitor) -> None:
    answer_offline(desk)
    page = desk.page
    Offer.objects.filter(state=Offer.State.HELD).delete()
    desk.context.set_offline(False)
    expect(page.get_by_text("its comparison is no longer with you")).to_be_visible()
    wait_for_prompt(page, 1)
    assert kept_in(page, "outbox:") in ("", "[]")
    assert "A thought" in kept_in(page, "draft:")


def test_a_kept_answer_is_sent_after_the_page_was_closed(desk: Visitor, campaign: Campaign) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    desk.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    page.close()
    desk.context.set_offline(False)
    later = desk.open()
    later.goto(f"/desk/{campaign.code}/")
    wait_for_prompt(later, 1)
    assert Label.objects.get().strength == 3


def test_an_answer_is_changed_before_it_was_sent(desk: Visitor) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    desk.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    page.keyboard.press("8")
    page.wait_for_timeout(GUARD)
    desk.context.set_offline(False)
    wait_for_prompt(page, 1)
    assert Label.objects.get().choice == "both_bad"


def test_a_server_in_trouble_gets_the_answer_again(desk: Visitor) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    page.route("**/answer/", lambda route: route.fulfill(status=503, body="down"), times=1)
    page.keyboard.press("4")
    expect(page.get_by_text("will be sent again in a few seconds").first).to_be_visible()
    wait_for_prompt(page, 1)
    assert Label.objects.get().choice == "tie"


def test_what_is_written_to_a_kept_answer_goes_with_it_and_not_before(desk: Visitor) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    page.route("**/answer/", lambda route: route.fulfill(status=502, body="bad gateway"), times=1)
    page.keyboard.press("1")
    expect(page.get_by_text("will be sent again in a few seconds").first).to_be_visible()
    page.keyboard.press("r")
    page.keyboard.type("B is not correct, ")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    page.keyboard.type("it cannot count to ten", delay=30)
    expect(page.get_by_label("Reason (optional)")).to_be_focused()
    assert not Label.objects.exists()
    page.keyboard.press("Escape")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    wait_for_prompt(page, 1)
    label = Label.objects.get()
    assert (label.choice, label.strength, label.reason) == ("first", 3, "B is not correct, it cannot count to ten")


def test_words_for_a_field_that_waits_are_no_shortcuts(desk: Visitor) -> None:
    """The reply is slow, the next comparison stands there already, and somebody begins to write about it."""
    page = desk.page
    wait_for_prompt(page, 0)
    on_its_way: list[Route] = []
    page.route("**/answer/", lambda route: on_its_way.append(route), times=1)
    page.keyboard.press("1")
    expect(page.locator("#desk")).to_have_attribute("aria-busy", "true")
    page.keyboard.press("r")
    page.keyboard.type("B cannot count ")
    on_its_way[0].continue_()
    page.keyboard.type("to ten and cannot print it", delay=30)
    wait_for_prompt(page, 1)
    assert [label.choice for label in Label.objects.all()] == ["first"]
    expect(page.locator("#desk-heading")).to_be_focused()
    page.wait_for_timeout(1000)
    write_reason(page, "About the second one")
    page.keyboard.press("4")
    wait_for_prompt(page, 2)
    assert Label.objects.latest("pk").reason == "About the second one"


def test_an_expired_session_keeps_the_answer_until_after_the_sign_in(
    desk: Visitor, campaign: Campaign, bob: User
) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    write_reason(page, "Written before")
    Session.objects.all().delete()
    page.keyboard.press("7")
    page.wait_for_url("**/account/login/**")
    assert not Label.objects.exists()
    page.fill("#id_login", "bob")
    page.fill("#id_password", "correct horse")
    page.get_by_role("button", name="Sign in", exact=True).click()
    wait_for_prompt(page, 1)
    label = Label.objects.get()
    assert (label.choice, label.strength, label.reason) == ("second", 3, "Written before")


def sign_in_elsewhere(desk: Visitor) -> None:
    """In another tab, and as the same teacher: what this page holds as its token is refused from now on."""
    desk.context.add_cookies([{"name": "csrftoken", "value": "a" * 32, "url": desk.base}])


def test_an_answer_is_taken_from_a_page_from_before_another_sign_in(desk: Visitor) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    sign_in_elsewhere(desk)
    page.keyboard.press("1")
    wait_for_prompt(page, 1)
    assert Label.objects.get().strength == 3
    page.keyboard.press("u")
    wait_for_prompt(page, 0)
    assert Label.objects.get().state == "retracted"


def test_an_answer_waits_while_somebody_else_is_signed_in(desk: Visitor, dora_at_work: User) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    desk.sign_in(dora_at_work)
    page.keyboard.press("1")
    expect(page.get_by_text("sign in again and it will be sent")).to_be_visible()
    assert "first" in kept_in(page, "outbox:")
    assert not Label.objects.exists()


def test_a_delivery_without_a_reply_is_given_up(desk: Visitor) -> None:
    desk.context.add_init_script(
        "AbortSignal.timeout = () => { const gone = new AbortController();"
        " setTimeout(() => gone.abort(), 300); return gone.signal; };"
    )
    page = desk.page
    page.reload()
    wait_for_prompt(page, 0)
    answer_in_vain(page, "2")
    page.route("**/answer/", lambda _route: None, times=1)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator("#desk")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_text("Your answer is kept in this browser").first).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("Taken back.", exact=True)).to_be_visible()
    assert Label.objects.get().state == "retracted"


def test_what_fails_says_so_until_it_is_done(desk: Visitor) -> None:
    page = desk.page
    failure = page.get_by_text("That did not reach the server")
    wait_for_prompt(page, 0)
    page.route("**/skip/", lambda route: route.fulfill(status=500, body="down"), times=1)
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(failure).to_be_visible()
    expect(page.get_by_role("button", name="I cannot judge this")).to_be_focused()
    sign_in_elsewhere(desk)
    with page.expect_response(re.compile("/desk/[^/]*/$")):
        page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    expect(failure).to_be_visible()
    page.keyboard.press("Enter")
    wait_for_prompt(page, 1)
    expect(failure).to_have_count(0)


def test_a_message_outlives_its_comparison(desk: Visitor, offers: list[Offer], picture: Callable[..., None]) -> None:
    page = desk.page
    wait_for_prompt(page, 0)
    page.keyboard.press("m")
    page.keyboard.type("The second text stops in the middle")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    wait_for_prompt(page, 1)
    page.reload()
    expect(page.get_by_label("Message")).to_have_value("The second text stops in the middle")
    expect(page.get_by_text("You began it at an earlier comparison")).to_be_visible()
    picture(page, full_page=True)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Your message is with the admins.").first).to_be_visible()
    assert Message.objects.get().offer == offers[0]
    expect(page.get_by_label("Message")).to_be_hidden()
    assert kept_in(page, "draft:") == ""


def test_somebody_else_at_the_same_screen_sends_and_sees_nothing_of_it(
    desk: Visitor, campaign: Campaign, dora_at_work: User
) -> None:
    answer_offline(desk, "Bob's own words")
    desk.page.close()
    desk.context.set_offline(False)
    desk.context.clear_cookies()
    desk.sign_in(dora_at_work)
    hers = desk.open()
    hers.goto(f"/desk/{campaign.code}/")
    expect(hers.locator("#prompt")).to_be_visible()
    hers.wait_for_timeout(800)
    assert not Label.objects.exists()
    assert "Bob's own words" not in hers.content()
