"""A headless Chromium before a running server, watched: a dialog, an error or a breach of the page's policy fails."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect

from annotation.models import Campaign, Comparison, Enrolment, Membership, Offer, Pool, Teacher, User
from annotation.services.queueing import queue_offers
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations
from tests.run import chromium
from tests.servers import PATIENCE

PICTURES = Path(__file__).resolve().parents[2] / "test-results"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  window.tellTest(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`);
});
for (const name of ["alert", "confirm", "prompt", "print"]) window[name] = () => window.tellTest(`ran: ${name}`);
"""


expect.set_options(timeout=PATIENCE * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: install it, or set CHROMIUM to its path")
    return {"executable_path": path, "args": FLAGS, "headless": True}


class Visitor:
    """Somebody at a browser of their own, and what the browser complained about."""

    def __init__(self, browser: Browser, base: str, **options: Any) -> None:
        self.base = base
        self.complaints: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=base, **{"viewport": {"width": 1280, "height": 800}, **options}
        )
        self.context.expose_function("tellTest", lambda complaint: self.complaints.append(complaint))
        self.context.add_init_script(WATCH)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.open()

    def open(self) -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page

    def sign_in(self, user: User) -> None:
        """By the session's cookie; the page of the sign-in has a test of its own."""
        client = Client()
        client.force_login(user)
        self.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": self.base}])


@pytest.fixture
def visit(browser: Browser, live_server: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Visitor]]:
    """Opens browsers, and fails the test for what any of them complained about."""
    visitors: list[Visitor] = []

    def visit(user: User | None = None, **options: Any) -> Visitor:
        visitor = Visitor(browser, live_server.url, **options)
        if user is not None:
            visitor.sign_in(user)
        visitors.append(visitor)
        return visitor

    yield visit
    for visitor in visitors:
        visitor.context.close()
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    assert not complaints, complaints


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps a screenshot under the test's name."""

    def take(page: Page, name: str = "", **options: Any) -> None:
        PICTURES.mkdir(exist_ok=True)
        words = re.sub(r"[^\w]+", "-", f"{request.node.name} {name}").strip("-")
        page.screenshot(path=PICTURES / f"{words}.png", **options)

    return take


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def enrol(campaign: Campaign, teacher: Teacher) -> Enrolment:
    """At work: guidelines read, nothing more to learn."""
    return Enrolment.objects.create(
        campaign=campaign,
        teacher=teacher,
        stage=Enrolment.Stage.WORKING,
        read_version=campaign.guidelines.first(),
        working_since=timezone.now() - timedelta(days=1),
    )


def queue(campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]) -> list[Offer]:
    drafts = [
        draft_for(comparison, teacher, rank=float(place), b_first=bool(place % 2))
        for place, comparison in enumerate(comparisons)
    ]
    return [offer for offer in queue_offers(campaign=campaign, drafts=drafts) if offer is not None]


@pytest.fixture
def enrolment(campaign: Campaign, teacher: Teacher) -> Enrolment:
    return enrol(campaign, teacher)


@pytest.fixture
def offers(campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> list[Offer]:
    """Eight offers on Bob's queue."""
    return queue(campaign, teacher, add_conversations(campaign, 8))


@pytest.fixture
def desk(visit: Callable[..., Visitor], bob: User, campaign: Campaign, offers: list[Offer]) -> Visitor:
    """Bob at his desk."""
    visitor = visit(bob)
    visitor.page.goto(f"/desk/{campaign.code}/")
    return visitor


@pytest.fixture
def dora_at_work(campaign: Campaign, pool: Pool, offers: list[Offer]) -> User:
    """Another teacher, with something on her own queue."""
    user = User.objects.create_user("dora", "dora@example.org", "correct horse")
    dora = Teacher.objects.create(user=user, pseudonym="teacher-dora")
    Membership.objects.create(pool=pool, teacher=dora, accepted_terms=1)
    enrol(campaign, dora)
    queue(campaign, dora, [offer.comparison for offer in offers[:2]])
    return user
