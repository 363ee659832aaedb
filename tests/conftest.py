"""The cast: Alice owns, Bob teaches, Charlie is a stranger. And a small campaign for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client

from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    GuidelineVersion,
    Membership,
    Pool,
    Response,
    Role,
    Teacher,
    User,
)

CAMPAIGN = 1_000_000
"""The campaign's primary key: out of the way of those that a database counts out."""


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any) -> None:
    """Pages are tested without a collected, hashed set of static files."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def caches_of_this_process(settings: Any) -> None:
    """Tests run beside each other on one Redis, with the same keys in databases of their own; each begins with none."""
    memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {name: {**memory, "LOCATION": name} for name in settings.CACHES}
    for one in caches.all(initialized_only=False):
        one.clear()


@pytest.fixture(autouse=True)
def files_in_a_folder(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"


@pytest.fixture(autouse=True)
def sent_tasks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """Tasks that views send are listed instead of sent: what a task does is tested where it stands."""
    from celery import Celery
    from celery.app.task import Task

    sent: list[tuple[str, tuple[Any, ...]]] = []

    def send_task(self: Celery, name: str, args: Any = None, **options: Any) -> None:
        sent.append((name, tuple(args or ())))

    def apply_async(self: Task, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        sent.append((self.name, tuple(args or ())))

    monkeypatch.setattr(Celery, "send_task", send_task)
    monkeypatch.setattr(Task, "apply_async", apply_async)
    return sent


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", "alice@example.org", "correct horse")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", "bob@example.org", "correct horse")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_user("charlie", "charlie@example.org", "correct horse")


@pytest.fixture
def sign_in(client: Client) -> Callable[[User], Client]:
    def sign_in_as(user: User) -> Client:
        client.force_login(user)
        return client

    return sign_in_as


@pytest.fixture
def pool(db: None) -> Pool:
    return Pool.objects.create(name="The first pool", pay_per_label="0.10")


@pytest.fixture
def campaign(alice: User, pool: Pool) -> Campaign:
    """An open campaign, always of the same number: the plans draw from it, whichever tests came before."""
    campaign = Campaign.objects.create(
        pk=CAMPAIGN,
        name="Helpful answers",
        state=Campaign.State.OPEN,
        created_by=alice,
        rationality_mode="known",
        holdout_share=0,
    )
    campaign.pools.add(pool)
    GuidelineVersion.objects.create(campaign=campaign, version=1, text="Prefer the response that **helps** more.")
    Role.objects.create(campaign=campaign, user=alice, name=Role.Name.ADMIN)
    return campaign


@pytest.fixture
def teacher(bob: User, pool: Pool) -> Teacher:
    """Bob, at work."""
    teacher = Teacher.objects.create(user=bob, pseudonym="teacher-bob")
    Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)
    return teacher


def add_conversations(
    campaign: Campaign, count: int, *, responses: int = 2, category: str = "coding"
) -> list[Comparison]:
    """So many conversations with so many responses each, every pair of which is a comparison."""
    comparisons = []
    start = Conversation.objects.filter(campaign=campaign).count()
    for number in range(start, start + count):
        conversation = Conversation.objects.create(
            campaign=campaign,
            digest=f"{number:064x}",
            messages=[{"role": "user", "content": f"How do I reverse list number {number} in Python?"}],
            category=category,
        )
        answers = [
            Response.objects.create(
                conversation=conversation,
                digest=f"{place:064x}",
                messages=[{"role": "assistant", "content": f"Answer {place}: use `numbers[::-1]`, {number} times."}],
            )
            for place in range(responses)
        ]
        comparisons += [
            Comparison.objects.create(campaign=campaign, conversation=conversation, a=a, b=b, category=category)
            for index, a in enumerate(answers)
            for b in answers[index + 1 :]
        ]
    Campaign.objects.filter(pk=campaign.pk).update(
        conversation_count=start + count, comparison_count=Comparison.objects.filter(campaign=campaign).count()
    )
    return comparisons


@pytest.fixture
def comparisons(campaign: Campaign) -> list[Comparison]:
    return add_conversations(campaign, 3)


@pytest.fixture(scope="session")
def delete_output_dir() -> None:
    """pytest-playwright's own would throw the browser tests' pictures away at the start of whatever runs after them."""
