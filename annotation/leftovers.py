"""Files of rows that are gone: whatever deletes a row, its files go from the storage once that is committed."""

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.db import models, transaction
from django.db.models.signals import post_delete


def forget_files_of(app: AppConfig) -> None:
    """Called when the app is ready: every model of it that has a file gives it up with its row."""
    for model in app.get_models():
        if any(isinstance(field, models.FileField) for field in model._meta.concrete_fields):
            post_delete.connect(forget_files, sender=model, dispatch_uid=f"files of {model._meta.label}")


def forget_files(*, sender: type[models.Model], instance: models.Model, **_signal: Any) -> None:
    """A file that is gone already is no error; one that the storage does not give up is logged, and the rest go on."""
    for field in sender._meta.concrete_fields:
        if isinstance(field, models.FileField) and (file := getattr(instance, field.attname)):
            transaction.on_commit(partial(file.storage.delete, file.name), robust=True)
