"""What the main process of a run makes and all of its processes use: a sealed folder, kept for a resumption too."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from training.algorithms import artifact
from training.algorithms.policy import Job, is_main_process

LOOK = 0.5  # seconds


def made_once(job: Job, kind: str, make: Callable[[Path], None]) -> Path:
    """The run's folder `kind`: as an earlier attempt left it, else made by the main process.

    The other processes look for it. In a collective operation they would wait ten minutes and give up, and sampling
    takes hours.

    make    fills the new folder it is given
    raises  Cancelled, TimeLimitReached; artifact.Refused the folder belongs to another run; what `make` raises
    """
    folder = job.folder / kind
    while not _is_made(folder, job, kind):
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            artifact.seal(folder, kind=kind, content=job.identity)
        else:
            job.check()
            time.sleep(LOOK)
    return folder


def _is_made(folder: Path, job: Job, kind: str) -> bool:
    try:
        artifact.verify(folder, kind=kind, expect=job.identity)
    except artifact.NotFinished:
        return False
    return True
