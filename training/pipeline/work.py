"""What the child process does: perform a run or a generation, and say in its row how it ended."""

import json
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from activelearning.algorithms.estimation import DidNotConverge, NotIdentified
from annotation.services.refusals import Refusal
from training.algorithms.artifact import MANIFEST, Refused
from training.algorithms.checkpoints import DiskFull, is_disk_full
from training.algorithms.config import TrainingConfig
from training.algorithms.policy import Cancelled, Diverged, OutOfMemory, TimeLimitReached
from training.algorithms.run import PolicyResult
from training.datasets.frozen import BrokenLabelSet, freeze
from training.models import Generation, LabelSet, Policy, Run, Work
from training.pipeline import preparation
from training.pipeline.contrast import contrast
from training.pipeline.forgetting import has_withdrawn_texts, is_outdated, sweep_scraps
from training.pipeline.generation import answer_prompts, folder_of
from training.pipeline.launch import LaunchFailed, NotShardable, train_here
from training.pipeline.progress import LostHold, Progress
from training.services import work as services
from training.storage import files_of, keep_folder

SENTENCES = (
    preparation.CannotTrain,
    BrokenLabelSet,
    LaunchFailed,
    NotShardable,
    Refused,
    Refusal,
    DiskFull,
    OutOfMemory,
    TimeLimitReached,
    Diverged,
    DidNotConverge,
    NotIdentified,
)
"""Errors whose text is a sentence for whoever started the work."""


def perform(kind: str, *, code: uuid.UUID, holder: uuid.UUID, should_stop: Callable[[], bool]) -> None:
    """Do the work to its end. However it ends, but for a death, the row says so."""
    work: Work = services.KINDS[kind].objects.get(code=code)
    try:
        if isinstance(work, Run):
            train_run(work, holder=holder, should_stop=should_stop)
        else:
            assert isinstance(work, Generation)
            answer_prompts(work, holder=holder, should_stop=should_stop)
    except Cancelled:
        work.refresh_from_db()
        if work.is_cancel_asked:
            services.finish(work, holder=holder, state=Work.State.CANCELLED)
        elif services.is_over_time(work):
            services.finish(work, holder=holder, state=Work.State.FAILED, reason=services.time_is_up(work))
        else:  # the worker is stopping, not the run
            services.release(work, holder=holder)
    except LostHold:
        return
    except Exception as error:
        traceback.print_exc()
        services.finish(work, holder=holder, state=Work.State.FAILED, reason=reason_of(error))


def train_run(run: Run, *, holder: uuid.UUID, should_stop: Callable[[], bool]) -> None:
    """Freeze, fit, train, evaluate, save. Called again after a death it goes on where the last one was."""
    if has_withdrawn_texts(run):
        _forget_progress(run, holder=holder)
    progress = Progress(run, holder=holder)
    folder = Path(settings.MEDIA_ROOT) / run.folder
    if run.label_set is None:
        progress.say("Freezing the labels")
        run.label_set = freeze(run.campaign, user=run.started_by)
        if not services.beat(run, holder=holder, label_set=run.label_set):
            raise LostHold
    progress.say("Fitting the reward")
    data = preparation.prepare(run, label_set=run.label_set, folder=folder)
    config = config_of(run, encoder=data.encoder)
    progress.catch_up(folder)
    try:
        result = train_here(config, data, folder=folder, report=progress, should_stop=should_stop)
    finally:
        progress.write()
    both = contrast(config, data, folder=folder)
    name = f"{run.folder}/{result.folder.name}"
    keep_folder(result.folder, name=name, files=files_of(read_manifest(result.folder)))
    store_policy(run, result, name=name, both=both, holder=holder)
    sweep_scraps(run)


def _forget_progress(run: Run, *, holder: uuid.UUID) -> None:
    """The run is about to begin anew: steps and metrics of what it had are none of the new data's."""
    if not services.beat(run, holder=holder, step=0, furthest=0, attempts=1):
        raise LostHold
    run.metrics.all().delete()
    run.step = 0


def config_of(run: Run, *, encoder: str) -> TrainingConfig:
    """The run's settings, with the encoder of its data; a run with a parent starts from the parent's weights.

    The campaign may have another encoder by now than when the run was asked for, and texts that the run writes are
    scored by theta, which speaks of the features in its data.

    raises  Refused  the parent's folder is not what was recorded
    """
    values = {**run.config, "encoder": encoder}
    if run.parent is not None:
        values["base_model"] = str(folder_of(run.parent))
    return TrainingConfig.from_json(values)


@transaction.atomic
def store_policy(run: Run, result: PolicyResult, *, name: str, both: dict[str, Any], holder: uuid.UUID) -> Policy:
    """The policy's row, and the run done, in one transaction; the sealed folder lies in the storage under its name.

    It is flagged where somebody withdrew since the data were read, or the policy that it started from is. The rows of
    label set and parent are locked meanwhile: an eraser that comes to them later finds the policy to flag, and who
    withdrew before is seen here.
    """
    if not services.finish(run, holder=holder, state=Work.State.DONE):
        raise LostHold
    label_set = LabelSet.objects.select_for_update().get(runs=run)
    parent = Policy.objects.select_for_update().filter(heirs=run).first()
    manifest = read_manifest(result.folder)
    policy, _ = Policy.objects.update_or_create(
        run=run,
        defaults={
            "campaign": run.campaign,
            "folder": name,
            "digest": result.digest,
            "manifest": manifest,
            "certificate": manifest["certificate"] or {},
            "evaluation": {**result.figures, "contrast": both},
            "samples": result.samples,
            "is_flagged": is_outdated(result.folder.parent / "data", label_set=label_set)
            or (parent is not None and parent.is_flagged),
        },
    )
    return policy


def read_manifest(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def reason_of(error: Exception) -> str:
    """A sentence for the page; the whole traceback stands in the log."""
    if is_disk_full(error):
        return f"There is no room on the disk ({error}). Free some and resume: the last checkpoint is kept."
    if isinstance(error, SENTENCES):
        return _sentence(error)
    if isinstance(error, ValueError | OSError):
        return f"{_sentence(error)} Check the settings of the run; the end of the log says where it happened."
    return f"Unexpected {type(error).__name__}: {error}. The end of the log says where it happened."


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
