"""A campaign that is deleted leaves none of its texts and arrays behind, on a disk or in a bucket."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from activelearning.models import Plan
from activelearning.pipeline import refit
from annotation.models import Campaign, ImportJob, User
from annotation.services.deletion import delete_campaign
from tests.training.conftest import stored
from tests.training.test_train_run import perform_now
from training.algorithms.config import TrainingConfig
from training.models import Generation, LabelSet, Policy, Work
from training.services.runs import start_run
from training.storage import files_of


@pytest.fixture(params=["disk", "bucket"])
def storage(request: pytest.FixtureRequest, settings: Any) -> str:
    if request.param == "bucket":
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "tests.training.test_storage.Bucket"}}
    return str(request.param)


@pytest.fixture
def archived(storage: str, labelled: Campaign, settings: Any) -> Campaign:
    """Imported, estimated, planned, trained on and generated from; then archived."""
    ImportJob.objects.create(campaign=labelled, name="x.jsonl", file=ContentFile(b"{}", name="x.jsonl"))
    refit(labelled.pk)
    Plan.objects.create(campaign=labelled, estimate=None, strategy="x", seed=0, inputs=stored())
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    generation = Generation.objects.create(policy=run.policy, prompts=1)
    log = Path(settings.MEDIA_ROOT) / "runs" / str(generation.code) / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("what was generated")
    Campaign.objects.filter(pk=labelled.pk).update(state=Campaign.State.ARCHIVED)
    labelled.refresh_from_db()
    return labelled


def kept(settings: Any) -> set[str]:
    """Every file on the disk, and in the bucket where there is one."""
    media = Path(settings.MEDIA_ROOT)
    return {str(path.relative_to(media)) for path in media.rglob("*") if path.is_file()} | set(
        getattr(default_storage, "files", ())
    )


def test_no_file_outlives_its_campaign(
    archived: Campaign, alice: User, settings: Any, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    policy = Policy.objects.get()
    before = kept(settings)
    assert {path.split("/")[0] for path in before} == {
        "estimates", "features", "imports", "label_sets", "plans", "projections", "runs"
    }  # fmt: skip
    assert {f"{policy.folder}/{name}" for name in files_of(policy.manifest)} <= before
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        delete_campaign(campaign=archived, user=alice, confirmed_name=archived.name)
    assert not LabelSet.objects.exists()
    assert kept(settings) == before, "nothing goes before the rows are gone for good"
    for _again in range(2):
        for callback in callbacks:
            callback()
    assert kept(settings) == set()
