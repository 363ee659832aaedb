"""The researcher's pages: they work, for whom they may, and say what the rows say."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from celery import Celery
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from activelearning.algorithms.strategies import STRATEGIES
from activelearning.models import EmbeddingProgress, Plan, TeacherRationality
from activelearning.pipeline import embed, replan, store_replay
from activelearning.reasons import OF_STRATEGY
from activelearning.services import ask_to_replay
from activelearning.tasks import reconcile
from annotation.models import Campaign, Comparison, Offer, Pool, Role, Teacher, User
from tests.activelearning.conftest import answer, hire, work_through
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
SignIn = Callable[[User], Client]


@pytest.fixture
def busy(campaign: Campaign, pool: Pool) -> Campaign:
    """Thirty answers by three teachers, half of them in the control arm, rationality estimated."""
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3, control_share=0.5, rationality_mode="estimated")
    add_conversations(campaign, 20)
    add_conversations(campaign, 20, category="writing")
    staff = hire(pool, 3)
    embed(campaign.pk)
    for number in range(10):
        replan(campaign.pk)
        for teacher in staff:
            answer(campaign, teacher, "first" if number % 3 else "second")
    replan(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def addresses(campaign: Campaign) -> dict[str, str]:
    plan, offer = Plan.objects.first(), Offer.objects.first()
    assert plan is not None
    assert offer is not None
    code = campaign.code
    return {
        "progress": reverse("progress", args=[code]),
        "plot": reverse("progress_plot", args=[code, "information"]),
        "teachers": reverse("teachers_rationality", args=[code]),
        "teacher plot": reverse("teacher_plot", args=[code, offer.teacher.code]),
        "offers": reverse("offers", args=[code]),
        "offer": reverse("offer", args=[code, offer.code]),
        "comparison": reverse("comparison_history", args=[code, offer.comparison_id]),
        "plans": reverse("plans", args=[code]),
        "plan": reverse("plan", args=[code, plan.code]),
    }


def test_every_page_opens_for_staff_and_for_nobody_else(
    busy: Campaign, alice: User, charlie: User, client: Client
) -> None:
    pages = addresses(busy)
    replay = reverse("plan_replay", args=[busy.code, Plan.objects.first().code])  # type: ignore[union-attr]
    for name, address in pages.items():
        assert client.get(address).status_code == 302, name
    assert client.post(replay).status_code == 302
    client.force_login(charlie)
    for name, address in [*pages.items(), ("replay", replay)]:
        assert client.get(address).status_code == 404, name
        assert client.post(address).status_code == 404, name
    client.force_login(alice)
    for name, address in pages.items():
        assert client.get(address).status_code == 200, name
        assert client.post(address).status_code == 405, name
    assert client.get(replay).status_code == 405


def test_a_teacher_of_the_campaign_is_a_stranger_here(
    busy: Campaign, teacher: Teacher, bob: User, sign_in: SignIn
) -> None:
    for address in addresses(busy).values():
        assert sign_in(bob).get(address).status_code == 404


def test_another_campaigns_offers_comparisons_and_plans_are_not_found(
    busy: Campaign, alice: User, sign_in: SignIn
) -> None:
    other = Campaign.objects.create(name="Another", created_by=alice)
    Role.objects.create(campaign=other, user=alice, name="admin")
    offer, plan = Offer.objects.first(), Plan.objects.first()
    assert offer is not None
    assert plan is not None
    client = sign_in(alice)
    assert client.get(reverse("offer", args=[other.code, offer.code])).status_code == 404
    assert client.get(reverse("comparison_history", args=[other.code, offer.comparison_id])).status_code == 404
    assert client.get(reverse("plan", args=[other.code, plan.code])).status_code == 404
    assert client.post(reverse("plan_replay", args=[other.code, plan.code])).status_code == 404


def test_the_progress_page_says_where_the_campaign_stands(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    html = sign_in(alice).get(reverse("progress", args=[busy.code])).content.decode()
    assert "nats of information" in html
    assert "before learning from them" in html
    assert "Krippendorff" not in html
    assert 'hx-trigger="every 3s"' in html
    assert "<script>" not in html
    assert " style=" not in html


def test_htmx_gets_the_fragment_alone(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    for name in ("progress", "teachers", "comparison", "plan"):
        html = client.get(addresses(busy)[name], headers={"hx-request": "true"}).content.decode()
        assert "<html" not in html
        assert html.strip().startswith("<div id=")


def test_an_empty_campaign_is_told_what_to_do_next(campaign: Campaign, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    assert "nothing to compare yet" in client.get(reverse("progress", args=[campaign.code])).content.decode()
    assert "No teacher has had" in client.get(reverse("teachers_rationality", args=[campaign.code])).content.decode()
    assert "No offers" in client.get(reverse("offers", args=[campaign.code])).content.decode()
    assert "No plan yet" in client.get(reverse("plans", args=[campaign.code])).content.decode()


def test_features_that_fail_are_said_with_their_reason(campaign: Campaign, alice: User, sign_in: SignIn) -> None:
    add_conversations(campaign, 2)
    EmbeddingProgress.objects.create(
        campaign=campaign, encoder="nobody/nothing", state="failed", reason="No such model."
    )
    html = sign_in(alice).get(reverse("progress", args=[campaign.code])).content.decode()
    assert "No such model." in html
    assert "Change the encoder" in html


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["information", "error", "certificate", "accuracy", "calibration", "outlook"])
def test_every_picture_is_svg_with_its_text_as_text(
    busy: Campaign, alice: User, sign_in: SignIn, name: str, theme: str
) -> None:
    response = sign_in(alice).get(reverse("progress_plot", args=[busy.code, name]), {"theme": theme})
    assert response["Content-Type"] == "image/svg+xml"
    assert "script-src" not in response["Content-Security-Policy"]
    tree = ElementTree.fromstring(response.content)
    assert tree.findall(".//{http://www.w3.org/2000/svg}text")
    assert b"<script" not in response.content


def test_the_dark_picture_has_other_colours(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    address = reverse("progress_plot", args=[busy.code, "information"])
    client = sign_in(alice)
    assert client.get(address).content != client.get(address, {"theme": "dark"}).content


def test_an_unknown_picture_is_not_found(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    assert sign_in(alice).get(reverse("progress_plot", args=[busy.code, "gossip"])).status_code == 404


def test_pictures_of_a_campaign_without_labels_are_empty_and_no_error(
    campaign: Campaign, alice: User, sign_in: SignIn
) -> None:
    for name in ("information", "error", "certificate", "accuracy", "calibration", "outlook"):
        assert sign_in(alice).get(reverse("progress_plot", args=[campaign.code, name])).status_code == 200


def test_the_outlook_answers_what_was_asked(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    address = reverse("progress", args=[busy.code])
    patient = client.get(address, {"measure": "information", "following": "200", "threshold": "0"}).content.decode()
    assert "Information in nats: the next 200 labels should change it by" in patient
    assert "Go on." in patient
    done = client.get(address, {"measure": "information", "following": "1", "threshold": "1000"}).content.decode()
    assert "Stop." in done
    for measure in ("error", "information", "bound", "accuracy"):
        for axis in ("labels", "money", "time"):
            asked = {"measure": measure, "axis": axis, "following": "50"}
            assert client.get(address, asked).status_code == 200, asked
            plot = client.get(reverse("progress_plot", args=[busy.code, "outlook"]), asked)
            assert (plot.status_code, plot["Content-Type"]) == (200, "image/svg+xml"), asked
    assert client.get(address, {"measure": "luck", "following": "-3", "threshold": "soon"}).status_code == 200


def test_an_offer_says_why(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    designed = Offer.objects.filter(arm="designed", why__gap__gt=0).first()
    control = Offer.objects.filter(arm="control").first()
    assert designed is not None
    assert control is not None
    html = client.get(reverse("offer", args=[busy.code, designed.code])).content.decode()
    assert "brings the most information for its cost" in html
    assert "Other comparisons for this teacher" in html
    assert "Drawn uniformly" in client.get(reverse("offer", args=[busy.code, control.code])).content.decode()


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_an_offer_says_by_which_rule_it_was_chosen(
    campaign: Campaign, pool: Pool, alice: User, sign_in: SignIn, strategy: str
) -> None:
    """The first labels span the features, but for a uniform design; what follows is the strategy's."""
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=3, control_share=0, strategy=strategy)
    add_conversations(campaign, 30)
    (teacher,) = hire(pool, 1)
    embed(campaign.pk)
    work_through(campaign, teacher, plans=8)
    client, offers = sign_in(alice), list(Offer.objects.order_by("pk"))
    html = [client.get(reverse("offer", args=[campaign.code, offer.code])).content.decode() for offer in offers]
    is_by_strategy = [str(OF_STRATEGY[strategy]).replace("'", "&#x27;") in page for page in html]
    is_first = ["One of the first labels" in page for page in html]
    assert is_by_strategy == [not first for first in is_first]
    assert is_first[0] == (strategy != "uniform")
    assert is_by_strategy[-1]
    assert strategy == "dual" or not any("brings the most information for its cost" in page for page in html)


def test_an_offer_says_that_only_urgent_comparisons_were_looked_at(
    busy: Campaign, alice: User, sign_in: SignIn
) -> None:
    client, sentence = sign_in(alice), "Only urgent comparisons were looked at"
    plain = Offer.objects.filter(arm="designed").latest("pk")
    assert sentence not in client.get(reverse("offer", args=[busy.code, plain.code])).content.decode()
    Campaign.objects.filter(pk=busy.pk).update(control_share=0)
    Comparison.objects.filter(offers__isnull=True).update(priority=1)
    while not Offer.objects.filter(why__is_urgent=True).exists():
        answer(busy, Teacher.objects.latest("pk"))
        replan(busy.pk)
    urgent = Offer.objects.filter(why__is_urgent=True).latest("pk")
    assert urgent.comparison.priority == 1
    assert sentence in client.get(reverse("offer", args=[busy.code, urgent.code])).content.decode()


def test_offers_are_found_by_arm_state_and_teacher(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    response = sign_in(alice).get(reverse("offers", args=[busy.code]), {"arm": "control", "state": "answered"})
    shown = response.context["page"].rows
    assert {(offer.arm, offer.state) for offer in shown} == {("control", "answered")}
    name = Teacher.objects.last().pseudonym  # type: ignore[union-attr]
    response = sign_in(alice).get(reverse("offers", args=[busy.code]), {"teacher": name, "arm": "<script>"})
    assert {offer.teacher.pseudonym for offer in response.context["page"].rows} == {name}


def test_a_comparison_tells_its_history(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    asked = Comparison.objects.filter(labels__isnull=False).first()
    assert asked is not None
    html = sign_in(alice).get(reverse("comparison_history", args=[busy.code, asked.pk])).content.decode()
    assert "is better" in html
    assert "numbers[::-1]" in html


def test_a_plan_is_replayed_by_a_worker_and_the_page_follows(
    busy: Campaign,
    alice: User,
    sign_in: SignIn,
    sent_tasks: list[tuple[str, tuple[Any, ...]]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    plan = Plan.objects.latest("id")
    client = sign_in(alice)
    address = reverse("plan", args=[busy.code, plan.code])
    assert "hx-get" not in client.get(address).content.decode().split('id="plan"')[1].split(">")[0]
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("plan_replay", args=[busy.code, plan.code]))
    assert sent_tasks == [("activelearning.replay", (plan.pk,))]
    assert "A worker is choosing again" in client.get(address).content.decode()
    assert store_replay(plan.pk)
    assert "the same offers in the same order" in client.get(address).content.decode()


def test_a_replay_outlives_a_broker_that_is_down(
    busy: Campaign,
    alice: User,
    sign_in: SignIn,
    sent_tasks: list[tuple[str, tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise ConnectionError("Connection refused")

    plan, client = Plan.objects.latest("id"), sign_in(alice)
    with monkeypatch.context() as patch, django_capture_on_commit_callbacks(execute=True):
        patch.setattr(Celery, "send_task", refuse)
        assert client.post(reverse("plan_replay", args=[busy.code, plan.code])).status_code == 302
    message = ("activelearning.replay", (plan.pk,))
    reconcile()
    assert message not in sent_tasks, "it may still be on its way"
    Plan.objects.filter(pk=plan.pk).update(replay_asked_at=timezone.now() - timedelta(seconds=31))
    for _ in range(2):
        reconcile()
    assert sent_tasks.count(message) == 1
    Plan.objects.filter(pk=plan.pk).update(replay_asked_at=timezone.now() - timedelta(minutes=11))
    reconcile()
    page = client.get(reverse("plan", args=[busy.code, plan.code])).content.decode()
    assert "No worker finished it in ten minutes." in page
    assert "hx-get" not in page.split('id="plan"')[1].split(">")[0], "the page no longer waits"


def test_a_replay_that_fails_says_why(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    plan = Plan.objects.latest("id")
    plan.inputs.storage.delete(str(plan.inputs.name))
    ask_to_replay(plan=plan)
    assert store_replay(plan.pk) is None
    page = sign_in(alice).get(reverse("plan", args=[busy.code, plan.code])).content.decode()
    assert "The plan could not be chosen again. FileNotFoundError" in page
    assert "hx-get" not in page.split('id="plan"')[1].split(">")[0]


def test_a_tampered_plan_is_found_out(busy: Campaign) -> None:
    from activelearning.storage import read_arrays, to_file

    plan = Plan.objects.latest("id")
    arrays = read_arrays(plan.inputs)
    arrays["chosen_comparison"] = arrays["chosen_comparison"] + 1
    plan.inputs.save("tampered.npz", to_file(arrays))
    assert not store_replay(plan.pk)


def test_the_number_of_queries_does_not_grow_with_the_offers(
    busy: Campaign, alice: User, sign_in: SignIn, django_assert_max_num_queries: Any
) -> None:
    client = sign_in(alice)
    for name, most in (("offers", 25), ("plan", 25), ("teachers", 25), ("progress", 40)):
        with django_assert_max_num_queries(most):
            client.get(addresses_of(busy, name))


def addresses_of(campaign: Campaign, name: str) -> str:
    names = {"offers": "offers", "teachers": "teachers_rationality", "progress": "progress"}
    if name == "plan":
        return reverse("plan", args=[campaign.code, Plan.objects.values_list("code", flat=True)[0]])
    return reverse(names[name], args=[campaign.code])


def test_teachers_are_paged_and_their_labels_stay_in_the_database(
    campaign: Campaign, comparisons: list[Comparison], pool: Pool, alice: User, sign_in: SignIn
) -> None:
    staff = hire(pool, 53)
    Offer.objects.bulk_create(
        Offer(campaign=campaign, comparison=comparisons[0], teacher=one, arm="designed", slot=1, state="lapsed")
        for one in staff
    )
    client, address = sign_in(alice), reverse("teachers_rationality", args=[campaign.code])
    first = client.get(address)
    assert [row.teacher.pk for row in first.context["portraits"]] == [one.pk for one in staff[:50]]
    assert f'href="?after={staff[49].pk}"' in first.content.decode()
    second = client.get(f"{address}?after={staff[49].pk}")
    assert [row.teacher.pk for row in second.context["portraits"]] == [one.pk for one in staff[50:]]
    assert f'hx-get="{address}?after={staff[49].pk}"' in second.content.decode(), "the refresh stays on its page"
    assert 'href="?after=' not in second.content.decode()
    assert "No teacher has had" not in client.get(f"{address}?after={staff[-1].pk}").content.decode()
    with CaptureQueriesContext(connection) as asked:
        assert client.get(reverse("teacher_plot", args=[campaign.code, staff[0].code])).status_code == 404
    another = re.compile(rf'"teacher_id" (=|IN) \(?[^)]*\b{staff[1].pk}\b')
    assert not [one for one in asked if "annotation_label" in one["sql"] and another.search(one["sql"])]


def test_who_answers_the_wrong_way_round_is_found_among_many(busy: Campaign, alice: User, sign_in: SignIn) -> None:
    client, address = sign_in(alice), reverse("teachers_rationality", args=[busy.code])
    TeacherRationality.objects.update(value=0.1, error=0.2)
    assert "show=inverted" not in client.get(address).content.decode()
    worst = TeacherRationality.objects.order_by("-teacher")[0]
    TeacherRationality.objects.filter(pk=worst.pk).update(value=-0.5)
    TeacherRationality.objects.exclude(pk=worst.pk).update(value=-0.3)
    page = client.get(address).content.decode()
    assert "1 teacher answers the wrong way round." in page
    assert 'href="?show=inverted"' in page
    found = client.get(f"{address}?show=inverted")
    assert [row.teacher.pk for row in found.context["portraits"]] == [worst.teacher_id]
    assert f'hx-get="{address}?show=inverted"' in found.content.decode()
    assert len(client.get(f"{address}?show=nonsense").context["portraits"]) == 3


def test_offers_and_plans_are_paged_by_key_and_never_counted(
    campaign: Campaign,
    comparisons: list[Comparison],
    teacher: Teacher,
    alice: User,
    sign_in: SignIn,
) -> None:
    Offer.objects.bulk_create(
        Offer(campaign=campaign, comparison=comparisons[0], teacher=teacher, arm="designed", slot=1, state="lapsed")
        for _ in range(60)
    )
    Plan.objects.bulk_create(Plan(campaign=campaign, strategy="dual", seed=number) for number in range(60))
    client = sign_in(alice)
    for name, rest in (("offers", "&state=lapsed&teacher=teacher-bob"), ("plans", "")):
        first = client.get(f"{reverse(name, args=[campaign.code])}?{rest}")
        page = first.context["page"]
        keys = [row.pk for row in page.rows]
        assert keys == sorted(keys, reverse=True)
        assert (len(keys), page.next_key) == (50, keys[-1])
        link = f"?before={keys[-1]}{rest}".replace("&", "&amp;")
        assert f'href="{link}"' in first.content.decode(), "the filter goes along"
        with CaptureQueriesContext(connection) as asked:
            second = client.get(f"{reverse(name, args=[campaign.code])}?before={keys[-1]}{rest}").context["page"]
        assert [row.pk for row in second.rows] == list(range(keys[-1] - 1, keys[-1] - 11, -1))
        assert second.next_key is None
        table = "annotation_offer" if name == "offers" else "activelearning_plan"
        said = [one["sql"] for one in asked if f'FROM "{table}"' in one["sql"]]
        assert not [sql for sql in said if "COUNT(" in sql or "OFFSET" in sql]
        assert client.get(f"{reverse(name, args=[campaign.code])}?before=nonsense").status_code == 200
