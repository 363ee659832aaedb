"""How long do the admin's pages take in a campaign of a million comparisons and ten thousand teachers?

    python -m tests.servers python -m benchmarks.admin_pages --comparisons 1000000 --teachers 10000

Pages are asked for through Django's own client, in this process, on whatever DATABASE_URL is (without one: SQLite). The
same pages of a campaign of a thousand comparisons stand beside them: a page whose cost grows shows here. Prints a table
and one last line of JSON: `slowest_ms` and `slowest`, over the pages, `growth`, the largest ratio, and each page.
"""

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from django.test import Client

    from annotation.models import Campaign

WORDS_EVERY = 1000
"""One prompt in so many holds the word that is searched for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1_000_000)
    parser.add_argument("--teachers", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tutelage-pages-") as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        os.environ.update(DATA_FOLDER=folder, SECRET_KEY=secrets.token_urlsafe(48), REQUIRE_SECOND_FACTOR="0")
        django.setup()
        run(options)


def run(options: argparse.Namespace) -> None:

    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    large = measure("large", comparisons=options.comparisons, teachers=options.teachers, times=options.repetitions)
    small = measure("small", comparisons=1000, teachers=20, times=options.repetitions)
    print(f"\n{'page':<28}{'large, ms':>12}{'small, ms':>12}")
    for name, milliseconds in large.items():
        print(f"{name:<28}{milliseconds:>12.1f}{small[name]:>12.1f}")
    slowest = max(large, key=lambda name: large[name])
    print(
        json.dumps(
            {
                "comparisons": options.comparisons,
                "teachers": options.teachers,
                "slowest": slowest,
                "slowest_ms": round(large[slowest], 1),
                "growth": round(max(large[name] / small[name] for name in large), 2),
                "pages_ms": {name: round(milliseconds, 1) for name, milliseconds in large.items()},
            }
        )
    )


def measure(name: str, *, comparisons: int, teachers: int, times: int) -> dict[str, float]:
    """Page -> median milliseconds."""
    from django.test import Client
    from django.urls import reverse

    from annotation.models import Offer, User

    started = time.perf_counter()
    campaign, pool = build(name, comparisons=comparisons, teachers=teachers)
    print(f"{name}: {comparisons:,} comparisons, {teachers:,} teachers in {time.perf_counter() - started:.0f} s")
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(username=f"{name}-admin"))
    here = [campaign.code]
    middle = Offer.objects.filter(campaign=campaign).order_by("pk")[comparisons // 20].comparison
    last = campaign.conversations.order_by("-pk")[5].pk
    first_offer = campaign.offers.order_by("pk")[0].pk
    first_plan = campaign.plans.order_by("pk")[0].pk
    last_teacher = campaign.offers.order_by("-teacher")[0].teacher_id - 20
    last_review = campaign.reviews.filter(is_waiting=True).order_by("-pk")[5].pk
    conversations = reverse("campaign_conversations", args=here)
    pages = {
        "home": reverse("home"),
        "campaigns": reverse("campaigns"),
        "overview": reverse("campaign", args=here),
        "settings": reverse("campaign_settings", args=here),
        "imports": reverse("campaign_imports", args=here),
        "conversations": conversations,
        "conversations, last page": f"{conversations}?after={last}",
        "search, a rare word": f"{conversations}?q=zebra{comparisons // 3 // WORDS_EVERY}x",
        "search, one in a thousand": f"{conversations}?q=platypus",
        "search, in every prompt": f"{conversations}?q=reverse",
        "search, in none": f"{conversations}?q=nowhere",
        "search, a rare word of a response": f"{conversations}?q=quokka{comparisons // WORDS_EVERY // 2}x",
        "search, one response in a thousand": f"{conversations}?q=wombat",
        "search, in every response": f"{conversations}?q=backwards",
        "category, rare": f"{conversations}?category=rare",
        "one conversation": reverse("campaign_conversation", args=[campaign.code, middle.conversation_id]),
        "teachers": reverse("campaign_teachers", args=here),
        "teachers, search": f"{reverse('campaign_teachers', args=here)}?q={name}-17",
        "live queue": reverse("campaign_queue", args=here),
        "reviews": reverse("campaign_reviews", args=here),
        "reviews, last page": f"{reverse('campaign_reviews', args=here)}?after={last_review}",
        "reviews, decided": f"{reverse('campaign_reviews', args=here)}?show=decided",
        "one review": reverse("campaign_review", args=[campaign.code, last_review]),
        "messages": reverse("campaign_messages", args=here),
        "notices": reverse("campaign_notices", args=here),
        "pay": reverse("campaign_ledger", args=here),
        "ledger": reverse("ledger_entries", args=here),
        "roles": reverse("campaign_roles", args=here),
        "webhooks": reverse("campaign_webhooks", args=here),
        "audit trail": reverse("campaign_audit", args=here),
        "pool": reverse("pool", args=[pool.pk]),
        "offers, and why": (offers := reverse("offers", args=here)),
        "offers, last page": f"{offers}?before={first_offer + 20}",
        "offers of a teacher": f"{offers}?teacher={name}-17",
        "offers, in a state of none": f"{offers}?state=lapsed",
        "what each teacher tells": (told := reverse("teachers_rationality", args=here)),
        "what each teacher tells, last page": f"{told}?after={last_teacher}",
        "plans": (plans := reverse("plans", args=here)),
        "plans, last page": f"{plans}?before={first_plan + 20}",
        "runs": reverse("runs", args=here),
        "exports": reverse("exports", args=here),
    }
    found = {}
    for title, address in pages.items():
        assert client.get(address).status_code == 200, title
        found[title] = statistics.median(clock(client, address) for _ in range(times))
    return found


def clock(client: "Client", address: str) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    client.get(address)
    return 1000 * (time.perf_counter() - started)


def build(name: str, *, comparisons: int, teachers: int):  # type: ignore[no-untyped-def]  # models come after setup
    """A third as many conversations of three responses; one comparison in ten is answered; all teachers have queues.

    What is answered is flagged: nine tenths of that wait for a review, the rest is decided.
    """
    from django.db import connection, transaction

    from annotation.models import Campaign, GuidelineVersion, Pool, Role, User

    admin = User.objects.create_user(f"{name}-admin")
    campaign = Campaign.objects.create(
        name=name,
        state="open",
        created_by=admin,
        conversation_count=comparisons // 3,
        comparison_count=comparisons,
        reviews_flags=True,
    )
    pool = Pool.objects.create(name=name, pay_per_label="0.10", created_by=admin)
    campaign.pools.add(pool)
    Role.objects.create(campaign=campaign, user=admin, name="admin")
    GuidelineVersion.objects.create(campaign=campaign, version=1, text="Prefer the better one.")
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements_of(name, campaign.pk, pool.pk, comparisons=comparisons, teachers=teachers):
            cursor.execute(statement)
    add_work(campaign, comparisons=comparisons)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    return campaign, pool


def add_work(campaign: "Campaign", *, comparisons: int) -> None:
    """What the rooms above leave: rationalities of all teachers, a plan for every ten answers, a run and a label set
    for every thousand.
    """
    from activelearning.models import Estimate, Plan, Projection, TeacherRationality
    from training.algorithms.config import TrainingConfig
    from training.models import LabelSet, Run

    projection = Projection.objects.create(campaign=campaign, requested=8, dimensions=8, kept_variance=1, rows=4)
    estimate = Estimate.objects.create(
        campaign=campaign,
        projection=projection,
        label_version=0,
        label_count=0,
        ridge=1,
        log_det=1,
        smallest_eigenvalue=1,
    )
    TeacherRationality.objects.bulk_create(
        [
            TeacherRationality(
                campaign=campaign, teacher_id=teacher, category=category, value=1, error=0.1, estimate=estimate
            )
            for teacher in campaign.offers.order_by().values_list("teacher", flat=True).distinct()
            for category in ("coding", "writing")
        ],
        batch_size=1000,
    )
    Plan.objects.bulk_create(
        [Plan(campaign=campaign, strategy="dual", seed=number) for number in range(comparisons // 100 + 60)],
        batch_size=1000,
    )
    number_of_runs = comparisons // 10_000 + 30
    sets = [
        LabelSet(campaign=campaign, digest=f"{number:064x}", label_count=number, summary={"arm": {}, "held_out": 0})
        for number in range(number_of_runs)
    ]
    LabelSet.objects.bulk_create(sets)
    config = TrainingConfig(method="rerank").to_json()
    Run.objects.bulk_create(
        [Run(campaign=campaign, label_set=one, config=config, method="rerank", state="failed") for one in sets]
    )


def statements_of(name: str, campaign: int, pool: int, *, comparisons: int, teachers: int) -> list[str]:
    """Rows made by the database itself: a million of them go in within a minute or two. `i` counts from 0."""
    from django.db import connection

    is_postgres = connection.vendor == "postgresql"
    base = campaign * 100_000_000
    """Keys of one campaign begin here, so that those of another do not meet them."""
    answered = comparisons // 10
    live = min(4 * teachers, comparisons - answered)
    no, yes = ("false", "true") if is_postgres else ("0", "1")
    now = "now()" if is_postgres else "datetime('now')"
    code = "gen_random_uuid()" if is_postgres else "lower(hex(randomblob(16)))"
    key, teacher = f"{base} + i", f"{base} + i % {teachers}"
    empty, nothing = "'{}'", "'[]'"

    def message(role: str, words: str) -> str:
        text = f"""'[{{"role": "{role}", "content": "' || {words} || '"}}]'"""
        return f"CAST({text} AS jsonb)" if is_postgres else text

    rare = f"CASE WHEN i % {WORDS_EVERY} = 7 THEN ' platypus zebra' || (i / {WORDS_EVERY} + 1) || 'x' ELSE '' END"
    prompt = message("user", f"'How do I reverse list number ' || i || ' in dialect ' || (i % 977) || {rare}")
    said = f"CASE WHEN i % {WORDS_EVERY} = 8 THEN ' wombat quokka' || (i / {WORDS_EVERY}) || 'x' ELSE '' END"
    answer = message("assistant", f"'Answer ' || i || ': slice it backwards, as in numbers[::-1].' || {said}")
    category = "CASE WHEN i % 50000 = 49999 THEN 'rare' WHEN i % 2 = 0 THEN 'coding' ELSE 'writing' END"
    tables: list[tuple[str, int, dict[str, object]]] = [
        ("conversation", comparisons // 3, {
            "campaign_id": campaign, "digest": "'d' || i", "messages": prompt, "category": category,
            "source": "'benchmark'", "external_id": "''", "is_held_out": no, "created_at": now,
        }),
        ("response", comparisons // 3 * 3, {
            "conversation_id": f"{base} + i / 3", "digest": "'d' || i", "messages": answer, "origin": "'imported'",
            "author": "''",
        }),
        ("comparison", comparisons // 3 * 3, {
            "campaign_id": campaign, "conversation_id": f"{base} + i / 3",
            "a_id": f"{base} + 3 * (i / 3) + CASE i % 3 WHEN 2 THEN 1 ELSE 0 END",
            "b_id": f"{base} + 3 * (i / 3) + CASE i % 3 WHEN 0 THEN 1 ELSE 2 END",
            "category": "'coding'", "is_held_out": no, "is_active": yes, "gold_feedback": "''", "is_tutorial": no,
            "priority": 0, "created_at": now,
        }),
        ("teacher", teachers, {
            "code": code, "pseudonym": f"'{name}-' || i", "kind": "'human'",
            "last_seen": f"CASE WHEN i % 10 = 0 THEN {now} END", "working_hours": nothing,
            "declined_warnings": nothing, "endpoint": empty, "external": empty, "created_at": now,
        }),
        ("membership", teachers, {
            "pool_id": pool, "teacher_id": key, "status": "'active'", "label_count": 0, "day_count": 0,
            "categories": nothing, "rationality": empty, "accepted_terms": 1, "joined_at": now,
        }),
        ("enrolment", teachers, {
            "campaign_id": campaign, "teacher_id": key, "stage": "'working'", "label_count": answered // teachers,
            "skip_count": 0, "earned": f"{answered // teachers} * 0.1", "day_count": 0, "joined_at": now,
        }),
        ("offer", answered + live, {
            "code": code, "campaign_id": campaign, "comparison_id": key, "teacher_id": teacher,
            "membership_id": teacher, "arm": "'designed'", "slot": 1, "b_first": no,
            "state": f"CASE WHEN i < {answered} THEN 'answered' ELSE 'queued' END", "rank": "i", "cost": 0.1,
            "created_at": now, "skip_reason": "''",
        }),
        ("label", answered, {
            "campaign_id": campaign, "offer_id": key, "comparison_id": key, "teacher_id": teacher,
            "arm": "'designed'", "b_first": no, "choice": "'first'", "criteria": empty, "reason": "''",
            "is_flagged": no, "seconds": 9, "state": "'current'", "cost": 0.1, "created_at": now, "changed_at": now,
        }),
        ("review", answered, {
            "campaign_id": campaign, "comparison_id": key, "disagrees": no, "is_flagged": yes,
            "is_waiting": f"i >= {answered // 10}", "created_at": now,
        }),
        ("adjudication", answered // 10, {
            "campaign_id": campaign, "comparison_id": key, "verdict": "'a'", "state": "'current'", "created_at": now,
        }),
        ("ledgerentry", answered, {
            "movement": code, "account": "'teacher'", "campaign_id": campaign, "teacher_id": teacher,
            "label_id": key, "amount": 0.1, "currency": "'EUR'", "memo": "''", "created_at": now,
        }),
        ("recordedjudgement", comparisons // 3 * 3, {
            "comparison_id": key, "judge": "'judge ' || (i % 65)", "outcome": 1,
        }),
        ("auditentry", answered // 10 + 60, {
            "campaign_id": campaign, "verb": "'take out'", "object": "'a comparison'", "details": empty,
            "created_at": now,
        }),
        ("message", answered // 20 + 10, {
            "campaign_id": campaign, "teacher_id": teacher, "text": "'Is this right?'",
            "reply": "CASE WHEN i % 100 = 0 THEN '' ELSE 'Yes.' END", "created_at": now,
        }),
    ]  # fmt: skip
    for table, _count, columns in tables:
        columns |= {name: value for name, value in defaults_of(table).items() if name not in columns}
    return [
        f"INSERT INTO annotation_{table} (id, {', '.join(columns)})"
        f" WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
        f" SELECT {key}, {', '.join(map(str, columns.values()))} FROM n"
        for table, count, columns in tables
    ]


def defaults_of(table: str) -> dict[str, str]:
    """Column -> the SQL of its default, for the columns of a table that must hold something."""
    from django.apps import apps
    from django.db import connection

    found = {}
    for field in apps.get_model("annotation", table)._meta.concrete_fields:
        if field.null or field.primary_key or not (field.has_default() or field.empty_strings_allowed):
            continue
        value = field.get_default()
        if isinstance(value, bool) and connection.vendor != "postgresql":
            value = int(value)
        found[field.column] = f"'{json.dumps(value)}'" if isinstance(value, list | dict) else f"'{value}'"
    return found


if __name__ == "__main__":
    main()
