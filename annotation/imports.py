"""Conversations from a source into a campaign: started by a page or a command, run and resumed in chunks."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, urlencode

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction
from django.db.models import F, Q
from django.utils import timezone

from annotation.formats.containers import read_hub, read_rows
from annotation.formats.detection import parse_rows
from annotation.formats.types import BadRow, Parsed, ParsedConversation, ParsedVote, Row, UnreadableSource
from annotation.intake import Brought, add_conversations, add_votes
from annotation.leftovers import keep, note
from annotation.models import Campaign, ImportJob, ImportProblem, User
from annotation.services.ordering import add_in_order

SAMPLE = Path(__file__).parent / "sample" / "conversations.jsonl"
"""The project's own sample: 63 conversations in 6 categories."""

CHUNK = 200
"""Rows per transaction: short enough (about 0.1 s) that teachers' labels on SQLite wait unnoticed."""
PROBLEMS_KEPT = 1000
STALE_AFTER = timedelta(seconds=60)
"""A running import that was silent for so long has lost its worker."""
SIGN_OF_LIFE = 2000
"""Rows between two heartbeats where rows are only passed over."""
MOST_ATTEMPTS = 3
"""An import that lost so many workers in one place, and none of them got further, would go on to take them."""

Progress = Callable[[int, int | None], None]
"""Called with what was read and what there is, in bytes of a file, or in rows (and None) of a hub's set."""


class ImportTaken(Exception):
    """Another worker runs this import, or it is finished."""


def start_import(*, campaign: Campaign, name: str, file: File[bytes], user: User | None = None) -> ImportJob:
    """Stores an upload under a generated name; its own name is kept for people only. The caller enqueues the task."""
    stored = default_storage.save(note(f"imports/{uuid.uuid4().hex}"), file)
    with transaction.atomic():
        keep(stored)
        return ImportJob.objects.create(campaign=campaign, name=name[-255:], file=stored, created_by=user)


def start_source_import(*, campaign: Campaign, source: str, user: User | None = None) -> ImportJob:
    """An import from a path on the server or a hub id. For commands only: what a page passed here would be fetched by
    the server. It is the caller's from the start, so that no beat takes it first."""
    return ImportJob.objects.create(
        campaign=campaign, name=source[-255:], source=located(source), created_by=user, state=ImportJob.State.RUNNING
    )


def located(source: str) -> str:
    """A path as it is found from any folder, for the worker that carries on; a hub id as it is."""
    if Path(source).is_file():
        return str(Path(source).resolve())
    name, mark, query = source.partition("?")
    return f"{Path(name).resolve()}{mark}{query}" if Path(name).is_dir() else source


def hub_source(name: str, *, config: str | None = None, split: str | None = None, revision: str | None = None) -> str:
    """How a set on the hub is written as a source: org/name?split=train&config=…"""
    options = {"config": config, "split": split, "revision": revision}
    query = urlencode({key: value for key, value in options.items() if value})
    return f"{name}?{query}" if query else name


def imports_to_run() -> list[int]:
    """Jobs that wait, or whose worker fell silent: what a beat should enqueue."""
    silent = Q(state=ImportJob.State.RUNNING, heartbeat__lt=timezone.now() - STALE_AFTER)
    jobs = ImportJob.objects.filter(silent | Q(state=ImportJob.State.WAITING)).order_by("id")
    return list(jobs.values_list("id", flat=True))


def imports_at_work() -> int:
    """How many are being run by a worker that lives."""
    since = timezone.now() - STALE_AFTER
    return ImportJob.objects.filter(state=ImportJob.State.RUNNING, heartbeat__gte=since).count()


def run_import(job_id: int, *, on_progress: Progress | None = None) -> ImportJob:
    """Runs a waiting job, or carries a silent one on from its last chunk, to done or failed.

    A source that cannot be read on fails the job with the reason; what went in stays. A database that is away leaves
    the job as it stands, for `imports_to_run`. raises ImportTaken.
    """
    job = claim(job_id)
    if job.attempts > MOST_ATTEMPTS:
        finish(job, state=ImportJob.State.FAILED, reason=lost_workers(job))
        return job
    try:
        with open_rows(job, on_progress=on_progress) as rows:
            import_conversations(job=job, rows=rows)
    except UnreadableSource as error:
        finish(job, state=ImportJob.State.FAILED, reason=str(error))
    except (OperationalError, ImportTaken):
        raise
    except Exception as error:
        finish(job, state=ImportJob.State.FAILED, reason=f"Stopped by an error: {type(error).__name__}: {error}")
        raise
    else:
        finish(job, state=ImportJob.State.DONE, reason="")
    return job


def claim(job_id: int) -> ImportJob:
    """By conditional UPDATE: of two workers one runs the job."""
    now = timezone.now()
    silent = Q(state=ImportJob.State.RUNNING) & (Q(heartbeat__lt=now - STALE_AFTER) | Q(heartbeat__isnull=True))
    free = ImportJob.objects.filter(silent | Q(state=ImportJob.State.WAITING), pk=job_id)
    if not free.update(state=ImportJob.State.RUNNING, heartbeat=now, attempts=F("attempts") + 1):
        raise ImportTaken(f"Import {job_id} is run by another worker, or is finished.")
    return ImportJob.objects.select_related("campaign").get(pk=job_id)


def lost_workers(job: ImportJob) -> str:
    return (
        f"Three workers were lost after row {job.rows_read}, as where the memory does not suffice. "
        "Split the file or shorten its rows, and import it again: what went in stays."
    )


def finish(job: ImportJob, *, state: ImportJob.State, reason: str) -> None:
    ImportJob.objects.filter(pk=job.pk).update(state=state, reason=reason, finished_at=timezone.now())
    job.refresh_from_db()


@contextmanager
def open_rows(job: ImportJob, *, on_progress: Progress | None) -> Iterator[Iterator[Row | BadRow]]:
    """The rows of a job's upload, path or hub set. raises UnreadableSource."""
    if job.file.name:
        with default_storage.open(job.file.name) as file:
            yield metered(read_rows(file), file, job.file.size, on_progress)
    elif (path := Path(job.source)).is_file():
        with path.open("rb") as plain:
            yield metered(read_rows(plain), plain, path.stat().st_size, on_progress)
    else:
        name, _, query = job.source.partition("?")
        options = dict(parse_qsl(query))
        rows = read_hub(
            name,
            config=options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
        )
        yield metered(rows, None, None, on_progress)


def metered(
    rows: Iterator[Row | BadRow], file: IO[bytes] | File[bytes] | None, size: int | None, on_progress: Progress | None
) -> Iterator[Row | BadRow]:
    for count, row in enumerate(rows, start=1):
        yield row
        if on_progress and count % CHUNK == 0:
            on_progress(file.tell() if file else count, size)
    if on_progress and size is not None:
        on_progress(size, size)


def import_conversations(*, job: ImportJob, rows: Iterable[Row | BadRow]) -> None:
    """Everything in rows into the job's campaign, a transaction per chunk.

    The job's counters move in the chunk's own transaction, so that a run that died is resumed after the last chunk
    that went in: `rows_read` counts what was parsed (conversations, votes, bad rows). Holds one chunk at a time.
    raises UnreadableSource, ImportTaken.
    """
    found, parsed = parse_rows(rows)
    ImportJob.objects.filter(pk=job.pk).update(format=found.name)
    pass_over(parsed, job=job)
    while chunk := next_chunk(parsed):
        import_chunk(job, chunk.items)
        job.rows_read += len(chunk.items)
        if chunk.error:
            raise chunk.error


def pass_over(parsed: Iterator[Parsed], *, job: ImportJob) -> None:
    """Read on to where the import was broken off. A million rows take minutes, in which the job must not look dead."""
    for start in range(0, job.rows_read, SIGN_OF_LIFE):
        deque(islice(parsed, min(SIGN_OF_LIFE, job.rows_read - start)), maxlen=0)
        touch(job)


def touch(job: ImportJob, **changes: Any) -> None:
    """A sign of life, and what has changed, by condition: a second worker on the same job stops here.

    raises ImportTaken.
    """
    mine = ImportJob.objects.filter(pk=job.pk, state=ImportJob.State.RUNNING, rows_read=job.rows_read)
    if not mine.update(heartbeat=timezone.now(), **changes):
        raise ImportTaken(f"Import {job.pk} was carried on by another worker.")


class Chunk:
    """Up to CHUNK parsed rows, and the error that ended the reading after them."""

    def __init__(self) -> None:
        self.items: list[Parsed] = []
        self.error: UnreadableSource | None = None

    def __bool__(self) -> bool:
        return bool(self.items or self.error)


def next_chunk(parsed: Iterator[Parsed]) -> Chunk:
    """What was read before a source broke off still goes in."""
    chunk = Chunk()
    try:
        chunk.items.extend(islice(parsed, CHUNK))
    except UnreadableSource as error:
        chunk.error = error
    return chunk


@transaction.atomic
def import_chunk(job: ImportJob, chunk: list[Parsed]) -> None:
    """One transaction. The job's row is touched first; the campaign's, which every label needs too, comes last."""
    touch(job, rows_read=job.rows_read + len(chunk), attempts=0)
    add_in_order(job.campaign_id)
    conversations = [item for item in chunk if isinstance(item, ParsedConversation)]
    votes = [item for item in chunk if isinstance(item, ParsedVote)]
    bad = [item for item in chunk if isinstance(item, BadRow)]
    brought = add_conversations(job.campaign, conversations, source=job.name)
    judgements, refused = add_votes(job.campaign, votes)
    note_problems(job, [*bad, *refused])
    count(job, brought, judgements=judgements, problems=len(bad) + len(refused))


def note_problems(job: ImportJob, bad: list[BadRow]) -> None:
    """The first PROBLEMS_KEPT of them, one a line."""
    room = PROBLEMS_KEPT - job.problems.count() if bad else 0
    ImportProblem.objects.bulk_create(
        [ImportProblem(job=job, line=row.line, reason=row.reason[:500]) for row in bad[: max(room, 0)]],
        ignore_conflicts=True,
    )


def count(job: ImportJob, brought: Brought, *, judgements: int, problems: int) -> None:
    ImportJob.objects.filter(pk=job.pk).update(
        conversations_added=F("conversations_added") + brought.conversations,
        conversations_known=F("conversations_known") + brought.known,
        comparisons_added=F("comparisons_added") + brought.comparisons,
        judgements_added=F("judgements_added") + brought.judgements + judgements,
        problem_count=F("problem_count") + problems,
    )
    if brought.conversations or brought.comparisons or judgements:
        Campaign.objects.filter(pk=job.campaign_id).update(
            conversation_count=F("conversation_count") + brought.conversations,
            comparison_count=F("comparison_count") + brought.comparisons,
        )
