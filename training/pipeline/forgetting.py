"""What a run prepared from labels that were withdrawn since: found, and thrown away."""

import shutil
from pathlib import Path

from django.conf import settings

from training.datasets.frozen import withdrawn_labels
from training.models import LabelSet, Run, Work
from training.services import work as services
from training.storage import place_of

SEEN = "withdrawn"
"""A file in the run's data: how many labels of the set were withdrawn when they were read."""
STOPPED = (Work.State.FAILED, Work.State.CANCELLED)
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
    data = folder_of_run(run) / "data"
    return run.label_set is not None and data.exists() and is_outdated(data, label_set=run.label_set)


def start_over(folder: Path, *, but: Path) -> None:
    """Empty a run's folder `but` for one file: the log, which its supervisor writes.

    The data go last: killed in between, the next attempt finds them outdated still, and no checkpoint without them.
    """
    for one in sorted(folder.iterdir(), key=lambda path: path.name == "data"):
        if one.is_dir():
            shutil.rmtree(one)
        elif one != but:
            one.unlink()


def sweep_scraps(run: Run) -> None:
    """A finished run is never resumed: its policy lies in the storage, and only what a page shows is kept beside it."""
    is_elsewhere = place_of(f"{run.folder}/policy") is None
    for scrap in (*SCRAPS, *(["policy"] if is_elsewhere else [])):
        shutil.rmtree(folder_of_run(run) / scrap, ignore_errors=True)


def forget_stopped(run: Run) -> None:
    """A run that failed or was cancelled keeps nothing of what was withdrawn while it ran; one that is done, no scraps.

    It swept them itself, unless it died between its last row and that.
    """
    if run.state == Work.State.DONE:
        sweep_scraps(run)
    elif run.state in STOPPED and has_withdrawn_texts(run):
        shutil.rmtree(folder_of_run(run), ignore_errors=True)


def forget_runs(label_set: LabelSet) -> None:
    """Runs on these labels that nobody is at lose what they had prepared; a run that goes on, at its end."""
    for run in Run.objects.filter(label_set=label_set).exclude(state=Work.State.RUNNING):
        if run.state == Work.State.WAITING and has_withdrawn_texts(run):
            _forget_waiting(run)
        forget_stopped(run)


def _forget_waiting(run: Run) -> None:
    """Held meanwhile, so that no worker takes it up; it begins anew with all its time and attempts."""
    holder = services.claim(run)
    if holder is None:
        return
    shutil.rmtree(folder_of_run(run), ignore_errors=True)
    services.beat(run, holder=holder, attempts=0, step=0, furthest=0, started_at=None)
    services.release(run, holder=holder)
