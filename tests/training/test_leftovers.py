"""Files that no row names, as a killed process leaves them, go from a disk or a bucket when they are a day old."""

import os
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
from annotation.leftovers import forget_unnamed
from annotation.models import Campaign, ImportJob, Label, User
from annotation.services.deletion import delete_campaign
from annotation.tasks import forget_unnamed as forget_now
from annotation.tasks import reconcile
from tests.training.test_deletion import archived, kept, storage
from tests.training.test_train_run import perform_now
from training.algorithms.config import TrainingConfig
from training.datasets import frozen
from training.datasets.erasing import erase_withdrawn
from training.datasets.frozen import freeze
from training.models import LabelSet, Policy
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


def look_through(*, days: float) -> None:
    forget_unnamed(now=timezone.now() + timedelta(days=days))


def label_set_files(settings: Any) -> set[str]:
    return {name for name in kept(settings) if name.startswith("label_sets/")}


def withdraw_all() -> None:
    Label.objects.update(state=Label.State.WITHDRAWN, changed_at=timezone.now())


def test_before_anything_is_stored_there_is_nothing_to_do() -> None:
    look_through(days=2)


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
    look_through(days=0.9)
    assert old in label_set_files(settings), "a row may yet come to name it"
    look_through(days=1.1)
    assert label_set_files(settings) == {label_set.file.name}


def test_texts_go_that_were_frozen_by_a_process_that_died_before_their_row(
    stored: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frozen.LabelSet.objects, "create", kill)
        with pytest.raises(Killed):
            freeze(stored)
    assert len(label_set_files(settings)) == 1
    look_through(days=1.1)
    assert not label_set_files(settings)


def test_what_a_row_names_stays(archived: Campaign, settings: Any) -> None:
    before = kept(settings)
    look_through(days=400)
    assert kept(settings) == before


def test_a_deleted_campaign_leaves_nothing_behind_though_its_process_died(
    archived: Campaign, alice: User, settings: Any, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=False):
        delete_campaign(campaign=archived, user=alice, confirmed_name=archived.name)
    assert kept(settings)
    look_through(days=1.1)
    assert kept(settings) == set()


def test_a_policy_that_was_fetched_goes_with_its_row(stored: Campaign, settings: Any) -> None:
    run = perform_now(start_run(campaign=stored, config=TrainingConfig(method="rerank"), is_forced=True))
    fetched = [Path(settings.MEDIA_ROOT) / "fetched" / str(code) / "x" for code in (run.policy.code, run.code)]
    for file in fetched:
        file.parent.mkdir(parents=True)
        file.touch()
    look_through(days=1.1)
    assert [file.exists() for file in fetched] == [True, False]
    assert Policy.objects.exists()


def test_a_file_that_the_storage_does_not_give_up_keeps_none_of_the_rest(
    stored: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {start_import(campaign=stored, name="x", file=ContentFile(b"{}")).file.name for _upload in range(5)}
    ImportJob.objects.all().delete()  # what follows the commit of it never comes in this test
    held, kind = min(names), default_storage._wrapped.__class__  # type: ignore[attr-defined]
    delete = kind.delete
    with monkeypatch.context() as patch:
        patch.setattr(kind, "delete", lambda self, name: kept_back() if name == held else delete(self, name))
        look_through(days=1.1)
    assert {name for name in names if default_storage.exists(name)} == {held}


def kept_back() -> None:
    raise PermissionError("denied")


def test_the_beat_looks_once_an_hour(labelled: Campaign, sent_tasks: list[tuple[str, tuple[Any, ...]]]) -> None:
    cache.clear()
    for _beat in range(3):
        reconcile()
    assert [name for name, _arguments in sent_tasks].count("annotation.forget_unnamed") == 1
    forget_now()


def test_a_database_that_is_not_restored_yet_keeps_the_files(labelled: Campaign) -> None:
    """They are older than it is."""
    label_set = freeze(labelled)
    os.utime(label_set.file.path, (0, 0))
    LabelSet.objects.all().delete()
    look_through(days=400)
    assert default_storage.exists(str(label_set.file.name))
