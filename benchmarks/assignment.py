"""Is an offer ever doubled, an answer ever lost, a limit ever exceeded, whatever is killed?

Processes that claim, answer, answer twice, skip, abandon, edit and undo for the same teachers at once; planners that
queue and withdraw, sweepers that lapse, an admin who moves the budget; all of them killed -9 at random, and the
database too, once. Every answer that was accepted is written to a journal after the commit; then the rows are
compared with the journals and with each other.

    python -m benchmarks.assignment --requests 100000 --processes 32
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.servers import PATIENCE, PostgresServer

RECORD = struct.Struct("<BBdqq")
"""What a process writes after a request: kind, choice, seconds, offer, label."""
KINDS = ("nothing", "claim", "answer", "skip", "abandon", "edit", "undo", "refused", "planned", "lapsed", "deadlock")
CHOICES = ("first", "second", "tie", "both_bad")
TEACHERS = 96
OVERLAP = 2
LEASE = 3
DEPTH = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="2,000 requests or 15 s of them, whichever comes first")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever stops it gets everything else stopped too
    requests, limit = (2_000, 15.0) if options.quick else (options.requests, 3600.0)

    folder = Path(tempfile.mkdtemp(prefix="tutelage-postgres-", dir="/tmp"))
    server = PostgresServer(folder, durable=True, max_connections=options.processes + 40)
    journals = Path(tempfile.mkdtemp(prefix="tutelage-journals-"))
    try:
        server.create()
        server.start()
        start_django(server.url, journals)
        campaign_id = make_campaign(comparisons=max(2_000, requests // 3))
        begun = time.monotonic()
        kills = run_everybody(
            server,
            journals,
            campaign_id=campaign_id,
            processes=options.processes,
            requests=requests,
            limit=limit,
            seed=options.seed,
        )
        seconds = time.monotonic() - begun
        await_the_killed()
        report(campaign_id, journals, seconds=seconds, kills=kills, processes=options.processes)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(journals, ignore_errors=True)


def start_django(url: str, folder: Path) -> None:
    os.environ.update(
        DATABASE_URL=url, SECRET_KEY="only-for-the-benchmark-of-assignment-00",
        DJANGO_SETTINGS_MODULE="config.settings", DATA_FOLDER=str(folder / "data"),
    )  # fmt: skip
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def make_campaign(*, comparisons: int) -> int:
    """Comparisons, teachers of two pools, and no money yet: the admin brings it while the others run."""
    from annotation.models import Campaign, Comparison, Conversation, Membership, Pool, Response, Teacher

    campaign = Campaign.objects.create(
        name="Killed at random", state="open", overlap_limit=OVERLAP, lease_seconds=LEASE, budget=5, queue_depth=DEPTH
    )
    pools = [Pool.objects.create(name=f"Pool {price}", pay_per_label=price) for price in ("0.0500", "0.1100")]
    campaign.pools.set(pools)
    conversations = Conversation.objects.bulk_create(
        Conversation(campaign=campaign, digest=f"{n:064x}", messages=[{"role": "user", "content": f"Question {n}"}])
        for n in range(comparisons)
    )
    responses = Response.objects.bulk_create(
        Response(conversation=conversation, digest=f"{n:064x}", messages=[{"role": "assistant", "content": f"Yes {n}"}])
        for conversation in conversations
        for n in range(2)
    )
    Comparison.objects.bulk_create(
        Comparison(campaign=campaign, conversation=conversation, a=responses[2 * n], b=responses[2 * n + 1])
        for n, conversation in enumerate(conversations)
    )
    teachers = Teacher.objects.bulk_create(Teacher(kind="simulated", pseudonym=f"teacher-{n}") for n in range(TEACHERS))
    Membership.objects.bulk_create(
        Membership(pool=pools[n % 2], teacher=teacher, accepted_terms=1) for n, teacher in enumerate(teachers)
    )
    return campaign.pk


# The parent -----------------------------------------------------------------------------------------------------------


def run_everybody(
    server: PostgresServer, journals: Path, *, campaign_id: int, processes: int, requests: int, limit: float, seed: int
) -> dict[str, int]:
    """Start them, kill them at random and start others, until so many requests are in the journals."""
    from django.db import connections

    roles = [teach] * processes + [plan] * 2 + [sweep] + [bring_money]
    draw = random.Random(seed)
    kills = {"processes": 0, "database": 0}
    connections.close_all()  # nothing open is inherited by the forks
    children: dict[int, Callable[..., None]] = {}
    number = 0

    def start(role: Callable[..., None]) -> None:
        nonlocal number
        number += 1
        pid = os.fork()
        if pid == 0:
            work(role, journals / f"{number}.journal", campaign_id, seed * 1_000_003 + number)
        children[pid] = role

    for role in roles:
        start(role)
    try:
        begun = time.monotonic()
        next_kill = begun + 1
        while (done := count_requests(journals)) < requests and time.monotonic() - begun < limit:
            time.sleep(0.05)
            is_half_way = done > requests / 2 or time.monotonic() - begun > limit / 2
            if is_half_way and not kills["database"]:
                server.kill()
                server.start()
                kills["database"] += 1
            if time.monotonic() >= next_kill:
                next_kill += draw.uniform(0.1, 0.5)
                victim = draw.choice(list(children))
                os.kill(victim, signal.SIGKILL)
                kills["processes"] += 1
            while True:  # whoever ended, by a kill or by itself, is followed by another
                pid, _status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid in children:
                    start(children.pop(pid))
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return kills


def count_requests(journals: Path) -> int:
    return sum(path.stat().st_size for path in journals.glob("*.journal")) // RECORD.size


def work(role: Callable[..., None], journal: Path, campaign_id: int, seed: int) -> None:
    """A child's life: never returns."""
    from django.db import DatabaseError, InterfaceError, connection

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    out = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    draw = random.Random(seed)
    try:
        while os.getppid() != 1:
            try:
                role(campaign_id, draw, out)
            except (DatabaseError, InterfaceError) as error:
                if "deadlock" in str(error):
                    write(out, "deadlock")
                connection.close()
                time.sleep(0.1)
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(1)


def write(out: int, kind: str, *, choice: str = "first", seconds: float = 0.0, offer: int = 0, label: int = 0) -> None:
    os.write(out, RECORD.pack(KINDS.index(kind), CHOICES.index(choice), seconds, offer, label))


# The children ---------------------------------------------------------------------------------------------------------


def teach(campaign_id: int, draw: random.Random, out: int) -> None:
    """One visit of some teacher: others act for the same one at the same time, as from other tabs."""
    from annotation.models import Campaign, Label, Teacher
    from annotation.services.labels import edit_label, undo_label
    from annotation.services.offers import claim_offer, skip_offer
    from annotation.services.refusals import Refusal

    campaign = Campaign.objects.get(pk=campaign_id)
    teacher = Teacher.objects.get(pseudonym=f"teacher-{draw.randrange(TEACHERS)}")
    begun = time.perf_counter()
    offer = claim_offer(campaign=campaign, teacher=teacher)
    write(out, "claim" if offer else "nothing", seconds=time.perf_counter() - begun)
    if offer is None:
        return
    what = draw.random()
    begun = time.perf_counter()
    try:
        if what < 0.08:
            write(out, "abandon")
        elif what < 0.16:
            skip_offer(offer=offer, reason="unclear")
            write(out, "skip", seconds=time.perf_counter() - begun, offer=offer.pk)
        else:
            choice = draw.choice(CHOICES)
            answer(offer, choice, draw, out)
            if what > 0.97:
                begun = time.perf_counter()
                undone = undo_label(campaign=campaign, teacher=teacher)
                write(out, "undo", seconds=time.perf_counter() - begun, offer=undone.pk if undone else 0)
            elif what > 0.94:
                label = Label.objects.filter(offer=offer, state="current").first()
                if label is not None:
                    choice = draw.choice(CHOICES)
                    begun = time.perf_counter()
                    edited = edit_label(label=label, choice=choice)
                    seconds = time.perf_counter() - begun
                    write(out, "edit", choice=choice, seconds=seconds, offer=offer.pk, label=edited.pk)
    except Refusal:
        write(out, "refused", seconds=time.perf_counter() - begun)


def answer(offer: Any, choice: str, draw: random.Random, out: int) -> None:
    """Submit, now and then late, doubled in two processes at once, or again as after a lost connection."""
    from django.db import InterfaceError, OperationalError, connection

    from annotation.services.labels import record_label

    if draw.random() < 0.02:
        time.sleep(LEASE + 0.2)
    if draw.random() < 0.1:
        connection.close()  # a fork must not share it
        if os.fork() == 0:
            with contextlib.suppress(Exception):
                record_label(offer=offer, choice=choice)
            os._exit(0)
    for attempt in range(20):
        begun = time.perf_counter()
        try:
            label = record_label(offer=offer, choice=choice)
        except (OperationalError, InterfaceError) as error:  # the database went away: was it taken? ask again
            if "deadlock" in str(error):
                write(out, "deadlock")
            connection.close()
            time.sleep(0.2 * (attempt + 1))
            continue
        write(out, "answer", choice=choice, seconds=time.perf_counter() - begun, offer=offer.pk, label=label.pk)
        break
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def plan(campaign_id: int, draw: random.Random, out: int) -> None:
    """Two planners without a lease between them, on purpose: only the constraints keep them apart."""
    from django.db.models import Count

    from annotation.models import Campaign, Comparison, Membership, Offer
    from annotation.services.offers import withdraw_offers
    from annotation.services.queueing import OfferDraft, queue_offers

    campaign = Campaign.objects.get(pk=campaign_id)
    live = dict(
        Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE).values_list("teacher").annotate(count=Count("id"))
    )
    first, last = (Comparison.objects.filter(campaign=campaign).order_by(order).values_list("pk", flat=True).first()
                   for order in ("pk", "-pk"))  # fmt: skip
    assert first is not None
    assert last is not None
    # A window that moves with the work, narrow enough that the slots are fought for.
    start = first + campaign.label_count // OVERLAP
    window = [pk for pk in range(start, start + 400) if pk <= last] or list(range(first, last + 1))
    drafts = []
    for member in Membership.objects.filter(pool__campaigns=campaign).select_related("pool"):
        for _place in range(DEPTH - live.get(member.teacher_id, 0)):
            arm = draw.choices(("designed", "control", "repeat"), (80, 12, 8))[0]
            drafts.append(
                OfferDraft(
                    comparison_id=draw.choice(window), teacher_id=member.teacher_id, membership_id=member.pk, arm=arm,
                    rank=draw.random(), cost=member.pool.pay_per_label, b_first=draw.random() < 0.5,
                )
            )  # fmt: skip
    begun = time.perf_counter()
    if drafts:
        draw.shuffle(drafts)
        queue_offers(campaign=campaign, drafts=drafts[:100])
        write(out, "planned", seconds=time.perf_counter() - begun)
    if draw.random() < 0.2:
        withdraw_offers(offers=Offer.objects.filter(campaign=campaign, state="queued").order_by("?")[:20])
    time.sleep(0.05)


def sweep(campaign_id: int, draw: random.Random, out: int) -> None:
    from annotation.services.offers import lapse_offers

    begun = time.perf_counter()
    if lapse_offers():
        write(out, "lapsed", seconds=time.perf_counter() - begun)
    time.sleep(0.3)


def bring_money(campaign_id: int, draw: random.Random, out: int) -> None:
    """Little by little, so that the budget binds all the time."""
    from django.db.models import F

    from annotation.models import Campaign

    Campaign.objects.filter(pk=campaign_id).update(budget=F("budget") + Decimal(str(round(draw.uniform(1, 8), 2))))
    time.sleep(0.5)


# The judgement --------------------------------------------------------------------------------------------------------


def await_the_killed() -> None:
    """Who was killed in a COMMIT leaves a server process that commits all the same: the rows are read after the last.

    Raises RuntimeError where one stays for longer than any statement takes.
    """
    from django.db import connection

    others = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(others)
            if cursor.fetchone()[0] == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("Somebody is still connected to the database.")


def report(campaign_id: int, journals: Path, *, seconds: float, kills: dict[str, int], processes: int) -> None:
    records = [
        record
        for path in journals.glob("*.journal")
        for record in RECORD.iter_unpack(path.read_bytes()[: path.stat().st_size // RECORD.size * RECORD.size])
    ]
    found = judge(campaign_id, records)
    print(f"{processes} processes, {kills['processes']} killed -9, the database {kills['database']} time(s)")
    print(f"{'':12}{'count':>9}{'median ms':>12}{'p95 ms':>10}")
    for index, kind in enumerate(KINDS):
        times = sorted(record[2] * 1000 for record in records if record[0] == index)
        if times:
            print(f"{kind:12}{len(times):>9}{statistics.median(times):>12.1f}{at(times, 0.95):>10.1f}")
    served = [record for record in records if KINDS[record[0]] in ("claim", "answer", "skip", "edit", "undo")]
    for name, value in found.items():
        print(f"{name:32}{value}")
    print(json.dumps({
        "requests": len(records),
        "requests_per_second": round(len(records) / seconds, 1),
        "p95_ms": round(at(sorted(record[2] * 1000 for record in served), 0.95), 2),
        "killed": kills["processes"],
        "database_killed": kills["database"],
        **found,
    }))  # fmt: skip
    if any(found[name] for name in FAULTS):
        sys.exit(1)


FAULTS = (
    "doubled_offers", "doubled_labels", "lost_answers", "overlap_exceeded", "budget_exceeded", "wrong_counters",
    "unbalanced_movements",
)  # fmt: skip


def at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def judge(campaign_id: int, records: list[Any]) -> dict[str, int]:
    """The rows against the journals and against each other, counted by plain queries, not by the services."""
    from django.db.models import Count, Q, Sum

    from annotation.models import Campaign, Enrolment, Label, LedgerEntry, Membership, Offer
    from annotation.services.ledger import unbalanced_movements

    offers, labels = Offer.objects.filter(campaign=campaign_id), Label.objects.filter(campaign=campaign_id)
    taken, current = offers.filter(state__in=Offer.TAKEN), labels.filter(state="current")

    def above(rows: Any, *fields: str, limit: int = 1) -> int:
        return int(rows.values(*fields).annotate(count=Count("id")).filter(count__gt=limit).count())

    stored = dict(labels.values_list("pk", "choice"))
    accepted = [record for record in records if KINDS[record[0]] in ("answer", "edit")]
    lost = sum(1 for _kind, choice, _time, _offer, label in accepted if stored.get(label) != CHOICES[choice])
    campaign = Campaign.objects.get(pk=campaign_id)

    def total(rows: Any, field: str) -> Decimal:
        return Decimal(rows.aggregate(total=Sum(field))["total"] or 0)

    owed = total(LedgerEntry.objects.filter(campaign=campaign, account="teacher"), "amount")
    counters = {
        "reserved": (campaign.reserved, total(taken.exclude(state="answered"), "cost")),
        "spent": (campaign.spent, total(current, "cost")),
        "ledger": (campaign.spent, owed),
        "labels": (campaign.label_count, current.count()),
        "enrolled": (total(Enrolment.objects.filter(campaign=campaign), "label_count"), current.count()),
        "earned": (total(Enrolment.objects.filter(campaign=campaign), "earned"), campaign.spent),
        "members": (total(Membership.objects, "label_count"), current.count()),
    }
    for name, (kept, counted) in counters.items():
        if kept != counted:
            print(f"counter {name}: kept {kept}, counted {counted}")
    return {
        "accepted_answers": len(accepted),
        "labels": len(stored),
        "doubled_offers": above(taken.exclude(arm="repeat"), "comparison", "teacher")
        + above(taken.filter(arm="repeat"), "comparison", "teacher")
        + above(offers.filter(state="held"), "teacher"),
        "doubled_labels": above(current, "offer")
        + above(current.exclude(arm="repeat"), "comparison", "teacher")
        + offers.filter(state="answered")
        .annotate(n=Count("labels", filter=Q(labels__state="current")))
        .exclude(n=1)
        .count()
        + current.exclude(offer__state="answered").count(),
        "lost_answers": lost,
        "overlap_exceeded": above(taken.filter(arm="designed"), "comparison", limit=OVERLAP)
        + above(taken.filter(arm="control"), "comparison"),
        "budget_exceeded": int(campaign.budget is not None and campaign.reserved + campaign.spent > campaign.budget),
        "wrong_counters": sum(kept != counted for kept, counted in counters.values()),
        "unbalanced_movements": len(unbalanced_movements()),
    }


if __name__ == "__main__":
    main()
