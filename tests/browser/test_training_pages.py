"""The researcher's browser: what a withdrawal costs is followed, and a run says what it does."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from activelearning.models import WithdrawalEffect
from activelearning.pipeline import refit, weigh_withdrawal
from annotation.models import Campaign, Comparison, Enrolment, Teacher, User
from tests.browser.conftest import Visitor
from tests.conftest import add_conversations
from tests.training.conftest import answer_all, embed
from training.algorithms.config import TrainingConfig
from training.datasets.frozen import freeze
from training.models import LabelSet, Policy, StartRule
from training.services.runs import start_run

Picture = Callable[..., None]


@pytest.fixture
def answered(campaign: Campaign, teacher: Teacher) -> Campaign:
    """Two teachers, 30 conversations of two responses, every fifth held out."""
    comparisons = add_conversations(campaign, 30)
    other = Teacher.objects.create(pseudonym="teacher-dora")
    Comparison.objects.filter(pk__in=[one.pk for one in comparisons[::5]]).update(is_held_out=True)
    features = embed(campaign)
    answer_all(comparisons[:18], teacher, features)
    answer_all(comparisons[18:], other, features, seed=2)
    for one in (teacher, other):
        Enrolment.objects.create(campaign=campaign, teacher=one)
    Campaign.objects.filter(pk=campaign.pk).update(label_count=30, label_version=30)
    campaign.refresh_from_db()
    return campaign


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_an_admin_sees_what_a_withdrawal_costs_before_it(
    visit: Callable[..., Visitor], picture: Picture, answered: Campaign, teacher: Teacher, alice: User
) -> None:
    page = visit(alice).page
    page.goto(reverse("teacher_withdraw", args=[answered.code, teacher.code]))
    page.get_by_role("button", name="Work it out").click()
    expect(page.get_by_text("A worker fits the reward")).to_be_visible()
    weigh_withdrawal(WithdrawalEffect.objects.get().pk)
    expect(page.get_by_text("The reward's direction turns by")).to_be_visible()
    expect(page.get_by_role("row", name="Labels in the fit")).to_contain_text("24")
    assert teacher.labels.filter(state="current").count() == 18, "nothing is done yet"
    picture(page, "wide", full_page=True)
    page.set_viewport_size({"width": 360, "height": 740})
    assert fits(page)
    picture(page, "narrow", full_page=True)


def test_what_is_typed_outlasts_the_pages_news(visit: Callable[..., Visitor], answered: Campaign, alice: User) -> None:
    """The figures above the question and the curves below it come anew every few seconds."""
    refit(answered.pk)
    page = visit(alice).page
    page.goto(reverse("progress", args=[answered.code]))
    page.fill("input[name=following]", "25")
    Campaign.objects.filter(pk=answered.pk).update(label_target=4321)
    expect(page.locator("#progress")).to_contain_text("4,321")
    assert page.input_value("input[name=following]") == "25"
    assert page.evaluate("document.activeElement.name") == "following"
    assert page.locator("#curves").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**following=25**")
    expect(page.locator("input[name=following]")).to_have_value("25")


def test_a_run_says_what_it_does_and_where_pessimism_is_silent(
    visit: Callable[..., Visitor], picture: Picture, answered: Campaign, alice: User, settings: Any
) -> None:
    page = visit(alice).page
    config = TrainingConfig(method="pessimistic_dpo")
    run = start_run(campaign=answered, config=config, is_forced=True)
    for name, address in (
        ("runs", reverse("runs", args=[answered.code])),
        ("run", reverse("run", args=[answered.code, run.code])),
        ("rules", reverse("start_rules", args=[answered.code])),
    ):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(address)
        expect(page.get_by_text("Pessimism is silent here")).to_be_visible()
        expect(page.get_by_text("takes each response's uncertainty off its logit").first).to_be_visible()
        for details in page.locator("form details").all():
            details.locator("summary").click()
        picture(page, f"{name} wide", full_page=True)
        page.set_viewport_size({"width": 360, "height": 740})
        assert fits(page), name
        picture(page, f"{name} narrow", full_page=True)


def test_researchers_read_what_was_not_erased_or_started_and_what_a_run_started_from(
    visit: Callable[..., Visitor], picture: Picture, answered: Campaign, alice: User
) -> None:
    label_set = freeze(answered)
    reason = "BrokenLabelSet: The file of label set 0123456789ab is damaged: Not a gzipped file (b'no')."
    LabelSet.objects.filter(pk=label_set.pk).update(erasing_error=reason)
    StartRule.objects.create(
        campaign=answered,
        kind="every",
        threshold=500,
        config=TrainingConfig().to_json(),
        last_label_count=30,
        refusal="Some directions of the reward are barely labelled.",
    )
    config = TrainingConfig(method="dpo", base_model="Qwen/Qwen3-0.6B")
    run = start_run(campaign=answered, config=config, is_forced=True)
    parent = Policy.objects.create(run=run, campaign=answered, folder="", manifest={"files": {"config.json": {}}})
    start_run(campaign=answered, config=config, is_forced=True, parent=parent)
    page = visit(alice).page
    for name, sentence in (
        ("exports", "could not be erased"),
        ("start_rules", "counted from 30 labels"),
        ("runs", "from Plain DPO"),
    ):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(reverse(name, args=[answered.code]))
        expect(page.get_by_text(sentence)).to_be_visible()
        picture(page, f"{name} wide", full_page=True)
        page.set_viewport_size({"width": 360, "height": 740})
        assert fits(page), name
        picture(page, f"{name} narrow", full_page=True)
