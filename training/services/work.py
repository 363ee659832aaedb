"""Who works on a row: claims, heartbeats and ends, for runs and generations alike. Every write asks for the holder."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone
from django.utils.translation import gettext_noop

from annotation.services.notices import post_notice
from training.algorithms.config import out_of_time
from training.models import Generation, Run, Work

KINDS: dict[str, type[Run] | type[Generation]] = {"run": Run, "generation": Generation}

STALE = timedelta(seconds=20)
"""A holder that has not written for so long is taken for dead."""
ATTEMPTS = 3
"""Deaths without any progress between them before the work is given up."""
ENDS: dict[str, str] = {Work.State.DONE: "run_finished", Work.State.FAILED: "run_failed"}
"""Kinds of notice. A cancelled run tells nothing: somebody asked for that."""
LONGEST_REASON = 500
"""Characters of it in a notice; the run has it whole."""


def claim(work: Work) -> uuid.UUID | None:
    """Become the holder of work that waits, or whose holder is dead. None: somebody else has it, or it is finished."""
    now, holder = timezone.now(), uuid.uuid4()
    taken = (
        _rows(work)
        .filter(
            Q(state=Work.State.WAITING)
            | Q(state=Work.State.RUNNING, heartbeat__lt=now - STALE)
            | Q(state=Work.State.RUNNING, heartbeat__isnull=True)
        )
        .update(
            state=Work.State.RUNNING,
            holder=holder,
            heartbeat=now,
            attempts=F("attempts") + 1,
            started_at=Coalesce(F("started_at"), now),
        )
    )
    return holder if taken else None


def claim_again(work: Work, *, holder: uuid.UUID) -> bool:
    """Count another attempt of the same holder, after its child process died."""
    return bool(_held(work, holder).update(heartbeat=timezone.now(), attempts=F("attempts") + 1))


def beat(work: Work, *, holder: uuid.UUID, **written: Any) -> bool:
    """Say that the holder is alive, and write what it has to say. False: the row is somebody else's by now."""
    return bool(_held(work, holder).update(heartbeat=timezone.now(), **written))


def advance(work: Work, *, holder: uuid.UUID, stage: str, step: int, steps: int) -> bool:
    """Say how far it is. Further than ever before: earlier deaths no longer count against it."""
    _held(work, holder).filter(furthest__lt=step).update(attempts=1, furthest=step)
    return beat(work, holder=holder, stage=stage, step=step, steps=steps)


def release(work: Work, *, holder: uuid.UUID) -> bool:
    """Put it back, not finished: the next worker takes it up at its last checkpoint. This was no death."""
    return bool(
        _held(work, holder).update(
            state=Work.State.WAITING, holder=None, heartbeat=None, attempts=Greatest(F("attempts") - 1, 0)
        )
    )


@transaction.atomic
def finish(work: Work, *, holder: uuid.UUID, state: str, reason: str = "") -> bool:
    """End it, by its holder only; the staff hears of a run's end, and so does every webhook that asked."""
    is_mine = _held(work, holder).update(
        state=state, reason=reason, holder=None, heartbeat=None, stage="", finished_at=timezone.now()
    )
    if is_mine and isinstance(work, Run) and state in ENDS:
        _tell_end(work, holder=holder, state=state, reason=reason)
    return bool(is_mine)


def _tell_end(run: Run, *, holder: uuid.UUID, state: str, reason: str) -> None:
    """A run that is resumed has another holder, so that its next end is told as well."""
    method, began = run.get_method_display(), f"{run.created_at:%Y-%m-%d %H:%M}"
    sentence = (
        gettext_noop("The run “%(method)s” of %(began)s is done: its policy can be seen and downloaded.")
        if state == Work.State.DONE
        else gettext_noop("The run “%(method)s” of %(began)s failed. %(reason)s")
    )
    post_notice(
        campaign=run.campaign,
        kind=ENDS[state],
        sentence=sentence,
        key=f"run ended {holder}",
        facts={"run": str(run.code), "method": method, "began": began, "reason": reason[:LONGEST_REASON]},
    )


def ask_to_cancel(work: Work) -> None:
    """Cancel what waits at once; ask the holder of what runs to stop. What is finished stays as it is."""
    _rows(work).filter(state=Work.State.WAITING).update(
        state=Work.State.CANCELLED, is_cancel_asked=True, finished_at=timezone.now()
    )
    _rows(work).filter(state=Work.State.RUNNING).update(is_cancel_asked=True)


def ask_again(work: Work) -> bool:
    """Let failed or cancelled work wait once more: it goes on from its last checkpoint."""
    return bool(
        _rows(work)
        .filter(state__in=(Work.State.FAILED, Work.State.CANCELLED))
        .update(
            state=Work.State.WAITING, is_cancel_asked=False, reason="", attempts=0, finished_at=None, started_at=None
        )
    )


def is_over_time(work: Work, *, by: timedelta = timedelta(0)) -> bool:
    """Whether a run has had its time since it first began, over all attempts, or that and more."""
    limit = time_limit(work)
    return bool(limit and work.started_at and timezone.now() > work.started_at + timedelta(seconds=limit) + by)


def time_limit(work: Work) -> float:
    """Seconds, or 0 for no limit."""
    return float(work.config["time_limit_seconds"]) if isinstance(work, Run) else 0.0


def time_is_up(work: Work) -> str:
    return out_of_time(time_limit(work))


def work_to_do() -> Iterator[tuple[str, int]]:
    """(kind, id) of everything that waits, or whose holder is dead."""
    dead = timezone.now() - STALE
    for kind, model in KINDS.items():
        rows = model._default_manager.filter(
            Q(state=Work.State.WAITING)
            | Q(state=Work.State.RUNNING, heartbeat__lt=dead)
            | Q(state=Work.State.RUNNING, heartbeat__isnull=True)
        )
        for pk in rows.order_by("id").values_list("id", flat=True):
            yield kind, pk


def _rows(work: Work) -> Any:
    return type(work)._default_manager.filter(pk=work.pk)


def _held(work: Work, holder: uuid.UUID) -> Any:
    return _rows(work).filter(state=Work.State.RUNNING, holder=holder)
