"""Make the demo campaign on the first start: the project's own sample, an admin, three teachers, and their sign-ins."""

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.management.base import BaseCommand
from django.db import transaction

from annotation.imports import run_import, start_import
from annotation.models import Campaign, GuidelineVersion, Membership, Pool, Role, Teacher, User

SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "conversations.jsonl"
NAME = "Demo"
GUIDELINES = """\
Read the conversation, then the two responses. Choose the one that you would rather have received.

1. **Right before pretty.** A wrong answer in a friendly voice is worse than a right one in a dry voice.
2. **Help before length.** Prefer the response that answers what was asked, in as many words as that takes.
3. **Harm comes last.** A response that helps somebody to hurt themselves or others loses, however good its prose.
4. **Say so when it is even.** *Tie* if you would be as happy with either; *both bad* if with neither.

Say how sure you are: slightly, clearly or much better. Skip what you cannot judge, and tell us why.
"""
PEOPLE = {"alice": "admin and researcher", "bob": "teacher", "carol": "teacher", "dave": "teacher"}


class Command(BaseCommand):
    help = "Make the demo campaign, unless there is any campaign or user already."

    def handle(self, *args: Any, **options: Any) -> None:
        if Campaign.objects.exists() or User.objects.exists():
            return
        passwords = {name: secrets.token_urlsafe(9) for name in PEOPLE}
        with transaction.atomic():
            campaign = create_campaign(passwords)
        with SAMPLE.open("rb") as sample:
            job = start_import(campaign=campaign, name=SAMPLE.name, file=File(sample, name=SAMPLE.name))
        run_import(job.pk)
        write_sign_ins(passwords)


def create_campaign(passwords: dict[str, str]) -> Campaign:
    alice = User.objects.create_superuser("alice", "alice@example.org", passwords["alice"])
    pool = Pool.objects.create(
        name="Demo teachers",
        pay_per_label="0.1000",
        terms="Your answers are used to train a model. You may stop at any time.",
    )
    campaign = Campaign.objects.create(
        name=NAME,
        description="Conversations that come with the platform, in six categories.",
        state=Campaign.State.OPEN,
        created_by=alice,
        dimensions=16,
        repeat_share=0.03,
    )
    campaign.pools.add(pool)
    GuidelineVersion.objects.create(campaign=campaign, version=1, text=GUIDELINES)
    for role in (Role.Name.ADMIN, Role.Name.RESEARCHER):
        Role.objects.create(campaign=campaign, user=alice, name=role)
    for name in [name for name, part in PEOPLE.items() if part == "teacher"]:
        user = User.objects.create_user(name, f"{name}@example.org", passwords[name])
        teacher = Teacher.objects.create(user=user)
        Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=pool.terms_version)
    return campaign


def write_sign_ins(passwords: dict[str, str]) -> None:
    """Random passwords, readable by the owner of the data folder alone: no two demos share a secret."""
    path = settings.ENV.data / "demo-sign-ins.txt"
    path.touch(mode=0o600)
    path.write_text("".join(f"{name:<6} {password}   ({PEOPLE[name]})\n" for name, password in passwords.items()))
