"""A planner and a teacher as processes of their own, for tests that take the database or the process away.

python -m tests.flows.labelling make      a campaign with a teacher at work
python -m tests.flows.labelling die       plan, and be killed while the offers are being stored
python -m tests.flows.labelling plan      plan every half second until there are offers
python -m tests.flows.labelling race      say "ready"; for each line read plan once, and say which rounds it took
python -m tests.flows.labelling answer    answer what comes, one line for each label that was accepted
"""

import json
import os
import signal
import sys
import time
from typing import Any
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def make() -> None:
    from django.core.management import call_command
    from django.utils import timezone

    from annotation.models import Campaign, GuidelineVersion, Membership, Pool, Teacher
    from tests.conftest import add_conversations

    call_command("migrate", verbosity=0)
    pool = Pool.objects.create(name="The pool")
    campaign = Campaign.objects.create(name="Restarts", state="open", holdout_share=0, queue_depth=20)
    campaign.pools.add(pool)
    GuidelineVersion.objects.create(campaign=campaign, version=1, text="Prefer the better one.")
    teacher = Teacher.objects.create(kind=Teacher.Kind.SIMULATED, last_seen=timezone.now())
    Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)
    add_conversations(campaign, 300)


def die() -> None:
    from activelearning.pipeline import replanning
    from annotation.models import Campaign

    def die_here(**_arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    vars(replanning)["queue_offers"] = die_here
    replanning.replan(Campaign.objects.get().pk)


def plan() -> None:
    from activelearning.pipeline import replan
    from annotation.models import Campaign

    while not replan(Campaign.objects.get().pk):
        time.sleep(0.5)


def race() -> None:
    """Every round is made long enough for the other planner to find the lease taken."""
    from activelearning.pipeline import replanning
    from annotation.models import Campaign

    plan_once, rounds = replanning._plan_once, []

    def plan_slowly(campaign: Campaign, holder: UUID) -> int:
        start = time.monotonic()
        time.sleep(1.5)
        offered = plan_once(campaign, holder)
        rounds.append((start, time.monotonic()))
        return offered

    vars(replanning)["_plan_once"] = plan_slowly
    campaign = Campaign.objects.get()
    print("ready", flush=True)
    for _line in sys.stdin:
        rounds.clear()
        offered = replanning.replan(campaign.pk)
        print(json.dumps({"offered": offered, "rounds": rounds}), flush=True)


def answer() -> None:
    """A database that is away is tried again: the offer is held, and the same answer twice is one label."""
    from django.db import InterfaceError, OperationalError, connection

    from activelearning.pipeline import replan
    from annotation.models import Campaign, Teacher
    from annotation.services.labels import record_label
    from annotation.services.offers import claim_offer

    campaign, teacher = Campaign.objects.get(), Teacher.objects.get()
    while True:
        try:
            offer = claim_offer(campaign=campaign, teacher=teacher)
            if offer is None:
                replan(campaign.pk)
                continue
            label = record_label(offer=offer, choice="first")
            print(label.pk, flush=True)
            time.sleep(0.05)
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.2)


if __name__ == "__main__":
    django.setup()
    {"make": make, "die": die, "plan": plan, "race": race, "answer": answer}[sys.argv[1]]()
