"""Running work in a child process: its memory goes back, a cancel is a signal, and a death is an exit status."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from training.models import Run, Work
from training.pipeline.forgetting import forget
from training.services import work as services
from training.services.work import KINDS

logger = structlog.get_logger()

ROOT = Path(__file__).resolve().parents[2]
LOOK = 0.5  # seconds between looks at the child
BEAT = 4.0  # seconds between heartbeats, well below services.STALE
PATIENCE = 45.0  # seconds that a child has to save a checkpoint after it was asked to stop
GRACE = timedelta(seconds=60)  # beyond a run's own time limit, before it is ended from outside
TAIL = 16_384  # bytes of the log kept in the row

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
}

Child = subprocess.Popen[bytes]


def supervise(kind: str, pk: int) -> None:
    """Claim the work and see it through: start the child, beat for it, pass on a cancel, start it again if it dies.

    Does nothing when somebody else holds it or it is finished. When this process ends or loses its own parent, the
    child is stopped and the work put back for the next worker.
    """
    work = KINDS[kind].objects.filter(pk=pk).first()
    holder = services.claim(work) if work is not None else None
    if work is None or holder is None:
        return
    status: int | None = None
    try:
        while _is_mine(work, holder):
            if services.is_over_time(work):
                services.finish(work, holder=holder, state=Work.State.FAILED, reason=services.time_is_up(work))
                continue
            if work.attempts > services.ATTEMPTS:
                services.finish(work, holder=holder, state=Work.State.FAILED, reason=_why_given_up(status))
                continue
            with _child(kind, work, holder) as child:
                _follow(child, work, holder)
                status = child.returncode
            if _is_mine(work, holder):  # it ended without saying how
                logger.warning("child died", kind=kind, code=str(work.code), status=status)
                if work.is_cancel_asked:
                    services.finish(work, holder=holder, state=Work.State.CANCELLED)
                else:
                    services.claim_again(work, holder=holder)
    except BaseException:
        services.release(work, holder=holder)
        raise
    if isinstance(work, Run):
        forget(work)


def log_path(work: Work) -> Path:
    return Path(settings.MEDIA_ROOT) / "runs" / str(work.code) / "log.txt"


class Orphaned(Exception):
    """The worker that this process belongs to is gone."""


@contextlib.contextmanager
def _child(kind: str, work: Work, holder: uuid.UUID) -> Any:
    """`python -m training.child KIND CODE HOLDER PARENT` in a session of its own; never left behind."""
    log = log_path(work)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "training.child", kind, str(work.code), str(holder), str(os.getpid())],
            cwd=ROOT,
            env={**QUIET, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        _kill(child)
        child.wait()


def _follow(child: Child, work: Work, holder: uuid.UUID) -> None:
    """Wait for the child's end. A cancel or a passed limit is a SIGTERM, and after `PATIENCE` a SIGKILL."""
    parent, beaten, asked_at = os.getppid(), 0.0, 0.0
    while child.poll() is None:
        if os.getppid() != parent:
            raise Orphaned
        now = time.monotonic()
        if now - beaten >= BEAT:
            beaten = now
            if not _beat(work, holder):
                return  # somebody else holds it: the child finds out by itself, and is killed at any rate
        if asked_at and now - asked_at > PATIENCE:
            _kill(child)
        elif not asked_at and (work.is_cancel_asked or services.is_over_time(work, by=GRACE)):
            asked_at = now
            child.terminate()  # it alone: it passes the word on to what it launched
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=LOOK)
        _refresh_cancel(work)
    _beat(work, holder)


def _beat(work: Work, holder: uuid.UUID) -> bool:
    try:
        return services.beat(work, holder=holder, log=_tail(log_path(work)))
    except DatabaseError as error:  # busy or away for a moment: the next beat tries again
        logger.warning("no heartbeat", code=str(work.code), error=str(error))
        close_old_connections()
        return True


def _is_mine(work: Work, holder: uuid.UUID) -> bool:
    work.refresh_from_db()
    return work.state == Work.State.RUNNING and work.holder == holder


def _refresh_cancel(work: Work) -> None:
    try:
        work.refresh_from_db(fields=["is_cancel_asked"])
    except DatabaseError:
        close_old_connections()


def _kill(child: Child) -> None:
    """The child and its group; processes on other GPUs, which are in none, end by themselves (follow_group)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL))
        return stream.read().decode("utf-8", errors="replace").replace("\x00", "")


def _why_given_up(status: int | None) -> str:
    how = "it left no word"
    if status is not None and status < 0:
        how = f"the last time it was killed by signal {-status} ({signal.Signals(-status).name})"
        if -status == signal.SIGKILL:
            how += ", as a rule for lack of memory"
    elif status:
        how = f"the last time it ended with status {status}"
    return (
        f"The training process died {services.ATTEMPTS} times without getting any further; {how}. "
        "Look at the end of the log, use a smaller batch or model, and resume."
    )
