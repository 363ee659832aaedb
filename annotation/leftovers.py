"""Files of rows that are gone: they go from the storage with their rows; what a killed process left, by the clock."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from random import sample
from typing import Any

import structlog
from django.apps import AppConfig
from django.core.files.storage import FileSystemStorage, Storage, default_storage
from django.db import models, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Min
from django.db.models.signals import post_delete
from django.utils import timezone

log = structlog.get_logger(__name__)

UNNAMED_AFTER = timedelta(days=1)
"""A file is stored before its row, by a task of six hours at most: one that no row names by then has lost it."""
AT_ONCE = 500
"""Files in one look, which a bucket is asked about one by one; the beat comes again."""

Names = Callable[[], Iterable[str]]

_named_in: dict[str, list[Names]] = defaultdict(list)  # folder of the storage -> who names files and folders in it


def forget_files_of(app: AppConfig) -> None:
    """Called when the app is ready: every model of it that has a file gives it up with its row."""
    for model in app.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, models.FileField):
                post_delete.connect(forget_files, sender=model, dispatch_uid=f"files of {model._meta.label}")
                claim_folder(str(field.upload_to).rstrip("/"), names=partial(_files_of, model, field.name))


def claim_folder(folder: str, *, names: Names) -> None:
    """In this folder of the storage, what is not among these files, nor in one of these folders, is forgotten."""
    _named_in[folder].append(names)


def forget_files(*, sender: type[models.Model], instance: models.Model, **_signal: Any) -> None:
    """A file that is gone already is no error; one that the storage does not give up is logged, and the rest go on."""
    for field in sender._meta.concrete_fields:
        if isinstance(field, models.FileField) and (file := getattr(instance, field.attname)):
            transaction.on_commit(partial(file.storage.delete, file.name), robust=True)


def forget_unnamed(*, now: datetime | None = None) -> None:
    """What a process left that was killed between a file and its row, or between a commit and a file's deletion.

    A file that is older than the database is another's: a platform that is started before its database is restored
    would throw away everything. In any order, so that what stays does not stand before the rest.
    """
    began = MigrationRecorder.Migration.objects.aggregate(began=Min("applied"))["began"]
    until = (now or timezone.now()) - UNNAMED_AFTER
    for storage in (default_storage, FileSystemStorage()):  # runs work on a disk, wherever the storage is
        found = [file for folder in _named_in for file in _unnamed_in(folder, storage)]
        for file in sample(found, min(len(found), AT_ONCE)):
            try:
                if began < storage.get_modified_time(file) < until:
                    storage.delete(file)
            except Exception as error:  # a bucket raises kinds of its own; the rest go on
                log.warning("file_not_forgotten", file=file, reason=str(error))


def _files_of(model: type[models.Model], field: str) -> Iterable[str]:
    return model._default_manager.exclude(**{field: ""}).values_list(field, flat=True)


def _unnamed_in(folder: str, storage: Storage) -> Iterator[str]:
    named = {name for names in _named_in[folder] for name in names()}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            folders, files = storage.listdir(place)
        except FileNotFoundError:  # nothing was ever stored there, or somebody removes it
            continue
        waiting += {f"{place}/{name}" for name in folders} - named
        yield from {f"{place}/{name}" for name in files} - named
