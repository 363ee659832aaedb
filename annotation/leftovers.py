"""Files that no row names, or none yet: each is written down first, so that a killed process leaves none for good.

A storage knows no transactions. A file is noted before it is stored, and kept in the transaction of the row that names
it; it is noted again in the transaction after which no row does, and discarded after that. What stays noted goes.
"""

import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from django.apps import AppConfig
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import models, transaction
from django.db.models.signals import post_delete
from django.utils import timezone

log = structlog.get_logger(__name__)

DUE = timedelta(days=1)
"""No task that stores a file takes so long."""
AT_ONCE = 500
"""Files in one look, which a bucket is asked for one by one; the beat comes again."""


def forget_files_of(app: AppConfig) -> None:
    """Called when the app is ready: every model of it that has a file gives it up with its row."""
    for model in app.get_models():
        if any(isinstance(field, models.FileField) for field in model._meta.concrete_fields):
            post_delete.connect(forget_files, sender=model, dispatch_uid=f"files of {model._meta.label}")


def forget_files(*, sender: type[models.Model], instance: models.Model, **_signal: Any) -> None:
    for field in sender._meta.concrete_fields:
        if isinstance(field, models.FileField) and (file := getattr(instance, field.attname)):
            forget(file.name)


def note(name: str) -> str:
    """A file that no row names, or a folder of the disk, which ends in a slash. Committed before it is stored."""
    _leftovers().get_or_create(name=name)
    return name


def keep(name: str) -> None:
    """In the transaction of the row that names the file. raises Leftover.DoesNotExist where it was given up"""
    _leftovers().get(name=name).delete()


def forget(name: str) -> None:
    """In the transaction after which no row names it. What the storage does not give up is logged, and tried again."""
    transaction.on_commit(partial(discard, note(name)), robust=True)


def discard(name: str) -> None:
    """A file that is gone already is no error."""
    if name.endswith("/"):
        with suppress(FileNotFoundError):
            shutil.rmtree(Path(settings.MEDIA_ROOT) / name)
    else:
        default_storage.delete(name)
    _leftovers().filter(name=name).delete()


def discard_overdue(*, now: datetime | None = None) -> None:
    """What a killed process left between a file and its row, or between a commit and a file's deletion."""
    now = now or timezone.now()
    overdue = _leftovers().filter(since__lt=now - DUE).order_by("since", "id")
    for name in list(overdue.values_list("name", flat=True)[:AT_ONCE]):
        try:
            discard(name)
        except Exception as error:  # a bucket raises kinds of its own; the rest go on, and this one tomorrow
            _leftovers().filter(name=name).update(since=now)
            log.warning("leftover_not_discarded", name=name, reason=str(error))


def _leftovers() -> models.Manager[Any]:
    from annotation.models import Leftover  # the apps call this module before their models are there

    return Leftover._default_manager
