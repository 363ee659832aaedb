"""The whole loop in a real browser, on the embedded platform with its real workers: upload, invite, label with the
keyboard, watch the estimate, train, take the policy away and load it in plain transformers."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import FLAGS
from tests.flows.embedded import Platform, platform
from tests.run import chromium
from tests.servers import PATIENCE, free_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("platform"),
]

PICTURES = Path(__file__).resolve().parents[2] / "test-results"
ESTIMATES = "SELECT count(*) FROM activelearning_estimate e JOIN annotation_campaign c ON c.id = e.campaign_id"


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: install it, or set CHROMIUM to its path")
    return {"executable_path": path, "args": FLAGS, "headless": True}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("loop"), free_port()) as started:
        started.start()
        yield started


def password_of(running: Platform, name: str) -> str:
    lines = (running.data / "demo-sign-ins.txt").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def visitor(browser: Browser, running: Platform) -> BrowserContext:
    context = browser.new_context(base_url=running.site, viewport={"width": 1280, "height": 850}, accept_downloads=True)
    context.set_default_timeout(PATIENCE * 1000)
    return context


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/account/login/")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/")


def write_conversations(folder: Path) -> Path:
    """Forty questions whose better answer is told by its words, and one bad row."""
    rows = [
        {
            "prompt": f"How do I keep {thing} fresh for {days} days?",
            "chosen": f"Keep {thing} cool, dry and covered; look at it every day, and use it within {days} days.",
            "rejected": f"No idea. Ask somebody else about {thing}.",
        }
        for thing in ("bread", "basil", "cheese", "mushrooms", "berries", "fish", "lettuce", "rice")
        for days in (2, 3, 4, 5, 7)
    ]
    path = folder / "kitchen.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\nthis is no JSON\n")
    return path


def test_from_an_upload_to_a_policy_in_plain_transformers(browser: Browser, running: Platform, tmp_path: Path) -> None:
    alice = visitor(browser, running)
    page = alice.new_page()
    sign_in(page, "alice", password_of(running, "alice"))

    # A campaign, and conversations by upload
    page.goto("/campaigns/new/")
    page.fill("input[name=name]", "Kitchen")
    page.fill("textarea[name=guidelines]", "Prefer the answer that **helps**.")
    page.get_by_label("Demo teachers").check()
    page.get_by_role("button", name="Make the campaign").click()
    page.get_by_role("link", name="Import conversations").click()
    page.set_input_files("input[name=file]", write_conversations(tmp_path))
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#import .badge-ok")).to_be_visible()
    expect(page.locator("#import")).to_contain_text("41")  # the line that was left out
    page.screenshot(path=_picture("loop-import"))
    page.get_by_role("link", name="To the campaign").click()
    page.get_by_role("button", name="Open", exact=True).click()
    campaign = page.url

    # A teacher labels ten comparisons with the keyboard
    bob = visitor(browser, running)
    desk = bob.new_page()
    sign_in(desk, "bob", password_of(running, "bob"))
    desk.get_by_role("link", name=re.compile("Kitchen")).click()
    desk.get_by_role("button", name="I have read them").click()
    for _label in range(10):
        answer_by_keyboard(desk)
    desk.screenshot(path=_picture("loop-desk"))

    # The estimate moves
    page.goto(f"{campaign}progress/")
    query = f"{ESTIMATES} WHERE c.name = 'Kitchen' AND e.label_count >= "
    running.wait_until(lambda: running.count(f"{query}8") > 0)
    expect(page.locator("#progress")).to_contain_text("nats of information")
    page.screenshot(path=_picture("loop-progress"), full_page=True)

    # A run: a language model by pessimistic DPO
    page.goto(f"{campaign}runs/")
    page.select_option("select[name=method]", "pessimistic_dpo")
    page.fill("input[name=max_steps]", "4")
    forced = page.locator("input[name=is_forced]")
    if forced.count():
        forced.check()
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("link", name="See the policy")).to_be_visible()
    page.get_by_role("link", name="See the policy").click()
    page.screenshot(path=_picture("loop-policy"), full_page=True)

    # The policy, taken away
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as archive:
        archive.extractall(tmp_path / "policy")
    says_something(tmp_path / "policy")
    alice.close()
    bob.close()


def answer_by_keyboard(desk: Page) -> None:
    """Read both sides as a teacher would, and press the key of the better one."""
    shown = desk.locator("#desk[data-state=offer]")
    expect(shown).to_be_visible()
    code = shown.get_attribute("data-offer")
    sides = desk.locator("#comparison .side").all_inner_texts()
    better = "first" if "Keep" in sides[0] else "second"
    key = desk.locator(f"[data-shortcut={better}][data-key]").first.get_attribute("data-key")
    assert key
    desk.wait_for_timeout(500)  # nobody reads faster, and the desk takes a quicker key for a slip
    desk.keyboard.press(key)
    desk.wait_for_function("code => document.querySelector('#desk')?.dataset.offer !== code", arg=code)


def says_something(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    manifest = json.loads(next(folder.rglob("manifest.json")).read_text())
    assert manifest["certificate"]
    where = next(folder.rglob("config.json")).parent
    model, tokenizer = AutoModelForCausalLM.from_pretrained(where), AutoTokenizer.from_pretrained(where)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How do I keep bread fresh?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    answer = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]


def _picture(name: str) -> Path:
    PICTURES.mkdir(exist_ok=True)
    return PICTURES / f"{name}.png"
