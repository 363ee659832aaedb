"""Every URL x everybody x every method, also with objects of another campaign: only who may gets an answer.

The addresses come from the URL configuration. One that has no rule below, and a rule without an address, fail.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client
from django.urls import URLPattern, reverse

import activelearning.urls
import annotation.urls
import training.urls
from activelearning.models import Estimate, Plan, Projection, TeacherRationality
from annotation.models import (
    Campaign,
    Comparison,
    Enrolment,
    GuidelineVersion,
    ImportJob,
    Invitation,
    Label,
    Membership,
    Message,
    Offer,
    Pool,
    Review,
    Role,
    Teacher,
    User,
    Webhook,
)
from annotation.services.news import news_token
from annotation.services.panels import panel_key
from tests.conftest import add_conversations
from training.algorithms.config import TrainingConfig
from training.datasets.frozen import freeze
from training.models import Generation, Policy, RewardQuestion, Run, StartRule

pytestmark = pytest.mark.django_db

ADDRESSES: list[URLPattern] = [
    *annotation.urls.urlpatterns,
    *activelearning.urls.urlpatterns,
    *training.urls.urlpatterns,
]
METHODS = ("GET", "POST", "PUT", "DELETE")
CAST = ("anonymous", "stranger", "admin elsewhere", "teacher", "reviewer", "researcher", "admin", "superuser")

SIGNED_IN = frozenset(CAST) - {"anonymous"}
STAFF = frozenset({"reviewer", "researcher", "admin", "superuser"})
RESEARCH = frozenset({"researcher", "admin", "superuser"})
REVIEW = frozenset({"reviewer", "admin", "superuser"})
ADMIN = frozenset({"admin", "superuser"})
OWNERS = frozenset({"admin", "superuser", "admin elsewhere"})
TEACHER = frozenset({"teacher"})

G, P, GP = frozenset({"GET"}), frozenset({"POST"}), frozenset({"GET", "POST"})

RULES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    **dict.fromkeys(("home", "account", "account_data", "campaigns"), (SIGNED_IN, G)),
    **dict.fromkeys(
        ("account_warnings", "account_languages", "account_news", "account_zone", "account_time_off", "account_hours"),
        (SIGNED_IN, P),
    ),
    "account_withdraw": (TEACHER, GP),
    "terms": (TEACHER, GP),
    # The desk
    **dict.fromkeys(("desk", "desk_next", "desk_guidelines", "desk_history", "desk_summary"), (TEACHER, G)),
    **dict.fromkeys(
        ("desk_answer", "desk_skip", "desk_undo", "desk_read", "desk_terms", "desk_warning", "desk_hide"), (TEACHER, P)
    ),
    **dict.fromkeys(("desk_messages", "desk_shortcuts", "desk_label"), (TEACHER, GP)),
    # Campaigns
    "campaign_create": (OWNERS, GP),
    **dict.fromkeys(("campaign", "campaign_conversations", "campaign_conversation"), (STAFF, G)),
    "campaign_notices": (STAFF, GP),
    **dict.fromkeys(
        ("campaign_settings", "campaign_guidelines", "campaign_delete", "campaign_imports", "campaign_teachers",
         "campaign_teacher", "teacher_withdraw", "withdrawal_effect", "campaign_roles", "campaign_webhooks"),
        (ADMIN, GP),
    ),
    **dict.fromkeys(
        ("campaign_state", "campaign_clone", "campaign_judgements", "conversations_change", "conversation_change",
         "comparison_gold", "queue_withdraw", "message_reply", "ledger_pay", "role_revoke", "role_link",
         "role_link_revoke", "webhook_switch"), (ADMIN, P),
    ),
    **dict.fromkeys(
        ("campaign_import", "campaign_queue", "campaign_messages", "campaign_ledger", "payouts_csv", "ledger_entries",
         "ledger_csv", "campaign_audit"), (ADMIN, G),
    ),
    # Reviews
    "campaign_reviews": (REVIEW, G),
    "campaign_review": (REVIEW, GP),
    "review_undo": (REVIEW, P),
    # Pools
    "pools": (OWNERS, GP),
    **dict.fromkeys(("pool", "pool_member", "pool_models"), (ADMIN, GP)),
    **dict.fromkeys(("pool_invite", "invitation_revoke", "letters_retry", "pool_members", "pool_model"), (ADMIN, P)),
    # The researcher's pages
    **dict.fromkeys(
        ("progress", "progress_plot", "teachers_rationality", "teacher_plot", "offers", "offer", "comparison_history",
         "plans", "plan"), (STAFF, G),
    ),
    "plan_replay": (STAFF, P),
    **dict.fromkeys(("runs", "start_rules", "exports", "reward"), (RESEARCH, GP)),
    **dict.fromkeys(
        ("run", "run_plot", "lineage", "policy", "policy_download", "policy_plot", "export_labels",
         "download_label_set", "export_label_set", "reward_answer"), (RESEARCH, G),
    ),
    **dict.fromkeys(
        ("switch_start_rule", "run_cancel", "run_resume", "policy_generate", "generation_cancel"), (RESEARCH, P)
    ),
}  # fmt: skip
OPEN = {"theme": P, "invitation": GP, "panel": G, "news_stop": GP}
"""Doors for people who have no account yet."""
NEED_AN_OFFER = {"desk_answer", "desk_skip", "desk_warning"}
"""These posts speak of an offer; without one there is nothing to be found."""


@dataclass
class World:
    """A campaign with one of everything, and the people around it."""

    campaign: Campaign
    people: dict[str, User]
    arguments: dict[str, Any]


def build_world(name: str) -> World:
    """One of everything that an address can speak of."""
    people = {who: User.objects.create_user(f"{name}-{who}".replace(" ", "-")) for who in CAST[1:]}
    people["superuser"].is_superuser = True
    people["superuser"].save()
    campaign = Campaign.objects.create(name=name, state=Campaign.State.OPEN, created_by=people["admin"], label_count=1)
    pool = Pool.objects.create(name=f"Pool of {name}", pay_per_label="0.10")
    campaign.pools.add(pool)
    guidelines = GuidelineVersion.objects.create(campaign=campaign, version=1, text="Prefer the better one.")
    roles = {who: Role.objects.create(campaign=campaign, user=people[who], name=who) for who in Role.Name.values}
    Role.objects.create(campaign=campaign, user=people["superuser"], name="admin")  # so that an admin may be let go
    teacher = Teacher.objects.create(user=people["teacher"])
    member = Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1, label_count=1)
    Enrolment.objects.create(
        campaign=campaign, teacher=teacher, stage="working", read_version=guidelines, label_count=1
    )
    comparison = add_conversations(campaign, 2)[0]
    offer = Offer.objects.create(
        campaign=campaign, comparison=comparison, teacher=teacher, membership=member, slot=1, state="answered"
    )
    label = Label.objects.create(
        campaign=campaign, offer=offer, comparison=comparison, teacher=teacher, arm="designed", b_first=False,
        choice="first", guidelines=guidelines,
    )  # fmt: skip
    return World(
        campaign,
        people,
        {
            "code": campaign.code,
            "pool": pool.pk,
            "teacher": teacher.code,
            "model": add_robot(pool).code,
            "member": member.pk,
            "label": label.pk,
            "offer": offer.code,
            "comparison": comparison.pk,
            "conversation": comparison.conversation_id,
            "role": roles["researcher"].pk,
            "job": ImportJob.objects.create(campaign=campaign, name="rows.jsonl").code,
            "message": Message.objects.create(campaign=campaign, teacher=teacher, text="A word.").pk,
            "webhook": Webhook.objects.create(campaign=campaign, url="https://example.org/hook").pk,
            "review": Review.objects.create(campaign=campaign, comparison=comparison).pk,
            "name": "loss",
            "news": news_token(teacher),
            **invitations_of(campaign, pool, people["admin"]),
            **research_of(campaign, comparison, teacher),
        },
    )


def add_robot(pool: Pool) -> Teacher:
    robot = Teacher.objects.create(
        kind="model", endpoint={"base_url": "https://models.example.org/v1", "model": "judge"}
    )
    Membership.objects.create(pool=pool, teacher=robot)
    return robot


def invitations_of(campaign: Campaign, pool: Pool, user: User) -> dict[str, Any]:
    into_pool = Invitation.objects.create(pool=pool, created_by=user, uses_left=100)
    role_link = Invitation.objects.create(campaign=campaign, role="reviewer", created_by=user)
    return {
        "token": into_pool.token,
        "key": panel_key(pool),
        "invitation": into_pool.pk,
        "invitation of a role": role_link.pk,
    }


def research_of(campaign: Campaign, comparison: Comparison, teacher: Teacher) -> dict[str, Any]:
    """An estimate, a plan, a run and a policy, as rows: what they hold is tested in their own rooms."""
    projection = Projection.objects.create(
        campaign=campaign, encoder="test", requested=2, dimensions=2, kept_variance=1.0, file="nowhere", rows=2
    )
    estimate = Estimate.objects.create(
        campaign=campaign, projection=projection, label_version=1, label_count=1, arrays="nowhere", ridge=1.0,
        log_det=1.0, smallest_eigenvalue=1.0,
    )  # fmt: skip
    TeacherRationality.objects.create(campaign=campaign, teacher=teacher, value=1.0, error=0.1, estimate=estimate)
    label_set = freeze(campaign)
    config = TrainingConfig().to_json()
    run = Run.objects.create(campaign=campaign, label_set=label_set, config=config, method="rerank", state="failed")
    policy = Policy.objects.create(run=run, campaign=campaign, folder=f"policies/{run.code}", manifest={"files": {}})
    return {
        "plan": Plan.objects.create(campaign=campaign, estimate=estimate, strategy="dual", seed=1).code,
        "label_set": label_set.pk,
        "kind": "preferences",
        "format": "jsonl",
        "run": run.code,
        "policy": policy.code,
        "generation": Generation.objects.create(policy=policy, prompts=1).code,
        "question": RewardQuestion.objects.create(campaign=campaign, prompt="Why?", responses=["a", "b"]).code,
        "rule": StartRule.objects.create(campaign=campaign, kind="labels", threshold=9, config=config).pk,
    }


NAMES = {"progress_plot": "information", "policy_plot": "curve"}


def address_of(pattern: URLPattern, arguments: dict[str, Any]) -> str:
    name = str(pattern.name)
    wanted = {one: arguments[one] for one in pattern.pattern.converters}
    if "name" in wanted:
        wanted["name"] = NAMES.get(name, wanted["name"])
    if name == "role_link_revoke":
        wanted["invitation"] = arguments["invitation of a role"]
    return reverse(name, kwargs=wanted)


@contextmanager
def undone() -> Iterator[None]:
    """Whatever a request did is as if it had not been."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def ask(client: Client, method: str, address: str) -> HttpResponseBase:
    with undone():
        response = client.generic(method, address)
        if response.streaming:
            b"".join(response.streaming_content)  # type: ignore[arg-type]
        return response


def clients_of(world: World) -> dict[str, Client]:
    clients = {who: Client(raise_request_exception=True) for who in CAST}
    for who, user in world.people.items():
        clients[who].force_login(user)
    return clients


@pytest.fixture
def mine(settings: Any) -> World:
    world = build_world("Mine")
    folder = settings.MEDIA_ROOT / Policy.objects.get(campaign=world.campaign).folder
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return world


@pytest.fixture
def other() -> World:
    return build_world("Other")


@pytest.mark.parametrize("pattern", [one for one in ADDRESSES if one.name in RULES], ids=lambda one: one.name)
def test_only_who_may_gets_an_answer(pattern: URLPattern, mine: World, other: World) -> None:
    name = str(pattern.name)
    allowed, methods = RULES[name]
    elsewhere = Role.objects.get(campaign=other.campaign, name="admin", user=other.people["admin"])
    elsewhere.user = mine.people["admin elsewhere"]
    elsewhere.save()
    address = address_of(pattern, mine.arguments)
    for who, client in clients_of(mine).items():
        for method in METHODS:
            found = ask(client, method, address)
            told = f"{method} {name} as {who}: {found.status_code}"
            if who == "anonymous":
                assert found.status_code == 302, told
                assert found["Location"].startswith(reverse("account_login")), told
            elif who not in allowed:
                assert found.status_code == 404, told
            elif method not in methods:
                assert found.status_code == 405, told
            elif name in NEED_AN_OFFER:
                assert found.status_code in (200, 302, 404), told
            else:
                assert found.status_code in (200, 204, 302, 422), told
                assert ask(client, method, address).status_code == found.status_code, f"{told}, and then another"


SPEAK_OF_SOMETHING = [
    one for one in ADDRESSES if one.name in RULES and set(one.pattern.converters) - {"code", "name", "kind", "format"}
]


@pytest.mark.parametrize("pattern", SPEAK_OF_SOMETHING, ids=lambda one: one.name)
def test_an_object_of_another_campaign_is_not_there(pattern: URLPattern, mine: World, other: World) -> None:
    """Neither under one's own campaign's address, nor under its own."""
    name = str(pattern.name)
    own = {"code"} if "code" in pattern.pattern.converters else {"pool"} & set(pattern.pattern.converters)
    mixed = {
        **other.arguments,
        **({one: mine.arguments[one] for one in own} if len(pattern.pattern.converters) > 1 else {}),
    }
    clients = clients_of(mine)
    for who in RULES[name][0]:
        if who == "superuser" and len(pattern.pattern.converters) == 1:
            continue  # a superuser's pools are all there are
        for method in RULES[name][1]:
            assert ask(clients[who], method, address_of(pattern, mixed)).status_code == 404, f"{method} as {who}"
            if who != "superuser":
                theirs = ask(clients[who], method, address_of(pattern, other.arguments))
                assert theirs.status_code == 404, f"{method} as {who}, under its own campaign"


@pytest.mark.parametrize(
    "pattern", [one for one in ADDRESSES if "code" in one.pattern.converters], ids=lambda one: one.name
)
def test_a_campaign_that_does_not_exist_looks_like_one_of_others(pattern: URLPattern, mine: World) -> None:
    nowhere = address_of(pattern, {**mine.arguments, "code": uuid.uuid4()})
    for who in ("stranger", "admin", "superuser"):
        assert ask(clients_of(mine)[who], "GET", nowhere).status_code == 404


@pytest.mark.parametrize("pattern", [one for one in ADDRESSES if one.name in OPEN], ids=lambda one: one.name)
def test_open_doors_answer_everybody_in_their_verbs_only(pattern: URLPattern, mine: World) -> None:
    address = address_of(pattern, mine.arguments)
    for who, client in clients_of(mine).items():
        for method in METHODS:
            found = ask(client, method, address)
            if method in OPEN[str(pattern.name)]:
                assert found.status_code in (200, 302, 410), f"{method} as {who}"
            else:
                assert found.status_code == 405, f"{method} as {who}"


def test_health_is_no_address_and_answers_everybody_alike(mine: World) -> None:
    """A middleware's, before all addresses: see tests/test_health.py."""
    for who, client in clients_of(mine).items():
        found = {method: client.generic(method, "/health/") for method in METHODS}
        assert {method: answer.status_code for method, answer in found.items()} == {
            "GET": 200, "POST": 405, "PUT": 405, "DELETE": 405,
        }, who  # fmt: skip
        assert not any(answer.content for answer in found.values())


def test_every_address_has_a_rule_and_every_rule_an_address() -> None:
    names = [str(one.name) for one in ADDRESSES]
    assert len(names) == len(set(names))
    assert set(names) == set(RULES) | set(OPEN)
