"""Freezing: a campaign's labels as canonical JSON lines that are named by what they hold.

A line carries everything that a label means (texts, choice, teacher's pseudonym, arm), so a label set outlives changes
of the database. Its digest is the sha256 over the sha256 of every line: when a teacher withdraws, the line is erased or
gets the new pseudonym, its sha256 stays, and what is left can still be checked against the digest.
"""

import gzip
import hashlib
import json
import tempfile
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import IntegrityError, connection, transaction
from django.db.models import Q, QuerySet

from annotation.leftovers import discard, keep, note
from annotation.models import Adjudication, Campaign, Label, Offer, Response, Teacher, User
from training.models import LabelSet

Line = dict[str, Any]

ARMS = (Offer.Arm.DESIGNED, Offer.Arm.CONTROL, Offer.Arm.GOLD, Offer.Arm.REPEAT)
"""Arms that are frozen; a tutorial's answers were given while learning how to answer."""


class BrokenLabelSet(Exception):
    """A label set whose file is not what its digest says."""


def current_labels(campaign: Campaign) -> QuerySet[Label]:
    """The labels that a freeze takes, oldest first."""
    return (
        Label.objects.filter(campaign=campaign, state=Label.State.CURRENT, arm__in=ARMS)
        .select_related("comparison__conversation", "comparison__a", "comparison__b", "teacher", "guidelines")
        .defer("guidelines__text")
        .order_by("id")
    )


def line_of(label: Label, *, ranked: dict[int, Response] | None = None, adjudicated: str | None = None) -> Line:
    """One label with everything that it means, and nobody's name.

    ranked       the responses that a ranking speaks of, by id
    adjudicated  what a reviewer decided about the comparison: a, b, tie or both_bad
    """
    comparison = label.comparison
    conversation = comparison.conversation
    line: Line = {
        "id": label.pk,
        "conversation": conversation.pk,
        "conversation_digest": conversation.digest,
        "category": comparison.category,
        "is_held_out": comparison.is_held_out or conversation.is_held_out,
        "prompt": conversation.messages,
        "a": _response(comparison.a),
        "b": _response(comparison.b),
        "b_first": label.b_first,
        "choice": label.choice,
        "outcome": label.outcome,
        "strength": label.strength,
        "criteria": label.criteria,
        "reason": label.reason,
        "is_flagged": label.is_flagged,
        "seconds": round(label.seconds, 3),
        "arm": label.arm,
        "teacher": label.teacher.pseudonym,
        "teacher_kind": label.teacher.kind,
        "guidelines": label.guidelines.version if label.guidelines else None,
        "created_at": label.created_at.isoformat(timespec="seconds"),
    }
    if label.ranking:
        line["ranking"] = [[_response(ranked[pk]) for pk in tier] for tier in label.ranking] if ranked else []
    if adjudicated is not None:
        line["adjudicated"] = adjudicated  # a key that is not there keeps the digest of sets without reviews
    return line


def lines_of(campaign: Campaign, *, chunk: int = 500) -> Iterator[Line]:
    """The campaign's current labels as lines, as of one moment, with memory that does not grow with their number."""
    batch: list[Label] = []
    # Outside a transaction PostgreSQL writes all rows to its disk before it hands out the first. SQLite's would lock
    # everybody else out of writing for as long as somebody downloads, and one statement sees one moment there anyway.
    with transaction.atomic() if connection.vendor == "postgresql" else nullcontext():
        for label in current_labels(campaign).iterator(chunk_size=chunk):
            batch.append(label)
            if len(batch) == chunk:
                yield from _lines_of_batch(batch)
                batch = []
        yield from _lines_of_batch(batch)


def canonical(line: Line) -> bytes:
    """The one way to write a line: sorted keys, no spaces, UTF-8, a newline at the end."""
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", errors="surrogatepass") + b"\n"


def freeze(campaign: Campaign, *, user: User | None = None) -> LabelSet:
    """The campaign's current labels as a label set; labels that were frozen before give the row of that time."""
    digest, count, last = hashlib.sha256(), 0, 0
    tally = _Tally()
    # Before the lines are read: what is withdrawn while they are read counts as not yet seen, and is erased.
    gone = list(left_labels(campaign).values_list("id", flat=True))
    with tempfile.TemporaryFile() as draft:
        with packed_into(draft) as packed:
            for line in lines_of(campaign):
                written = canonical(line)
                digest.update(hashlib.sha256(written).digest())
                packed.write(written)
                count, last = count + 1, line["id"]
                tally.add(line)
        found = LabelSet.objects.filter(campaign=campaign, digest=digest.hexdigest()).first()
        if found is not None:
            return found
        name = keep_file(draft, campaign=campaign, digest=digest.hexdigest())
    try:
        with transaction.atomic():
            keep(name)
            return LabelSet.objects.create(
                campaign=campaign,
                digest=digest.hexdigest(),
                file=name,
                label_count=count,
                last_label=last,
                summary=tally.summary(),
                withdrawn_seen=sum(pk <= last for pk in gone),
                created_by=user,
            )
    except IntegrityError:  # somebody froze the same labels a moment ago
        discard(name)
        return LabelSet.objects.get(campaign=campaign, digest=digest.hexdigest())


def keep_file(draft: IO[bytes], *, campaign: Campaign, digest: str) -> str:
    """The name under which the storage keeps the file, another at each time. The row that names it is to `keep` it."""
    draft.seek(0)
    name = note(f"label_sets/{campaign.code}/{digest}.{uuid.uuid4().hex[:8]}.jsonl.gz")
    return default_storage.save(name, File(draft))


def read_lines(label_set: LabelSet, *, with_erased: bool = False) -> Iterator[Line]:
    """The lines of a label set, checked against its digest; an erased one is left out unless asked for.

    A label that was withdrawn a moment ago, and is not yet erased from the file, is left out too; one whose teacher
    left bears the new pseudonym at once, as what is known of the teacher does.
    raises  BrokenLabelSet  after the last line, when the file is damaged or is not what the digest names
    """
    withdrawn = set(withdrawn_labels(label_set.campaign, label_set.last_label).values_list("id", flat=True))
    names = _new_names(label_set)
    digest = hashlib.sha256()
    try:
        with default_storage.open(str(label_set.file.name)) as packed, gzip.open(packed, "rb") as stream:
            for written in stream:
                line: Line = json.loads(written)
                is_erased, was = "erased" in line, line.get("erased") or line.get("renamed")
                sha = bytes.fromhex(was) if was else hashlib.sha256(written).digest()
                digest.update(sha)
                if not is_erased and line["teacher"] != names.get(line["id"], line["teacher"]):
                    line |= {"teacher": names[line["id"]], "renamed": sha.hex()}
                if with_erased or not (is_erased or line["id"] in withdrawn):
                    yield line
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise BrokenLabelSet(f"The file of label set {label_set.short_digest} is missing.") from error
        raise BrokenLabelSet(f"The file of label set {label_set.short_digest} is damaged: {error}.") from error
    if digest.hexdigest() != label_set.digest:
        raise BrokenLabelSet(f"The file of label set {label_set.short_digest} is not what was frozen.")


def withdrawn_labels(campaign: Campaign, last: int) -> QuerySet[Label]:
    """Labels that their teachers took back, with the earlier answers that they had replaced: those were frozen too."""
    return Label.objects.filter(_is_withdrawn(campaign), campaign=campaign, id__lte=last)


def left_labels(campaign: Campaign) -> QuerySet[Label]:
    """Withdrawn labels, and those that stay after their teachers left, under another pseudonym."""
    return Label.objects.filter(_is_withdrawn(campaign) | Q(teacher__in=_left()), campaign=campaign)


def _is_withdrawn(campaign: Campaign) -> Q:
    gone = Label.objects.filter(campaign=campaign, state=Label.State.WITHDRAWN)
    return Q(teacher__in=gone.values("teacher")) & ~Q(state=Label.State.CURRENT)


def campaigns_left() -> QuerySet[Campaign]:
    """Campaigns in which somebody's labels were withdrawn or are under another pseudonym."""
    withdrawn = Label.objects.filter(state=Label.State.WITHDRAWN)
    stayed = Label.objects.filter(teacher__in=list(_left().values_list("pk", flat=True)))
    return Campaign.objects.filter(Q(pk__in=withdrawn.values("campaign")) | Q(pk__in=stayed.values("campaign")))


def _left() -> QuerySet[Teacher]:
    return Teacher.objects.filter(withdrawn_at__isnull=False, withdrawal="")


def _new_names(label_set: LabelSet) -> dict[int, str]:
    """Label -> pseudonym, of those that stayed after their teachers left."""
    stayed = Label.objects.filter(campaign=label_set.campaign, teacher__in=_left(), id__lte=label_set.last_label)
    return dict(stayed.values_list("id", "teacher__pseudonym"))


def left_lines(label_set: LabelSet) -> Iterator[Line]:
    """The lines as they are to stand after withdrawals, with what the sha256 of a changed line was."""
    withdrawn = set(withdrawn_labels(label_set.campaign, label_set.last_label).values_list("id", flat=True))
    for line in read_lines(label_set, with_erased=True):
        if "erased" not in line and line["id"] in withdrawn:
            line = {"id": line["id"], "erased": line.get("renamed") or hashlib.sha256(canonical(line)).hexdigest()}
        yield line


def pack_left(label_set: LabelSet) -> Iterator[bytes]:
    """A label set's file for a download, gzip: without what was withdrawn, even where the file is not yet erased."""
    packer = zlib.compressobj(level=6, wbits=31)  # 31 is gzip's frame
    for line in left_lines(label_set):
        if piece := packer.compress(canonical(line)):
            yield piece
    yield packer.flush()


class _Tally:
    """Counts of a label set, kept while its lines pass."""

    def __init__(self) -> None:
        self.by: dict[str, Counter[str]] = {"arm": Counter(), "choice": Counter(), "category": Counter()}
        self.teachers: set[str] = set()
        self.held_out = 0

    def add(self, line: Line) -> None:
        for name, counter in self.by.items():
            counter[line[name]] += 1
        self.teachers.add(line["teacher"])
        self.held_out += line["is_held_out"]

    def summary(self) -> dict[str, Any]:
        counts = {name: dict(sorted(counter.items())) for name, counter in self.by.items()}
        return {**counts, "teachers": len(self.teachers), "held_out": self.held_out}


@contextmanager
def packed_into(draft: IO[bytes]) -> Iterator[gzip.GzipFile]:
    """A gzip stream into an open file; no time and no name in its head, so that the same lines give the same bytes."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=draft, mtime=0, compresslevel=6) as packed:
        yield packed


def _lines_of_batch(labels: Iterable[Label]) -> Iterator[Line]:
    labels = list(labels)
    wanted = {pk for label in labels for tier in label.ranking or [] for pk in tier}
    ranked = Response.objects.in_bulk(wanted)
    decided = verdicts_of({label.comparison_id for label in labels})
    for label in labels:
        yield line_of(label, ranked=ranked, adjudicated=decided.get(label.comparison_id))


def verdicts_of(comparison_ids: Collection[int]) -> dict[int, str]:
    """Comparison -> the current decision of its reviewers; where they left it as it is, there is none."""
    current = Adjudication.objects.filter(comparison__in=comparison_ids, state=Adjudication.State.CURRENT)
    decided = current.exclude(verdict=Adjudication.Verdict.LEFT)
    return dict(decided.values_list("comparison_id", "verdict"))


def _response(response: Response) -> dict[str, Any]:
    return {
        "id": response.pk,
        "digest": response.digest,
        "messages": response.messages,
        "origin": response.origin,
        "author": response.author,
    }
