"""Policies where the storage is no disk of this machine: kept, handed out, used again, and checked."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, default_storage
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, User
from tests.training.test_train_run import SMALL, perform_now
from training.algorithms.artifact import Refused
from training.algorithms.config import TrainingConfig
from training.models import Policy, Run, Work
from training.pipeline.generation import folder_of
from training.services.runs import start_run
from training.storage import files_of

CONFIG = TrainingConfig(method="dpo", **{**SMALL, "max_steps": 2, "evaluation_prompts": 0})


class Bucket(Storage):
    """Files by name and nothing else: no path of theirs is on this machine."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def _open(self, name: str, mode: str = "rb") -> File:
        return File(io.BytesIO(self.files[name]), name)

    def _save(self, name: str, content: Any) -> str:
        self.files[name] = content.read()
        return name

    def exists(self, name: str) -> bool:
        return name in self.files

    def delete(self, name: str) -> None:
        self.files.pop(name, None)


@pytest.fixture
def bucket(settings: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tests.training.test_storage.Bucket"},
    }


@pytest.fixture
def policy(bucket: None, labelled: Campaign) -> Policy:
    run = perform_now(start_run(campaign=labelled, config=CONFIG, is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    return run.policy


def test_a_finished_policy_lies_in_the_storage_and_no_longer_in_the_runs_folder(policy: Policy, settings: Any) -> None:
    assert not (Path(settings.MEDIA_ROOT) / policy.run.folder / "policy").exists()
    for name, entry in policy.manifest["files"].items():
        with default_storage.open(f"{policy.folder}/{name}") as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == entry["sha256"], name
    with default_storage.open(f"{policy.folder}/manifest.json") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == policy.digest


def test_the_download_comes_from_the_storage(policy: Policy, alice: User, client: Client) -> None:
    client.force_login(alice)
    address = reverse("policy_download", args=[policy.campaign.code, policy.code])
    with zipfile.ZipFile(io.BytesIO(b"".join(client.get(address).streaming_content))) as archive:
        assert len(archive.namelist()) == len(files_of(policy.manifest))
        assert archive.testzip() is None
    default_storage.delete(f"{policy.folder}/manifest.json")
    assert client.get(address).status_code == 404


def test_a_policy_is_fetched_once_and_refused_if_it_is_not_what_was_recorded(policy: Policy) -> None:
    folder = folder_of(policy)
    assert folder_of(policy) == folder
    (folder / "config.json").write_text("{}")
    with pytest.raises(Refused, match=r"config\.json"):
        folder_of(policy)


def test_a_run_starts_from_a_policy_in_the_storage(policy: Policy, labelled: Campaign) -> None:
    heir = perform_now(start_run(campaign=labelled, config=CONFIG, is_forced=True, parent=policy))
    assert (heir.state, heir.reason) == (Work.State.DONE, "")
    assert heir.policy.manifest["lineage"]["parent"] == str(policy.code)


def test_a_death_between_the_storage_and_the_row_leaves_one_policy(
    bucket: None, labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    with monkeypatch.context() as patched:
        patched.setattr("training.pipeline.work.store_policy", lambda *a, **k: 1 / 0)
        perform_now(run)
    folder = f"{run.folder}/policy"
    default_storage.delete(f"{folder}/choices.jsonl")
    default_storage.save(f"{folder}/choices.jsonl", ContentFile(b"half of it"))
    Run.objects.filter(pk=run.pk).update(state=Work.State.WAITING)
    policy = perform_now(run).policy
    with default_storage.open(f"{policy.folder}/choices.jsonl") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == policy.manifest["files"]["choices.jsonl"]["sha256"]
    assert {name for name in default_storage.files if name.startswith(folder)} == {
        f"{folder}/{name}" for name in files_of(policy.manifest)
    }
