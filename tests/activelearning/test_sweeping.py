"""Files of old plans and estimates go, their rows stay, and whoever asks for one is told."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse

from activelearning import arrays
from activelearning.models import Estimate, Plan
from activelearning.pipeline import embed, replan, replay, store_replay, sweep, sweeping
from activelearning.rehearsal.curve import read_curve
from activelearning.rehearsal.truth import Truth
from activelearning.services import InputsNotKept, ask_to_replay
from annotation.models import Campaign, Comparison, Pool, Teacher, User
from tests.activelearning.conftest import answer, hire, work_through
from tests.activelearning.test_pages import SignIn
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def long_lived(campaign: Campaign, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Twelve plans and as many estimates, of 0 to 11 labels, where four plans and three estimates are kept."""
    monkeypatch.setattr(sweeping, "PLANS_KEPT", 4)
    monkeypatch.setattr(sweeping, "ESTIMATES_KEPT", 3)
    monkeypatch.setattr(sweeping, "GROWTH", 2.0)
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3, control_share=0)
    add_conversations(campaign, 30)
    (teacher,) = hire(pool, 1)
    embed(campaign.pk)
    work_through(campaign, teacher, plans=11)
    replan(campaign.pk)
    assert (Plan.objects.count(), Estimate.objects.count()) == (12, 12)
    campaign.refresh_from_db()
    return campaign


def files_in(settings: Any, folder: str) -> set[str]:
    return {f"{folder}/{path.name}" for path in (Path(settings.MEDIA_ROOT) / folder).iterdir()}


def test_a_sweep_leaves_the_inputs_of_the_newest_plans(
    long_lived: Campaign, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    newest = list(Plan.objects.order_by("-id")[:4])
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            sweep()
        assert list(Plan.objects.exclude(inputs="").order_by("-id")) == newest
        assert files_in(settings, "plans") == {plan.inputs.name for plan in newest}
    assert Plan.objects.count() == 12
    assert all(replay(plan).is_same for plan in newest)


def test_a_sweep_leaves_the_newest_estimates_and_a_few_of_the_older(
    long_lived: Campaign, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            sweep()
        kept = list(Estimate.objects.exclude(arrays="").order_by("id"))
        assert [row.label_count for row in kept] == [0, 1, 2, 4, 8, 9, 10, 11]
        assert files_in(settings, "estimates") == {row.arrays.name for row in kept}
    assert Estimate.objects.count() == 12


def test_the_loop_goes_on_after_a_sweep_and_another_sweep_keeps_what_the_first_kept(
    long_lived: Campaign, django_capture_on_commit_callbacks: Any
) -> None:
    from activelearning.pipeline import known

    for _ in range(6):
        with django_capture_on_commit_callbacks(execute=True):
            sweep()
        known.forget()  # as a worker that has just started, from files alone
        answer(long_lived, Teacher.objects.get())
        assert replan(long_lived.pk)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    kept = Estimate.objects.exclude(arrays="").order_by("id").values_list("label_count", flat=True)
    assert list(kept) == [0, 1, 2, 4, 8, 15, 16, 17]


def test_no_file_goes_while_the_row_that_names_it_may_come_back(
    long_lived: Campaign, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    before = files_in(settings, "plans")
    with django_capture_on_commit_callbacks():
        sweep()
        assert files_in(settings, "plans") == before


def test_an_old_plans_page_opens_and_says_that_it_cannot_be_chosen_again(
    long_lived: Campaign, alice: User, sign_in: SignIn, sent_tasks: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    sweep()
    client, (old, new) = sign_in(alice), (Plan.objects.earliest("id"), Plan.objects.latest("id"))
    sentence, button = "no longer kept", "Choose again and compare"
    page = client.get(reverse("plan", args=[long_lived.code, old.code])).content.decode()
    assert sentence in page
    assert button not in page
    assert old.reasons.count() == page.count("Why?<span")
    page = client.get(reverse("plan", args=[long_lived.code, new.code])).content.decode()
    assert sentence not in page
    assert button in page
    address = reverse("plan_replay", args=[long_lived.code, old.code])
    with django_capture_on_commit_callbacks(execute=True):
        told = client.post(address, follow=True).content.decode()
    assert told.count(sentence) == 2, "as a notice, and on the page"
    assert not sent_tasks
    old.refresh_from_db()
    assert old.replay_asked_at is None


def test_a_replay_that_was_asked_for_before_the_sweep_says_why_there_is_none(long_lived: Campaign) -> None:
    old = Plan.objects.earliest("id")
    ask_to_replay(plan=old)
    sweep()
    assert store_replay(old.pk) is None
    old.refresh_from_db()
    assert old.replay_reason.startswith("The inputs of this plan are no longer kept")
    with pytest.raises(InputsNotKept):
        replay(old)


def test_the_command_replays_what_is_kept(long_lived: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    sweep()
    call_command("replan", str(long_lived.code), "--replay", "10")
    said = capsys.readouterr().out
    assert "All of 4 plans came out the same." in said
    assert "The inputs of 6 older ones are no longer kept." in said


def test_a_rehearsals_curve_is_drawn_from_what_is_kept(
    long_lived: Campaign, django_capture_on_commit_callbacks: Any
) -> None:
    Comparison.objects.filter(offers__isnull=True).update(is_held_out=True)
    arrays.forget()  # of a comparison that is read already, a process does not ask this again
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    truth = Truth(margins={row.pk: 1.0 for row in Comparison.objects.all()}, is_recorded=False)
    assert read_curve(long_lived, truth).labels.tolist() == [0, 1, 2, 4, 8, 9, 10, 11]
