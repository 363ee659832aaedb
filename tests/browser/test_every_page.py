"""Every page that the site has, in light and dark, at 320 and 1280 pixels: axe objects to nothing, nothing sticks out.

A new address belongs into PAGES, or with a reason into NO_PAGES; a new template must be met on the way.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings
from django.template.loader import render_to_string
from django.test.signals import template_rendered
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from playwright.sync_api import Page, Route, expect

from annotation.models import Campaign, Enrolment, Membership, Pool, Teacher, User
from tests.activelearning.conftest import FakeEncoder
from tests.browser.conftest import Visitor
from tests.browser.furnished import House, furnish, poison
from tests.test_access_matrix import OPEN, RULES, address_of

ALICE, BOB, NOBODY = "alice", "bob", "nobody"

PAGES: dict[str, str] = {
    **dict.fromkeys(
        ("account_login", "account_signup", "account_inactive", "account_reset_password", "account_reset_password_done",
         "account_reset_password_from_key_done", "account_request_login_code", "account_email_verification_sent",
         "socialaccount_login_cancelled", "invitation", "news_stop"), NOBODY,
    ),
    **dict.fromkeys(
        ("home", "account", "account_email", "account_change_password", "account_logout", "account_reauthenticate",
         "mfa_index", "mfa_activate_totp", "socialaccount_connections", "account_withdraw", "terms", "desk",
         "desk_messages", "desk_guidelines", "desk_shortcuts", "desk_history", "desk_label", "desk_summary"), BOB,
    ),
    **dict.fromkeys(
        ("campaigns", "campaign_create", "campaign", "campaign_settings", "campaign_guidelines", "campaign_delete",
         "campaign_imports", "campaign_import", "campaign_conversations", "campaign_conversation", "campaign_teachers",
         "campaign_teacher", "teacher_withdraw", "withdrawal_effect", "campaign_queue", "campaign_messages",
         "campaign_notices", "campaign_ledger", "ledger_entries", "campaign_roles", "campaign_webhooks",
         "campaign_audit", "pools", "pool", "pool_member", "pool_models", "progress", "teachers_rationality", "offers",
         "offer", "comparison_history", "plans", "plan",
         "campaign_reviews", "campaign_review", "runs", "start_rules", "run", "lineage", "policy", "exports", "reward",
         "reward_answer"), ALICE,
    ),
}  # fmt: skip
"""URL names of whole pages, and who looks at them."""

NO_PAGES: dict[str, str] = {
    **dict.fromkeys(
        ("account_data", "payouts_csv", "ledger_csv", "export_labels", "download_label_set", "export_label_set",
         "policy_download", "mfa_download_recovery_codes"), "a file",
    ),
    **dict.fromkeys(("progress_plot", "teacher_plot", "run_plot", "policy_plot"), "a picture, with a text beside it"),
    "desk_next": "a part of the desk",
    "panel": "leads on to the terms, or shows the page of a spent invitation",
    "set_language": "only takes posts",
    **dict.fromkeys(("openid_connect_login", "openid_connect_callback"), "leads to the identity provider and back"),
    "socialaccount_signup": "leads away unless an identity provider has sent somebody",
}  # fmt: skip
"""Other URL names, each with the reason why nobody looks at it."""

ON_THE_WAY = {
    "account_confirm_email", "account_confirm_login_code", "account_reset_password_from_key", "account_set_password",
    "mfa_authenticate", "mfa_deactivate_totp", "mfa_generate_recovery_codes", "mfa_reauthenticate",
    "mfa_view_recovery_codes", "socialaccount_login_error",
}  # fmt: skip
"""Pages that stand behind a form, a letter or a broken link: `look_at_sign_ins` and `look_at_errors` get there."""

ONLY_POSTED = {name for name, (_who, methods) in RULES.items() if "GET" not in methods} | {
    name for name, methods in OPEN.items() if "GET" not in methods
}
EMPTY = (
    "campaign", "campaign_settings", "campaign_guidelines", "campaign_imports", "campaign_conversations",
    "campaign_teachers", "campaign_queue", "campaign_messages", "campaign_notices", "campaign_ledger", "campaign_roles",
    "campaign_webhooks", "campaign_audit", "progress", "teachers_rationality", "offers", "plans", "runs", "start_rules",
    "lineage", "exports", "reward", "ledger_entries",
)  # fmt: skip
"""Pages of a campaign that say something else while there is nothing in it."""
ASKED = [
    ("campaign_reviews", "?show=decided"),
    ("campaign_conversations", "?words=nothing-has-these-words"),
    ("campaign_queue", "?state=held"),
    ("progress", "?measure=information&labels=10"),
    ("desk", "?differences"),
]
"""Pages that show another template when they are asked for something."""
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 320)]
PICTURED = {("light", 320), ("dark", 1280)}
"""Pictures take as long as axe does; the other two looks show nothing that these do not."""
PROVIDER = {
    "provider_id": "oidc", "name": "The university", "client_id": "site", "secret": "kept",
    "settings": {"server_url": "https://sign-in.example.org"},
}  # fmt: skip


def named_patterns(patterns: list[Any]) -> Iterator[URLPattern]:
    """Every address but those of Django's own admin."""
    for one in patterns:
        if isinstance(one, URLResolver):
            if one.app_name != "admin":
                yield from named_patterns(one.url_patterns)
        elif one.name is not None:
            yield one


def test_every_address_is_visited_or_says_why_not() -> None:
    names = {str(one.name) for one in named_patterns(get_resolver().url_patterns)}
    spoken_of = set(PAGES) | ON_THE_WAY | set(NO_PAGES) | ONLY_POSTED
    assert names - spoken_of == set(), "a new page: write it into PAGES, or into NO_PAGES with a reason"
    assert spoken_of - names == set(), "an address that is there no more"
    assert set(PAGES) & (ON_THE_WAY | set(NO_PAGES) | ONLY_POSTED) == set()


@pytest.fixture
def house(campaign: Campaign, pool: Pool, teacher: Teacher, alice: User, monkeypatch: pytest.MonkeyPatch) -> House:
    from activelearning.pipeline import embedding

    monkeypatch.setattr(embedding, "open_encoder", lambda name: FakeEncoder())
    return furnish(campaign, pool, teacher, alice=alice)


@pytest.fixture
def met() -> Iterator[set[str]]:
    """Names of the templates that were rendered, by any thread."""
    names: set[str] = set()

    def note(template: Any, **more: Any) -> None:
        names.add(str(template.name))

    template_rendered.connect(note)
    yield names
    template_rendered.disconnect(note)


class Inspector:
    """Looks at a page in every light and width, and writes down what is wrong, and where."""

    def __init__(self, picture: Callable[..., None]) -> None:
        self.picture = picture
        self.findings: dict[str, list[str]] = defaultdict(list)

    def look(self, page: Page, name: str) -> None:
        page.evaluate(AXE_SCRIPT)
        for scheme, width in LOOKS:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 800})
            where = f"{name} {scheme} {width}"
            for violation in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]:
                for node in violation["nodes"]:
                    self.findings[f"{violation['id']}: {node['html']}\n  {node['failureSummary']}"].append(where)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                self.findings["wider than the window"].append(where)
            if (scheme, width) in PICTURED:
                self.picture(page, where, full_page=True)

    def report(self) -> str:
        return "\n\n".join(f"{what}\n  on {', '.join(where)}" for what, where in self.findings.items())

    def visit(self, page: Page, address: str, name: str, *, status: int = 200) -> None:
        response = page.goto(address)
        assert response is not None
        if response.status != status:
            self.findings[f"status {response.status}"].append(f"{name}, {address}")
        self.look(page, name)


@pytest.mark.slow
def test_every_page_passes_axe_and_fits(
    visit: Callable[..., Visitor], house: House, met: set[str], picture: Callable[..., None], settings: Any
) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [PROVIDER]}}
    started = time.monotonic()
    inspector = Inspector(picture)
    visitors = {who: visit(house.people.get(who)) for who in (NOBODY, BOB, ALICE)}
    patterns = {str(one.name): one for one in named_patterns(get_resolver().url_patterns)}
    for name, who in PAGES.items():
        inspector.visit(visitors[who].page, address_of(patterns[name], house.arguments), name)
    for name, query in ASKED:
        address = address_of(patterns[name], house.arguments) + query
        inspector.visit(visitors[PAGES[name]].page, address, f"{name} {query}")
    for name in EMPTY:
        address = address_of(patterns[name], {**house.arguments, "code": house.empty.code})
        inspector.visit(visitors[ALICE].page, address, f"{name} empty")
    look_at_the_desk(inspector, visitors[BOB].page, house.campaign)
    look_at_errors(inspector, visitors[NOBODY].page)
    look_at_sign_ins(inspector, visit(), house)
    print(f"{len(PAGES) + len(EMPTY)} pages in {time.monotonic() - started:.0f} s")
    assert not inspector.findings, inspector.report()
    unmet = {name for name in own_templates() if name not in met}
    assert unmet == set(), "templates that no visited page shows"


ATTACK = '"><img src=x onerror=alert(1)>{{ 7|add:7 }}</textarea></title><script>alert(1)</script>'


@pytest.mark.slow
def test_no_page_runs_what_somebody_wrote(visit: Callable[..., Visitor], house: House) -> None:
    """Every text in the database is an attack, file names and reasons of errors too: the visitors watch for scripts."""
    poisoned = poison(ATTACK)
    for one in ("annotation.ImportJob.name", "annotation.ImportProblem.reason", "annotation.Label.reason",
                "annotation.Campaign.description", "annotation.AuditEntry.object", "training.Run.reason"):  # fmt: skip
        assert one in poisoned, poisoned
    visitors = {who: visit(house.people.get(who)) for who in (NOBODY, BOB, ALICE)}
    patterns = {str(one.name): one for one in named_patterns(get_resolver().url_patterns)}
    fetched: list[str] = []
    for visitor in visitors.values():
        visitor.page.on("request", lambda request: fetched.append(request.url))
    shown = set()
    for name, who in PAGES.items():
        page = visitors[who].page
        response = page.goto(address_of(patterns[name], house.arguments))
        assert response is not None
        assert response.status == 200, name
        shown |= {name} if "onerror=alert(1)" in page.inner_text("body") else set()
    assert {"campaign", "campaign_imports", "campaign_queue", "campaign_audit", "runs"} <= shown, sorted(shown)
    base = visitors[NOBODY].base
    assert not [url for url in fetched if not url.startswith((base, "data:"))]
    assert not [url for url in fetched if url.endswith("/x")]


CUT_OFF = """
() => [...document.querySelectorAll(".button, .answer-button, .badge, summary, label, h1, h2, h3")]
  .filter((one) => one.checkVisibility({visibilityProperty: true}) && !one.closest(".visually-hidden, .menu-name"))
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline")
  .map((one) => one.innerText.trim().slice(0, 80))
"""


@pytest.mark.slow
@pytest.mark.parametrize("language", ["de", "es"])
def test_longer_words_fit_a_phone(
    visit: Callable[..., Visitor], house: House, language: str, picture: Callable[..., None]
) -> None:
    """Pages in other languages at 360 pixels: nothing is wider than the window, no word is cut off."""
    phone = {"locale": language, "viewport": {"width": 360, "height": 740}}
    visitors = {who: visit(house.people.get(who), **phone) for who in (NOBODY, BOB, ALICE)}
    patterns = {str(one.name): one for one in named_patterns(get_resolver().url_patterns)}
    found: dict[str, list[str]] = {}
    for name, who in PAGES.items():
        page = visitors[who].page
        page.goto(address_of(patterns[name], house.arguments))
        assert page.evaluate("document.documentElement.lang") == language
        cut = page.evaluate(CUT_OFF)
        if page.evaluate("document.documentElement.scrollWidth") > 360:
            cut.append("the page")
        if cut:
            found[name] = cut
        picture(page, name, full_page=True)
    assert not found, found


def look_at_the_desk(inspector: Inspector, page: Page, campaign: Campaign) -> None:
    """What the desk says in place of a comparison, and the other ways to answer."""
    address = f"/desk/{campaign.code}/"
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.RANKING)
    inspector.visit(page, address, "desk, ranking")
    page.get_by_role("button", name="Guidelines").click()
    expect(page.get_by_role("complementary")).to_contain_text("Prefer help")
    inspector.look(page, "desk, guidelines beside it")
    Campaign.objects.update(
        answer_mode=Campaign.AnswerMode.PAIR, content_warnings={"coding": "Bad code.", "writing": "x"}
    )
    inspector.visit(page, address, "desk, warning")
    Pool.objects.update(terms_version=2)
    inspector.visit(page, address, "desk, new terms")
    inspector.visit(page, "/", "home, new terms")
    Membership.objects.update(accepted_terms=2)
    Enrolment.objects.update(read_version=None)
    inspector.visit(page, address, "desk, guidelines")
    Enrolment.objects.update(
        stage=Enrolment.Stage.FAILED, read_version=campaign.guidelines.order_by("-version").first()
    )
    inspector.visit(page, address, "desk, not qualified")
    Enrolment.objects.update(stage=Enrolment.Stage.WORKING)
    Campaign.objects.update(state=Campaign.State.PAUSED)
    inspector.visit(page, address, "desk, paused")


def look_at_sign_ins(inspector: Inspector, visitor: Visitor, house: House) -> None:
    """By a code, with a second factor, by a letter's link, and with no password yet. Bob does all of it."""
    bob, page = house.people[BOB], visitor.page
    page.goto("/account/login/code/")
    page.fill("#id_email", bob.email)
    page.get_by_role("button", name="Request Code").click()
    inspector.look(page, "account_confirm_login_code")
    EmailAddress.objects.filter(user=bob).update(verified=True)
    enter(visitor)
    page.goto("/account/reauthenticate/?next=/account/email/")
    page.fill("#id_password", "correct horse")
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/account/email/")
    inspector.visit(page, "/account/2fa/totp/activate/", "mfa_activate_totp, set up")
    TOTP.activate(bob, generate_totp_secret())
    RecoveryCodes.activate(bob)
    inspector.visit(page, "/account/2fa/", "mfa_index, set up")
    for name in ("mfa_deactivate_totp", "mfa_view_recovery_codes", "mfa_generate_recovery_codes", "mfa_reauthenticate"):
        inspector.visit(page, reverse(name), name)
    inspector.visit(page, "/account/reauthenticate/", "account_reauthenticate, with a second factor")
    inspector.visit(page, "/account/password/reset/", "account_reset_password, signed in")
    enter(visitor)
    inspector.look(page, "mfa_authenticate")
    address = EmailAddress.objects.filter(user=bob, primary=False).get()
    EmailAddress.objects.filter(pk=address.pk).update(verified=False)
    key = EmailConfirmationHMAC(address).key
    inspector.visit(page, reverse("account_confirm_email", args=[key]), "account_confirm_email")
    bob.refresh_from_db()
    way = {"uidb36": user_pk_to_url_str(bob), "key": default_token_generator.make_token(bob)}
    inspector.visit(page, reverse("account_reset_password_from_key", kwargs=way), "account_reset_password_from_key")
    bob.set_unusable_password()
    bob.save()
    visitor.sign_in(bob)
    inspector.visit(page, "/account/password/set/", "account_set_password")


def enter(visitor: Visitor) -> None:
    page = visitor.page
    visitor.context.clear_cookies()
    page.goto("/account/login/")
    page.fill("#id_login", "bob")
    page.fill("#id_password", "correct horse")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_load_state()


def look_at_errors(inspector: Inspector, page: Page) -> None:
    inspector.visit(page, "/nowhere/", "error 404", status=404)
    inspector.visit(page, "/join/spent/", "invitation spent", status=410)
    inspector.visit(page, "/news/spent/", "news spent", status=410)
    inspector.visit(page, "/account/3rdparty/login/error/", "sign-in error", status=401)
    inspector.visit(page, "/account/confirm-email/spent/", "confirm email spent")
    inspector.visit(page, "/account/password/reset/key/1-spent/", "reset password spent")
    for name in ("403", "403_csrf", "500"):
        body = render_to_string(f"{name}.html")
        page.route("**/broken/", partial(Route.fulfill, body=body, content_type="text/html"))
        inspector.visit(page, "/broken/", f"error {name}")
        page.unroute("**/broken/")


def own_templates() -> set[str]:
    folder = Path(settings.TEMPLATES[0]["DIRS"][0])
    return {str(path.relative_to(folder)) for path in folder.rglob("*.html")}
