"""A sealed folder is believed only whole, unchanged and in its own place."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.algorithms.artifact import MANIFEST, NotFinished, Refused, file_digest, publish, seal, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy" / "inner").mkdir(parents=True)
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"weights" * 100)
    (tmp_path / "policy" / "inner" / "config.json").write_text("{}")
    seal(tmp_path / "policy", kind="policy", content={"label_set": "a", "steps": 3})
    return tmp_path / "policy"


def test_a_whole_folder_gives_back_what_was_sealed(folder: Path) -> None:
    manifest = verify(folder, kind="policy", expect={"label_set": "a"}, digest=file_digest(folder / MANIFEST))
    assert manifest["steps"] == 3
    assert set(manifest["files"]) == {"model.safetensors", "inner/config.json"}


def poison(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[10] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def truncate(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def remove(folder: Path) -> None:
    (folder / "inner" / "config.json").unlink()


def add(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("print('run me')")


def link(folder: Path) -> None:
    (folder / "inner" / "config.json").unlink()
    (folder / "inner" / "config.json").symlink_to("/etc/hostname")


def garble(folder: Path) -> None:
    (folder / MANIFEST).write_text("{not json")


def strip(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"format": "tutelage/1", "kind": "policy", "files": {"x": "y"}}))


@pytest.mark.parametrize("harm", [poison, truncate, remove, add, link, garble, strip], ids=lambda harm: harm.__name__)
def test_a_harmed_folder_is_refused(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder)
    with pytest.raises(Refused):
        verify(folder, kind="policy")


def test_a_pickle_is_refused_even_where_the_manifest_names_it(tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(b"anything")
    seal(tmp_path, kind="checkpoint", content={})
    with pytest.raises(Refused, match="never loaded"):
        verify(tmp_path, kind="checkpoint")


def test_a_foreign_folder_is_refused(folder: Path) -> None:
    with pytest.raises(Refused, match="label_set"):
        verify(folder, kind="policy", expect={"label_set": "b"})
    with pytest.raises(Refused, match="not a checkpoint"):
        verify(folder, kind="checkpoint")
    with pytest.raises(Refused, match="not the one that was recorded"):
        verify(folder, kind="policy", digest="0" * 64)


def test_a_folder_without_manifest_was_not_finished(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(NotFinished):
        verify(folder, kind="policy")


def test_publishing_replaces_the_old_policy_in_one_step(folder: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "policy.partial"
    fresh.mkdir()
    (fresh / "model.safetensors").write_bytes(b"new")
    seal(fresh, kind="policy", content={"label_set": "a"})
    publish(fresh, folder)
    assert (folder / "model.safetensors").read_bytes() == b"new"
    assert not (folder / "inner").exists()
    assert not fresh.exists()
