"""Texts that attack the page: in every place where somebody's words are shown, nothing runs and nothing is fetched."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    GuidelineVersion,
    Label,
    Message,
    Response,
    Teacher,
    User,
)
from tests.annotation.test_rendering import ATTACKS
from tests.browser.conftest import Visitor, enrol, queue

CORPUS = [
    *(attack.replace("\x00", "") for attack in ATTACKS),  # which a database does not take
    "'\"><script>alert(1)</script>",
    "';alert(1)//",
    "{{ request.user.password }}{% debug %}",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "<a hx-get='/account/logout/' hx-trigger='load'>x</a>",
    "<div data-hx-on:load='alert(1)' hx-on::load='alert(1)'>x</div>",
    "[x](//evil.example/%22onmouseover=alert(1))",
    "<b style='background:url(https://evil.example/x.png)'>x</b>",
    "![x](https://evil.example/pixel.png)",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "$\\require{html}\\class{answer-button}{x}$",
    "‮gnp.exe\u2066",
]


def test_nothing_runs_in_conversations_names_reasons_guidelines_and_messages(
    visit: Callable[..., Visitor], bob: User, campaign: Campaign, teacher: Teacher, picture: Callable[..., None]
) -> None:
    everything = "\n\n".join(CORPUS)
    GuidelineVersion.objects.filter(campaign=campaign).update(text=everything)
    enrol(campaign, teacher)
    Campaign.objects.update(name=CORPUS[0][:120], description=CORPUS[1], criteria=[CORPUS[0], CORPUS[27]])
    campaign.refresh_from_db()
    comparisons = []
    for number, attack in enumerate([*CORPUS, everything]):
        conversation = Conversation.objects.create(
            campaign=campaign,
            digest=f"{number:064x}",
            category=attack[:64],
            messages=[{"role": attack, "content": attack}, {"role": "user", "content": attack}],
        )
        first, second = (
            Response.objects.create(
                conversation=conversation,
                digest=side * 64,
                messages=[{"role": "assistant", "content": f"{side} {attack}\n\n{attack}"}],
            )
            for side in "ab"
        )
        comparisons.append(Comparison.objects.create(campaign=campaign, conversation=conversation, a=first, b=second))
    queue(campaign, teacher, comparisons)
    visitor = visit(bob)
    page = visitor.page
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(f"/desk/{campaign.code}/")
    for number, attack in enumerate(CORPUS):
        expect(page.locator("#desk")).to_have_attribute("data-state", "offer")
        form = page.locator("#answer")
        form.get_by_label("Reason (optional)").evaluate("(field, text) => { field.value = text; }", attack)
        if number == 0:
            page.goto(f"/desk/{campaign.code}/?differences")
        offer = page.locator("#desk").get_attribute("data-offer")
        page.wait_for_timeout(360)
        page.keyboard.press("4")
        expect(page.locator("#desk")).not_to_have_attribute("data-offer", offer or "")
    picture(page, "all at once", full_page=True)
    assert Label.objects.count() == len(CORPUS)
    Label.objects.update(reason=everything)
    Message.objects.create(campaign=campaign, teacher=teacher, text=everything, reply=everything)
    label = Label.objects.order_by("pk")[0]
    for path in ("history/", f"history/{label.pk}/", "guidelines/", "messages/", "summary/", "shortcuts/"):
        page.goto(f"/desk/{campaign.code}/{path}")
    page.goto("/me/")
    page.goto("/")
    foreign = [url for url in fetched if not url.startswith((visitor.base, "data:"))]
    assert not foreign


def test_the_policy_of_every_page_forbids_inline_code(desk: Visitor, campaign: Campaign) -> None:
    for path in (f"/desk/{campaign.code}/", "/account/login/", "/", "/nowhere/"):
        response = desk.page.goto(path)
        assert response is not None
        policy = response.header_value("content-security-policy") or ""
        assert "script-src 'self'" in policy, path
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path


def test_the_watch_would_notice(visit: Callable[..., Visitor], bob: User, live_server: Any) -> None:
    """What the other tests rely on: an inline script and a dialog are both reported."""
    visitor = visit()
    visitor.page.goto("/account/login/")
    visitor.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b style=\"color:red\">x</b>')")
    visitor.page.evaluate("alert(1)")
    visitor.page.wait_for_timeout(100)
    assert any(complaint.startswith("policy: style-src") for complaint in visitor.complaints)
    assert "ran: alert" in visitor.complaints
    visitor.complaints.clear()
