"""Finished policies in Django's storage: on a disk they stay where they were made, into a bucket they are copied."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage

from annotation.leftovers import forget
from training.algorithms.artifact import MANIFEST
from training.models import Policy, Work


def files_of(manifest: dict[str, object]) -> list[str]:
    """Names of everything that a sealed folder holds, by its manifest; the manifest comes last."""
    named = manifest.get("files", {})
    assert isinstance(named, dict)
    return [*sorted(named), MANIFEST]


def place_of(name: str) -> Path | None:
    """Where the storage keeps this on a disk of this machine; None for a storage that is elsewhere."""
    try:
        return Path(default_storage.path(name))
    except NotImplementedError:
        return None


def keep_folder(folder: Path, *, name: str, files: Iterable[str]) -> None:
    """Have the files of a folder in the storage, under this name. Done again after a death, they are replaced."""
    place = place_of(name)
    if place is not None and place.resolve() == folder.resolve():
        return
    for one in files:
        stored = f"{name}/{one}"
        if default_storage.exists(stored):
            default_storage.delete(stored)
        with (folder / one).open("rb") as stream:
            default_storage.save(stored, File(stream))


def fetch_folder(name: str, *, files: Iterable[str], into: Path) -> Path:
    """The folder on this machine's disk, fetched once where the storage is elsewhere. Who uses it verifies it."""
    place = place_of(name)
    if place is not None:
        return place
    if not into.exists():
        partial = into.with_name(f"{into.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for one in files:
            (partial / one).parent.mkdir(parents=True, exist_ok=True)
            with default_storage.open(f"{name}/{one}") as stream, (partial / one).open("wb") as target:
                shutil.copyfileobj(stream, target)
        partial.rename(into)
    return into


def forget_work(*, instance: Work, **_signal: Any) -> None:
    """A run or generation that is deleted takes along where it worked: frozen texts, checkpoints, its log."""
    forget(f"runs/{instance.code}/")


def forget_policy(*, instance: Policy, **_signal: Any) -> None:
    """A policy that is deleted takes along its weights, from the storage and from where they were fetched to."""
    for one in files_of(instance.manifest):
        forget(f"{instance.folder}/{one}")
    forget(f"fetched/{instance.code}/")
