"""Recorded judgements become labels of a named teacher: once, in the right direction, rankings as one act."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import OperationalError
from django.utils import timezone

from annotation.imports import run_import, start_import
from annotation.models import (
    Adoption,
    AuditEntry,
    Campaign,
    Comparison,
    Enrolment,
    Label,
    Offer,
    RecordedJudgement,
    Response,
    Teacher,
    User,
)
from annotation.services import judgements
from annotation.services.adoptions import adopt, adoptions_to_run, ask_for_adoption
from annotation.services.campaigns import close_campaign
from annotation.services.judgements import judgements_to_labels, judges_of, teacher_of_judge, tiers_of
from annotation.services.people import withdraw_teacher
from annotation.services.refusals import CampaignNotOpen, NotAllowed

pytestmark = pytest.mark.django_db


def bring(campaign: Campaign, *rows: dict[str, Any]) -> None:
    text = "\n".join(json.dumps(row) for row in rows)
    run_import(start_import(campaign=campaign, name="rows", file=ContentFile(text.encode())).pk)


def pairs(count: int, judge: str = "Ann") -> list[dict[str, Any]]:
    return [{"prompt": f"{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "judge": judge} for n in range(count)]


def test_what_a_judge_chose_is_what_the_label_says(campaign: Campaign, alice: User) -> None:
    bring(campaign, *pairs(30))
    teacher = teacher_of_judge("Ann")
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher, user=alice) == 30

    recorded = dict(RecordedJudgement.objects.values_list("comparison_id", "outcome"))
    labels = Label.objects.filter(teacher=teacher, state=Label.State.CURRENT)
    assert {label.comparison_id: label.outcome for label in labels} == recorded
    assert {label.b_first for label in labels} == {True, False}
    assert {label.choice for label in labels} == {"first", "second"}
    assert set(Offer.objects.values_list("state", "arm", "slot", "teacher")) == {
        ("answered", "designed", 1, teacher.pk)
    }


def test_a_second_time_adds_nothing(campaign: Campaign) -> None:
    bring(campaign, *pairs(3))
    teacher = teacher_of_judge("Ann")
    judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher)
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher) == 0
    campaign.refresh_from_db()
    assert (Label.objects.count(), campaign.label_count, campaign.label_version) == (3, 3, 1)
    assert Enrolment.objects.get(teacher=teacher).label_count == 3


def test_only_that_judges_words_are_taken(campaign: Campaign) -> None:
    bring(campaign, *pairs(3, "Ann"), *pairs(2, "Ben"))
    assert list(judges_of(campaign)) == ["Ann", "Ben"]
    assert judgements_to_labels(campaign=campaign, judge="Ben", teacher=teacher_of_judge("Ben")) == 2
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann")) == 3
    assert sorted(Offer.objects.values_list("slot", flat=True)) == [1, 1, 1, 2, 2]


def test_a_ranking_becomes_one_label_with_its_tiers(campaign: Campaign) -> None:
    bring(campaign, {"prompt": "a", "responses": ["w", "x", "y", "z"], "quality": [0, 3, 1, 1]})
    assert judgements_to_labels(campaign=campaign, judge="", teacher=teacher_of_judge("")) == 1
    label = Label.objects.get()
    text = {response.pk: response.messages[0]["content"] for response in Response.objects.all()}
    assert label.ranking is not None
    assert [sorted(text[pk] for pk in tier) for tier in label.ranking] == [["x"], ["y", "z"], ["w"]]
    preferred = label.comparison.a_id if label.outcome == 1 else label.comparison.b_id
    assert text[preferred] == "x"
    assert {text[label.comparison.a_id], text[label.comparison.b_id]} == {"x", "w"}


def test_choices_of_their_own_stay_single_labels(campaign: Campaign) -> None:
    """Three votes on three pairs are three acts, whether or not they agree with one ranking."""
    messages = {
        model: [{"role": "user", "content": "Q"}, {"role": "assistant", "content": f"of {model}"}] for model in "mno"
    }
    bring(campaign, *[{"question_id": 1, "model": model, "messages": messages[model]} for model in "mno"])
    votes = [("m", "n", "model_a"), ("n", "o", "model_a"), ("m", "o", "tie")]
    bring(
        campaign,
        *[{"judge": "Ann", "question_id": 1, "model_a": a, "model_b": b, "winner": winner} for a, b, winner in votes],
    )
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann")) == 3
    assert not Label.objects.filter(ranking__isnull=False).exists()
    assert Label.objects.filter(choice="tie").count() == 1


def test_what_is_held_out_or_taken_out_stays_without_labels(campaign: Campaign) -> None:
    bring(campaign, *pairs(4))
    first, second, *_ = Comparison.objects.all()
    Comparison.objects.filter(pk=first.pk).update(is_held_out=True)
    Comparison.objects.filter(pk=second.pk).update(is_active=False)
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann")) == 2
    assert not Label.objects.filter(comparison__in=[first, second]).exists()


def test_a_teacher_keeps_the_answers_that_they_gave(campaign: Campaign, teacher: Teacher) -> None:
    bring(campaign, *pairs(2))
    comparison = Comparison.objects.all()[0]
    Offer.objects.create(campaign=campaign, comparison=comparison, teacher=teacher, slot=1)
    assert judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher) == 1
    assert not Label.objects.filter(comparison=comparison).exists()


def test_a_full_overlap_keeps_no_judge_out(campaign: Campaign) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(overlap_limit=1)
    for name in ("Ann", "Ben"):
        bring(campaign, *pairs(1, name))
        judgements_to_labels(campaign=campaign, judge=name, teacher=teacher_of_judge(name))
    assert sorted(Offer.objects.values_list("slot", flat=True)) == [1, 2]


def test_it_is_written_down_who_did_it(campaign: Campaign, alice: User) -> None:
    bring(campaign, *pairs(2))
    judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann"), user=alice)
    entry = AuditEntry.objects.get(verb="adopt judgements")
    assert (entry.user, entry.campaign, entry.details["labels"]) == (alice, campaign, 2)


def test_a_closed_campaign_and_a_teacher_who_left_are_refused(campaign: Campaign, teacher: Teacher) -> None:
    bring(campaign, *pairs(1))
    campaign.state = Campaign.State.CLOSED
    with pytest.raises(CampaignNotOpen):
        judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher)
    campaign.state = Campaign.State.OPEN
    teacher.withdrawn_at = timezone.now()
    with pytest.raises(NotAllowed):
        judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher)
    assert not Label.objects.exists()


def test_a_judges_teacher_is_the_same_every_time() -> None:
    assert teacher_of_judge("Ann") == teacher_of_judge("Ann")
    assert teacher_of_judge("Ann").kind == Teacher.Kind.RECORDED
    assert teacher_of_judge("Ben") != teacher_of_judge("Ann")


@pytest.mark.parametrize(
    ("outcomes", "tiers"),
    [
        ([(1, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)], [[1], [2], [3]]),
        ([(1, 2, 0.5), (1, 3, 0.0), (2, 3, 0.0)], [[3], [1, 2]]),
        ([(1, 2, 0.5), (1, 3, 0.5), (2, 3, 0.5)], [[1, 2, 3]]),
        ([(1, 2, 1.0), (2, 3, 1.0)], None),
        ([], None),
    ],
)
def test_tiers_by_hand(outcomes: list[tuple[int, int, float]], tiers: list[list[int]] | None) -> None:
    assert tiers_of(outcomes) == tiers


def test_judges_whose_long_names_begin_alike_are_two_teachers(campaign: Campaign) -> None:
    names = ["j" * 100 + side for side in "ab"]
    for name in names:
        bring(campaign, *pairs(2, judge=name))
        assert judgements_to_labels(campaign=campaign, judge=name, teacher=teacher_of_judge(name)) == 2
    assert len({teacher_of_judge(name).pk for name in [*names, "j" * 58, "", "unnamed"]}) == 5
    assert teacher_of_judge("j" * 58).pseudonym == "judge " + "j" * 58
    assert max(len(teacher_of_judge(name).pseudonym) for name in names) == 64


def test_a_worker_makes_the_labels_and_the_row_tells_how_far_it_is(
    campaign: Campaign, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(campaign, *pairs(5))
    monkeypatch.setattr(judgements, "BATCH", 2)
    asked = [ask_for_adoption(campaign=campaign, judge="Ann", user=alice) for _twice in range(2)]
    assert asked[0] == asked[1]
    assert adoptions_to_run() == [asked[0].pk]
    whole = judgements._add_labels
    seen = []

    def watch(*arguments: Any) -> int:
        seen.append(Adoption.objects.get().labels_added)
        adopt(asked[0].pk)  # a doubled message finds it taken
        return whole(*arguments)

    monkeypatch.setattr(judgements, "_add_labels", watch)
    adopt(asked[0].pk)
    assert seen == [0, 2, 4]
    adoption = Adoption.objects.get()
    assert (adoption.state, adoption.labels_added) == ("done", 5)
    assert (adoptions_to_run(), Label.objects.count()) == ([], 5)
    assert AuditEntry.objects.get(verb="adopt judgements").user == alice


def test_the_labels_of_a_worker_that_died_are_carried_on(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(campaign, *pairs(5))
    monkeypatch.setattr(judgements, "BATCH", 2)
    adoption = ask_for_adoption(campaign=campaign, judge="Ann", user=None)
    whole = judgements._add_labels

    def die_at_the_second(*arguments: Any) -> int:
        if Label.objects.exists():
            raise OperationalError("the database is away")
        return whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(judgements, "_add_labels", die_at_the_second)
        with pytest.raises(OperationalError):
            adopt(adoption.pk)
    assert adoptions_to_run() == []
    Adoption.objects.update(heartbeat=timezone.now() - timedelta(seconds=61))
    assert adoptions_to_run() == [adoption.pk]
    adopt(adoption.pk)
    adoption.refresh_from_db()
    assert (adoption.state, adoption.labels_added, Label.objects.count()) == ("done", 5, 5)


def test_a_campaign_that_closed_meanwhile_says_why_there_are_no_labels(campaign: Campaign) -> None:
    bring(campaign, *pairs(1))
    adoption = ask_for_adoption(campaign=campaign, judge="Ann", user=None)
    Campaign.objects.update(state=Campaign.State.CLOSED)
    adopt(adoption.pk)
    adoption.refresh_from_db()
    assert adoption.state == "failed"
    assert adoption.reason
    campaign.refresh_from_db()
    with pytest.raises(CampaignNotOpen):
        ask_for_adoption(campaign=campaign, judge="Ann", user=None)


def after_the_first_batch(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    monkeypatch.setattr(judgements, "BATCH", 1)
    return lambda _added: act() and None if Label.objects.count() == 1 else None


def test_a_teacher_who_withdraws_on_the_way_gets_no_more_labels(
    campaign: Campaign, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(campaign, *pairs(3))
    teacher = teacher_of_judge("Ann")
    leaving = Teacher.objects.get(pk=teacher.pk)
    withdraw = after_the_first_batch(lambda: withdraw_teacher(teacher=leaving, how="remove", user=alice), monkeypatch)
    with pytest.raises(NotAllowed):
        judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher, on_batch=withdraw)
    assert list(Label.objects.values_list("state", flat=True)) == ["withdrawn"]


def test_a_campaign_that_is_closed_on_the_way_gets_no_more_labels(
    campaign: Campaign, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(campaign, *pairs(3))
    closing = Campaign.objects.get(pk=campaign.pk)
    close = after_the_first_batch(lambda: close_campaign(campaign=closing, user=alice), monkeypatch)
    with pytest.raises(CampaignNotOpen):
        judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann"), on_batch=close)
    assert (Label.objects.count(), Offer.objects.count()) == (1, 1)


def test_reviews_that_are_switched_on_on_the_way_count(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(campaign, *pairs(3))
    switch_on = after_the_first_batch(lambda: Campaign.objects.update(reviews_disagreements=True), monkeypatch)
    referred = []
    monkeypatch.setattr(judgements, "refer_comparisons", lambda **of: referred.append(of["campaign"].has_reviews))
    judgements_to_labels(campaign=campaign, judge="Ann", teacher=teacher_of_judge("Ann"), on_batch=switch_on)
    assert referred == [False, True, True]


def test_offers_go_in_in_the_order_of_plans(campaign: Campaign) -> None:
    """Another order could wait for a plan in a circle. Judgements are read conversation by conversation."""
    bring(campaign, *pairs(3))
    verdicts = sorted(judgements.read_verdicts(campaign, "Ann"), key=lambda verdict: -verdict.comparison_id)
    judgements._add_labels(campaign, teacher_of_judge("Ann"), verdicts)
    stored = list(Offer.objects.order_by("pk").values_list("comparison", flat=True))
    assert stored == sorted(stored)
    assert len(stored) == 3


def test_a_judge_is_never_a_teacher_of_another_kind() -> None:
    model = Teacher.objects.create(kind=Teacher.Kind.MODEL, pseudonym="judge Ann")
    judge = teacher_of_judge("Ann")
    assert (judge.kind, judge == model, judge) == (Teacher.Kind.RECORDED, False, teacher_of_judge("Ann"))
