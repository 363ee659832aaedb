"""The desk in every state: axe objects to nothing, in light and dark, narrow and wide; and pictures."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotation.formats.limits import RESPONSES
from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    Enrolment,
    Membership,
    Offer,
    Response,
    Teacher,
    User,
)
from annotation.services.labels import record_label
from tests.browser.conftest import Visitor, enrol, queue
from tests.conftest import add_conversations

IS_ON_TOP = """(element) => {
  const { x, y, width, height } = element.getBoundingClientRect();
  return element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""

RICH = """By the quotient rule

$$\\frac{d}{dx}\\frac{\\sin x}{x} = \\frac{x\\cos x - \\sin x}{x^2}$$

| x | f(x) | f'(x) | a rather long heading | another one |
|--:|--:|--:|---|---|
| 1 | 0.841 | -0.301 | words | words |

# A heading

1. one
2. two with `code`

> quoted

```python
import math

@cached
class Derivative(Function):
    \"\"\"Of sin(x) / x.\"\"\"
    def value(self, x: float = 1.0) -> float:
        return (x * math.cos(x) - math.sin(x)) / x**2  # quotient rule, a line that is long enough to be wrapped
```

مرحبا بالعالم — 你好，世界 🎉 [a link](https://example.org/a/very/long/address/without/any/place/to/break/it/at/all)
"""


def axe(page: Page) -> None:
    """No violation of any rule, best practices included."""
    results = Axe().run(page)
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"


@pytest.fixture
def rich(campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> list[Offer]:
    """A long conversation with everything that markdown has, and plain ones behind it."""
    Campaign.objects.update(criteria=["helpful", "honest"])
    campaign.refresh_from_db()
    conversation = Conversation.objects.create(
        campaign=campaign,
        digest="r" * 64,
        category="mathematics",
        messages=[
            {"role": "system", "content": "You are a patient teacher."},
            {"role": "user", "content": "What is the derivative of $x^2$?"},
            {"role": "assistant", "content": "It is $2x$."},
            {"role": "user", "content": "And of $\\sin(x)/x$? With a table, and Python. شكرا"},
        ],
    )
    first = Response.objects.create(
        conversation=conversation, digest="a" * 64, messages=[{"role": "assistant", "content": RICH}]
    )
    second = Response.objects.create(
        conversation=conversation,
        digest="b" * 64,
        messages=[{"role": "assistant", "content": RICH.replace("quotient", "product").split("# A heading")[0]}],
    )
    comparison = Comparison.objects.create(
        campaign=campaign, conversation=conversation, a=first, b=second, category="mathematics"
    )
    offers = queue(campaign, teacher, [comparison, *add_conversations(campaign, 3)])
    return offers


SCREENS = [pytest.param(scheme, width, id=f"{scheme}-{width}") for scheme in ("light", "dark") for width in (320, 1280)]


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_the_desk_passes_axe_in_every_state(
    visit: Callable[..., Visitor],
    bob: User,
    campaign: Campaign,
    rich: list[Offer],
    scheme: Any,
    width: int,
    picture: Callable[..., None],
) -> None:
    """What opens on the page itself; the pages are all in `test_every_page`."""
    page = visit(bob, color_scheme=scheme, viewport={"width": width, "height": 800}).page
    base = f"/desk/{campaign.code}/"
    page.goto(base)
    axe(page)
    picture(page, "desk")
    page.goto(base + "?differences")
    page.get_by_text("Reason and flag").click()
    page.get_by_text("Write to the admins about").click()
    axe(page)
    page.keyboard.press("Escape")
    page.locator("summary", has_text="Skip").click()
    axe(page)
    page.goto(base)
    page.get_by_role("button", name="Guidelines").click()
    expect(page.get_by_role("complementary")).to_contain_text("helps more")
    axe(page)
    page.keyboard.press("?")
    axe(page)
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    record_label(offer=Offer.objects.get(state=Offer.State.HELD), choice="first", strength=2, is_flagged=True)
    page.goto(base)
    expect(page.get_by_role("heading", name="Before you look")).to_be_visible()
    axe(page)
    picture(page, "warning")
    Campaign.objects.update(content_warnings={}, answer_mode=Campaign.AnswerMode.RANKING)
    page.goto(base)
    axe(page)
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.PAIR, asks_strength=False)
    page.goto(base)
    axe(page)


@pytest.mark.parametrize("width", [360, 1280])
def test_many_responses_are_read_and_given_places(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, width: int
) -> None:
    """The places of so many neither stand before the texts nor run out of the window."""
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.RANKING)
    queue(campaign, teacher, add_conversations(campaign, 1, responses=RESPONSES))
    enrol(campaign, teacher)
    page = visit(bob, viewport={"width": width, "height": 800}).page
    page.goto(f"/desk/{campaign.code}/")
    first, last = page.locator(".side-title").first, page.locator(".rank-places input").last
    assert first.evaluate(IS_ON_TOP)
    last.scroll_into_view_if_needed()
    assert last.evaluate(IS_ON_TOP)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_every_state_has_its_picture(
    visit: Callable[..., Visitor],
    bob: User,
    campaign: Campaign,
    teacher: Teacher,
    rich: list[Offer],
    width: int,
    picture: Callable[..., None],
) -> None:
    page = visit(bob, viewport={"width": width, "height": 844}, has_touch=width < 800).page
    base = f"/desk/{campaign.code}/"
    page.goto(base)
    picture(page, "offer")
    picture(page, "offer whole", full_page=True)
    page.goto(base + "?differences")
    picture(page, "differences")
    Enrolment.objects.update(read_version=None)
    page.goto(base)
    picture(page, "guidelines")
    Enrolment.objects.update(read_version=campaign.guidelines.first())
    User.objects.filter(pk=bob.pk).update(preferences={"hides_texts": True})
    page.goto(base)
    picture(page, "covered")
    User.objects.filter(pk=bob.pk).update(preferences={})
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.RANKING)
    page.goto(base)
    picture(page, "ranking")
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.PAIR, asks_strength=False, criteria=[])
    page.goto(base)
    picture(page, "plain answers")
    Offer.objects.all().delete()
    page.goto(base)
    expect(page.get_by_role("heading", name="Nothing to compare right now")).to_be_visible()
    picture(page, "nothing")


@pytest.mark.parametrize(("width", "height"), [(320, 256), (390, 844), (768, 1024), (1280, 800)])
def test_nothing_is_cut_off_at_any_width_and_at_400_percent(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, rich: list[Offer], width: int, height: int
) -> None:
    """320 by 256 is a window of 1280 by 1024 at 400 %: one column, no sideways scrolling, every answer reachable."""
    page = visit(bob, viewport={"width": width, "height": height}).page
    page.goto(f"/desk/{campaign.code}/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(".answer-button").all():
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["height"] >= 24
        assert button.evaluate("one => one.scrollWidth <= one.clientWidth + 1"), button.inner_text()


def test_the_prompt_stays_in_reach_while_scrolling(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, rich: list[Offer]
) -> None:
    page = visit(bob).page
    page.goto(f"/desk/{campaign.code}/")
    page.mouse.wheel(0, 700)
    page.wait_for_timeout(200)
    assert page.evaluate("scrollY") > 200
    expect(page.locator("#prompt")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Both bad")).to_be_in_viewport()


def test_a_switch_overrules_the_systems_colours(desk: Visitor, campaign: Campaign) -> None:
    page = desk.page
    before = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.get_by_label("Menu").click()
    page.get_by_role("button", name="Dark").click()
    after = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    assert before != after
    page.wait_for_timeout(200)
    page.reload()
    assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") == after


@pytest.mark.parametrize(("language", "word"), [("de", "Gleich gut"), ("es", "Empate")])
def test_the_desk_speaks_other_languages(
    visit: Callable[..., Visitor],
    bob: User,
    campaign: Campaign,
    rich: list[Offer],
    language: str,
    word: str,
    picture: Callable[..., None],
) -> None:
    page = visit(bob, locale=language).page
    page.goto(f"/desk/{campaign.code}/")
    assert page.evaluate("document.documentElement.lang") == language
    expect(page.locator(".answer-tie")).to_contain_text(word)
    picture(page)


def test_a_response_of_twenty_thousand_words_stays_smooth(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, enrolment: Enrolment
) -> None:
    comparison = add_conversations(campaign, 1)[0]
    long = "\n\n".join(f"## Part {part}\n\n" + f"Sentence {part} of the response. " * 40 for part in range(100))
    Response.objects.filter(pk=comparison.a_id).update(messages=[{"role": "assistant", "content": long}])
    assert len(long.split()) > 20_000
    queue(campaign, teacher, [comparison, *add_conversations(campaign, 1)])
    page = visit(bob).page
    page.goto(f"/desk/{campaign.code}/")
    slowest = page.evaluate(
        """async () => {
          let slowest = 0, last = performance.now();
          for (let step = 0; step < 60; step += 1) {
            window.scrollBy(0, 800);
            await new Promise(requestAnimationFrame);
            slowest = Math.max(slowest, performance.now() - last);
            last = performance.now();
          }
          return slowest;
        }"""
    )
    assert slowest < 500, f"a frame took {slowest:.0f} ms"
    page.keyboard.press("4")
    expect(page.locator("#prompt")).to_contain_text("list number 1 ")


def test_reduced_motion_moves_nothing(visit: Callable[..., Visitor], bob: User, campaign: Campaign, rich: Any) -> None:
    page = visit(bob, reduced_motion="reduce").page
    page.goto(f"/desk/{campaign.code}/")
    durations = page.evaluate(
        "[...document.querySelectorAll('*')].map((one) => getComputedStyle(one).transitionDuration)"
    )
    assert set(durations) == {"0s"}


def test_a_stranger_sees_a_friendly_page(visit: Callable[..., Visitor], charlie: User, campaign: Campaign) -> None:
    page = visit(charlie).page
    response = page.goto(f"/desk/{campaign.code}/")
    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()


def test_staff_who_also_teach_have_both_on_their_first_page(
    visit: Callable[..., Visitor], alice: User, campaign: Campaign, pool: Any, picture: Callable[..., None]
) -> None:
    teacher = Teacher.objects.create(user=alice, pseudonym="teacher-alice")
    Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)
    enrol(campaign, teacher)
    page = visit(alice).page
    page.goto("/")
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    expect(page.get_by_role("heading", name="Campaigns")).to_be_visible()
    picture(page)
