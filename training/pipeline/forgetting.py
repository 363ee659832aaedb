"""What a run prepared from labels that were withdrawn since: found, and thrown away."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from training.datasets.frozen import withdrawn_labels
from training.models import LabelSet, Run, Work
from training.services import work as services
from training.storage import place_of

SEEN = "withdrawn"
"""A file in the run's data: how many labels of the set were withdrawn when they were read."""
DATA = ("data", "data.partial")
"""What was read from the label set, and the same while it is being written."""
SCRAPS = ("checkpoints", "base", "model", "references", "pairs", "rows", "data")
"""What a finished run leaves behind besides its policy, metrics and log: texts of labels, and weights of theirs."""


def folder_of_run(run: Run) -> Path:
    return Path(settings.MEDIA_ROOT) / run.folder


def count_withdrawn(label_set: LabelSet) -> int:
    return withdrawn_labels(label_set.campaign, label_set.last_label).count()


def is_outdated(data: Path, *, label_set: LabelSet) -> bool:
    """Whether somebody withdrew from the label set since the data in this folder were read from it."""
    seen = data / SEEN
    return not seen.is_file() or int(seen.read_text()) != count_withdrawn(label_set)


def has_withdrawn_texts(run: Run) -> bool:
    """Whether texts or weights in the run's folder come of labels that were withdrawn since."""
    label_set, folders = run.label_set, [folder_of_run(run) / name for name in DATA]
    return label_set is not None and any(one.exists() and is_outdated(one, label_set=label_set) for one in folders)


def start_over(folder: Path, *, but: Path | None = None) -> None:
    """Empty a run's folder `but` for one file: the log, which its supervisor writes.

    The data go last: killed in between, whoever comes next finds them outdated still, and no checkpoint without them.
    """
    for one in sorted(folder.iterdir(), key=lambda path: path.name in DATA):
        if one.is_dir():
            _remove(one)
        elif one != but:
            one.unlink(missing_ok=True)


def sweep_scraps(run: Run) -> None:
    """A finished run is never resumed: its policy lies in the storage, and only what a page shows is kept beside it."""
    is_elsewhere = place_of(f"{run.folder}/policy") is None
    for scrap in (*(["policy"] if is_elsewhere else []), *SCRAPS):
        _remove(folder_of_run(run) / scrap)


def runs_left_behind(label_set: LabelSet) -> Iterator[Run]:
    """Runs on these labels that nobody is at and that keep what was withdrawn, however they came to their end."""
    return (run for run in label_set.runs.exclude(state=Work.State.RUNNING) if has_withdrawn_texts(run))


def forget(run: Run) -> None:
    """A run that nobody is at keeps nothing of what was withdrawn; one that is done, no scraps.

    It swept them itself, unless it died between its last row and that.
    """
    if run.state == Work.State.DONE:
        sweep_scraps(run)
    elif has_withdrawn_texts(run):
        if run.state == Work.State.WAITING:
            _forget_waiting(run)
        elif run.is_finished:
            _forget_all(run)


def _forget_waiting(run: Run) -> None:
    """Held meanwhile, so that no worker takes it up; it begins anew with all its time and attempts."""
    holder = services.claim(run)
    if holder is None:
        return
    _forget_all(run)
    services.beat(run, holder=holder, attempts=0, step=0, furthest=0, started_at=None)
    services.release(run, holder=holder)


def _forget_all(run: Run) -> None:
    folder = folder_of_run(run)
    start_over(folder)
    _remove(folder)


def _remove(folder: Path) -> None:
    """raises  OSError  where it is still there: that somebody else removes it meanwhile is none"""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise OSError(f"{folder} could not be removed")
