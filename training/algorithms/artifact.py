"""Folders that can be believed: a manifest with the sha256 of every file, written last, checked before anything loads.

A folder without a manifest was not finished. A file that the manifest does not name, that is missing, shorter or
different, a link, or a pickle where none was promised: the folder is refused. The checksums guard against damage and
mix-ups and against a file swapped in; whoever can rewrite the manifest too is stopped by loading nothing but
safetensors and JSON.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FORMAT = "tutelage/1"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".distcp", ".py")


class Refused(Exception):
    """A folder whose content is not what its manifest says, or that belongs to something else."""


class NotFinished(Refused):
    """A folder without a manifest: whoever wrote it died before the end."""


def file_digest(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, *, kind: str, content: Mapping[str, Any]) -> str:
    """Write the manifest over all files of `folder`, durably and as the last act.

    kind     what the folder holds ("policy", "checkpoint")
    content  JSON that travels with it: config, digests, certificate, lineage
    returns  sha256 of the manifest, the folder's name in a row
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            _sync(path)
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    text = json.dumps({"format": FORMAT, "kind": kind, **content, "files": files}, indent=1, sort_keys=True)
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    partial.replace(folder / MANIFEST)
    _sync(folder)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(
    folder: Path,
    *,
    kind: str,
    expect: Mapping[str, str] | None = None,
    digest: str | None = None,
    pickles: bool = False,
) -> dict[str, Any]:
    """The manifest of a sealed folder, after every file has been checked against it.

    kind     what the folder must hold
    expect   entries that the manifest must carry with exactly these values: a foreign folder is refused
    digest   sha256 that the manifest itself must have, where a row remembers it
    pickles  True allows files that torch reads by unpickling (sharded optimizer states of FSDP)
    raises   NotFinished no manifest; Refused anything else, naming the first file or entry at fault
    """
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise NotFinished(f"{folder.name} has no manifest: it was not finished")
    text = path.read_bytes()
    if digest is not None and hashlib.sha256(text).hexdigest() != digest:
        raise Refused(f"{folder.name}: the manifest is not the one that was recorded")
    manifest = _parse(text, folder)
    if manifest.get("format") != FORMAT or manifest.get("kind") != kind:
        raise Refused(f"{folder.name} is not a {kind} of this format")
    for name, value in (expect or {}).items():
        if manifest.get(name) != value:
            raise Refused(f"{folder.name} is foreign: its {name} is not that of this run")
    _check_files(folder, manifest["files"], pickles=pickles)
    return manifest


def publish(partial: Path, final: Path) -> None:
    """Put a sealed folder in its place in one step, so that nobody sees half of it; an older one is replaced."""
    verify(partial, kind="policy")
    if final.exists():
        shutil.rmtree(final)
    partial.replace(final)
    _sync(final.parent)


def _parse(text: bytes, folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise Refused(f"{folder.name}: the manifest cannot be read") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Refused(f"{folder.name}: the manifest names no files")
    return manifest


def _check_files(folder: Path, files: dict[str, Any], *, pickles: bool) -> None:
    found = set()
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise Refused(f"{folder.name}/{path.relative_to(folder)} is a link")
        if path.is_file():
            found.add(path.relative_to(folder).as_posix())
    extra = sorted(found - set(files) - {MANIFEST})
    if extra:
        raise Refused(f"{folder.name}/{extra[0]} is not in the manifest")
    for name, entry in sorted(files.items()):
        if name not in found:
            raise Refused(f"{folder.name}/{name} is missing")
        if not pickles and Path(name).suffix in PICKLES:
            raise Refused(f"{folder.name}/{name} is of a kind that is never loaded")
        path = folder / name
        if not isinstance(entry, dict) or path.stat().st_size != entry.get("bytes"):
            raise Refused(f"{folder.name}/{name} differs from its checksum")
        if file_digest(path) != entry.get("sha256"):
            raise Refused(f"{folder.name}/{name} differs from its checksum")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
