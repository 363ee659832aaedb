"""Files that no row names, as a killed process leaves them, go from the storage a day later; no others do."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from annotation.imports import start_import
from annotation.leftovers import discard_overdue
from annotation.models import Campaign, ImportJob, Label, Leftover, User
from annotation.services.deletion import delete_campaign
from annotation.tasks import discard_leftovers, reconcile
from tests.training.test_deletion import archived, kept, storage
from tests.training.test_train_run import perform_now
from training.algorithms.config import TrainingConfig
from training.datasets import frozen
from training.datasets.erasing import erase_withdrawn
from training.datasets.frozen import freeze
from training.models import LabelSet
from training.services.runs import start_run

__all__ = ["archived", "storage"]  # fixtures

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """What nothing catches, as nothing runs after a kill -9."""


def kill(*_any: Any, **_things: Any) -> None:
    raise Killed


@pytest.fixture
def stored(storage: str, labelled: Campaign) -> Campaign:
    return labelled


def a_look(*, days: float) -> None:
    discard_overdue(now=timezone.now() + timedelta(days=days))


def label_set_files(settings: Any) -> set[str]:
    return {name for name in kept(settings) if name.startswith("label_sets/")}


def withdraw_all() -> None:
    Label.objects.update(state=Label.State.WITHDRAWN, changed_at=timezone.now())


def test_texts_go_whose_worker_died_before_it_deleted_them(
    stored: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_set = freeze(stored)
    old = str(label_set.file.name)
    withdraw_all()
    with monkeypatch.context() as patch:
        patch.setattr(default_storage._wrapped.__class__, "delete", kill)  # type: ignore[attr-defined]
        with pytest.raises(Killed):
            erase_withdrawn(label_set)
    label_set.refresh_from_db()
    assert label_set_files(settings) == {old, label_set.file.name}
    a_look(days=0.9)
    assert old in label_set_files(settings), "a row may yet come to name it"
    a_look(days=1.1)
    assert label_set_files(settings) == {label_set.file.name}


def test_texts_go_that_were_frozen_by_a_process_that_died_before_their_row(
    stored: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frozen.LabelSet.objects, "create", kill)
        with pytest.raises(Killed):
            freeze(stored)
    assert len(label_set_files(settings)) == 1
    a_look(days=1.1)
    assert not label_set_files(settings)


def test_what_a_row_names_stays(archived: Campaign, settings: Any) -> None:
    before = kept(settings)
    a_look(days=400)
    assert kept(settings) == before


def test_a_deleted_campaign_leaves_nothing_behind_though_its_process_died(
    archived: Campaign, alice: User, settings: Any, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=False):
        delete_campaign(campaign=archived, user=alice, confirmed_name=archived.name)
    assert kept(settings)
    a_look(days=1.1)
    assert kept(settings) == set()


def test_a_policy_that_was_fetched_goes_with_its_row(
    stored: Campaign, settings: Any, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    policy = perform_now(start_run(campaign=stored, config=TrainingConfig(method="rerank"), is_forced=True)).policy
    fetched = Path(settings.MEDIA_ROOT) / "fetched" / str(policy.code) / "x"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    with django_capture_on_commit_callbacks(execute=False):
        policy.delete()
    a_look(days=1.1)
    assert not fetched.exists()


def test_a_file_that_the_storage_does_not_give_up_keeps_none_of_the_rest(
    stored: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {start_import(campaign=stored, name="x", file=ContentFile(b"{}")).file.name for _upload in range(5)}
    ImportJob.objects.all().delete()  # what follows the commit of it never comes in this test
    held, kind = min(names), default_storage._wrapped.__class__  # type: ignore[attr-defined]
    delete = kind.delete
    with monkeypatch.context() as patch:
        patch.setattr(kind, "delete", lambda self, name: kept_back() if name == held else delete(self, name))
        a_look(days=1.1)
    assert {name for name in names if default_storage.exists(name)} == {held}
    a_look(days=2.3)
    assert not default_storage.exists(held)


def kept_back() -> None:
    raise PermissionError("denied")


def test_the_beat_looks_once_an_hour(labelled: Campaign, sent_tasks: list[tuple[str, tuple[Any, ...]]]) -> None:
    cache.clear()
    for _beat in range(3):
        reconcile()
    assert [name for name, _arguments in sent_tasks].count("annotation.discard_leftovers") == 1
    discard_leftovers()


def test_a_database_of_yesterday_keeps_the_files_of_today(stored: Campaign) -> None:
    """Restored from a backup it names no file made since: they may be all that is left of those labels."""
    label_set = freeze(stored)
    LabelSet.objects.all().delete()
    Leftover.objects.all().delete()
    a_look(days=400)
    assert default_storage.exists(str(label_set.file.name))


def test_a_row_cannot_name_a_file_that_was_given_up(stored: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    store = default_storage.save

    def store_for_days(name: str, content: Any) -> str:
        stored_as = store(name, content)
        a_look(days=1.1)
        return stored_as

    monkeypatch.setattr(frozen.default_storage, "save", store_for_days)
    with pytest.raises(Leftover.DoesNotExist):
        freeze(stored)
    assert not LabelSet.objects.exists()
