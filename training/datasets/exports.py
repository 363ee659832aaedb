"""Labels as files for other tools: TRL preferences, ties, and whole labels, as JSON lines, Parquet and CSV.

Everything streams: rows come from an iterator and go out in pieces, so memory does not grow with the number of labels.
No cell is null: what was not said is "" or 0. A loader of JSON lines takes a column's type from the first rows that it
reads, and a column that is null there can hold nothing further down.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from activelearning.learned import LEARNED_ARMS, ranking_weight
from activelearning.models import TeacherRationality
from annotation.models import Campaign, Membership
from annotation.models.people import known_rationality
from annotation.spreadsheets import safe_cell
from training.datasets.frozen import Line

Row = dict[str, Any]
Rationalities = dict[tuple[str, str], float]

BATCH = 1000  # rows of a Parquet row group

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ABOUT = [
    ("label", pa.int64()),
    ("conversation", pa.string()),
    ("category", pa.string()),
    ("teacher", pa.string()),
    ("rationality", pa.float64()),
    ("arm", pa.string()),
    ("weight", pa.float64()),
    ("is_held_out", pa.bool_()),
    ("adjudicated", pa.string()),
]
SCHEMAS = {
    "preferences": pa.schema(
        [
            ("prompt", MESSAGES),
            ("chosen", MESSAGES),
            ("rejected", MESSAGES),
            ("margin", pa.float64()),
            *ABOUT,
            ("chosen_author", pa.string()),
            ("rejected_author", pa.string()),
        ]
    ),
    "ties": pa.schema(
        [("prompt", MESSAGES), ("a", MESSAGES), ("b", MESSAGES), ("tie", pa.string()), *ABOUT],
    ),
    "labels": pa.schema(
        [
            ("id", pa.int64()),
            ("conversation_digest", pa.string()),
            ("category", pa.string()),
            ("is_held_out", pa.bool_()),
            ("prompt", MESSAGES),
            ("a", MESSAGES),
            ("b", MESSAGES),
            ("a_author", pa.string()),
            ("b_author", pa.string()),
            ("b_first", pa.bool_()),
            ("choice", pa.string()),
            ("outcome", pa.float64()),
            ("strength", pa.int64()),
            ("criteria", pa.string()),
            ("ranking", pa.string()),
            ("reason", pa.string()),
            ("is_flagged", pa.bool_()),
            ("seconds", pa.float64()),
            ("arm", pa.string()),
            ("teacher", pa.string()),
            ("teacher_kind", pa.string()),
            ("rationality", pa.float64()),
            ("guidelines", pa.int64()),
            ("created_at", pa.string()),
            ("adjudicated", pa.string()),
        ]
    ),
}


def rationalities_of(campaign: Campaign) -> Rationalities:
    """(pseudonym, category) -> rationality: as estimated where the campaign estimates, else as the admin stated.

    The category "" holds a teacher's value where the category has none of its own; who was never spoken of counts as 1.
    """
    found: Rationalities = {}
    members = Membership.objects.filter(pool__campaigns=campaign).select_related("teacher").order_by("id")
    for member in members:
        for category in {"", *member.rationality}:
            found.setdefault((member.teacher.pseudonym, category), known_rationality(member, category))
    if campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED:
        for row in TeacherRationality.objects.filter(campaign=campaign).select_related("teacher"):
            found[(row.teacher.pseudonym, row.category)] = row.value
    return found


def rationality_of(rationalities: Rationalities, teacher: str, category: str) -> float:
    return rationalities.get((teacher, category), rationalities.get((teacher, ""), 1.0))


def implied_pairs(line: Line) -> Iterator[tuple[dict[str, Any], dict[str, Any], float, float]]:
    """(a, b, outcome, weight) of every comparison that a label implies: itself, or those of its ranking.

    A ranking is one act: see `ranking_weight`.
    """
    tiers = line.get("ranking")
    if not tiers:
        yield line["a"], line["b"], line["outcome"], 1.0
        return
    placed = [(place, response) for place, tier in enumerate(tiers) for response in tier]
    weight = ranking_weight(len(placed))
    for index, (place, response) in enumerate(placed):
        for other_place, other in placed[index + 1 :]:
            a, b = sorted((response, other), key=lambda one: int(one["id"]))
            if place == other_place:
                yield a, b, 0.5, weight
            else:
                yield a, b, float(a is response), weight  # tiers come best first


def preference_rows(lines: Iterable[Line], rationalities: Rationalities) -> Iterator[Row]:
    """TRL's conversational preference rows: prompt, chosen, rejected, and what a careful trainer wants besides.

    Ties have no chosen side and stand in `tie_rows`; repeats are the same judgement twice and stand in `label_rows`.
    margin is the strength of preference, 1 to 3, and 0 where it was not asked.
    """
    for line, a, b, outcome, weight in _pairs(lines):
        if outcome == 0.5:
            continue
        chosen, rejected = (a, b) if outcome > 0.5 else (b, a)
        yield {
            "prompt": _messages(line["prompt"]),
            "chosen": _messages(chosen["messages"]),
            "rejected": _messages(rejected["messages"]),
            "margin": float(line["strength"] or 0),
            **_about(line, weight, rationalities),
            "adjudicated": _adjudicated(line, chosen=chosen, rejected=rejected),
            "chosen_author": chosen["author"],
            "rejected_author": rejected["author"],
        }


def tie_rows(lines: Iterable[Line], rationalities: Rationalities) -> Iterator[Row]:
    """What `preference_rows` leaves out: ties, and pairs of which both were bad."""
    for line, a, b, outcome, weight in _pairs(lines):
        if outcome == 0.5:
            yield {
                "prompt": _messages(line["prompt"]),
                "a": _messages(a["messages"]),
                "b": _messages(b["messages"]),
                "tie": line["choice"] if line["choice"] in ("tie", "both_bad") else "tie",
                **_about(line, weight, rationalities),
                "adjudicated": _adjudicated(line, a=a, b=b),
            }


def label_rows(lines: Iterable[Line], rationalities: Rationalities) -> Iterator[Row]:
    """Every current label of every arm but the tutorial, as it was given."""
    for line in lines:
        tiers = [[response["digest"] for response in tier] for tier in line.get("ranking") or []]
        yield {
            **{name: line[name] for name in SCHEMAS["labels"].names if name in line},
            "prompt": _messages(line["prompt"]),
            "a": _messages(line["a"]["messages"]),
            "b": _messages(line["b"]["messages"]),
            "a_author": line["a"]["author"],
            "b_author": line["b"]["author"],
            "strength": line["strength"] or 0,
            "criteria": json.dumps(line["criteria"], sort_keys=True) if line["criteria"] else "",
            "ranking": json.dumps(tiers) if tiers else "",
            "guidelines": line["guidelines"] or 0,
            "adjudicated": line.get("adjudicated", ""),
            "rationality": rationality_of(rationalities, line["teacher"], line["category"]),
        }


ROWS: dict[str, Callable[[Iterable[Line], Rationalities], Iterator[Row]]] = {
    "preferences": preference_rows,
    "ties": tie_rows,
    "labels": label_rows,
}


def json_lines(rows: Iterable[Row], _schema: pa.Schema) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"


def parquet(rows: Iterable[Row], schema: pa.Schema) -> Iterator[bytes]:
    """Parquet in row groups of a thousand, handed out as they are written."""
    sink = Sink()
    rows = iter(rows)
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
            yield sink.drain()
    yield sink.drain()


def comma_separated(rows: Iterable[Row], schema: pa.Schema) -> Iterator[bytes]:
    """CSV for spreadsheets: messages as text, and no cell that a spreadsheet would run as a formula."""
    page = io.StringIO()
    writer = csv.writer(page)
    writer.writerow(schema.names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in schema.names])
        if page.tell() > 65536:
            yield page.getvalue().encode("utf-8", errors="replace")
            page.seek(0)
            page.truncate()
    yield page.getvalue().encode("utf-8", errors="replace")


WRITERS: dict[str, Callable[[Iterable[Row], pa.Schema], Iterator[bytes]]] = {
    "jsonl": json_lines,
    "parquet": parquet,
    "csv": comma_separated,
}


def export(lines: Iterable[Line], *, kind: str, format: str, rationalities: Rationalities) -> Iterator[bytes]:
    """The bytes of a file of `kind` (preferences, ties, labels) in `format` (jsonl, parquet, csv)."""
    return WRITERS[format](ROWS[kind](lines, rationalities), SCHEMAS[kind])


class Sink(io.RawIOBase):
    """A file that is written on one side and emptied on the other."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._position += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._position

    def drain(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _pairs(lines: Iterable[Line]) -> Iterator[tuple[Line, dict[str, Any], dict[str, Any], float, float]]:
    for line in lines:
        if line["arm"] in LEARNED_ARMS:
            for a, b, outcome, weight in implied_pairs(line):
                yield line, a, b, outcome, weight


def _about(line: Line, weight: float, rationalities: Rationalities) -> Row:
    return {
        "label": line["id"],
        "conversation": line["conversation_digest"],
        "category": line["category"],
        "teacher": line["teacher"],
        "rationality": rationality_of(rationalities, line["teacher"], line["category"]),
        "arm": line["arm"],
        "weight": weight,
        "is_held_out": line["is_held_out"],
    }


def _adjudicated(line: Line, **sides: dict[str, Any]) -> str:
    """A reviewer's decision in the words of the row: the name of a side, tie or both_bad.

    "" where nobody decided, or about another pair of the ranking.
    """
    verdict: str = line.get("adjudicated", "")
    named = {side["id"]: name for name, side in sides.items()}
    if not verdict or set(named) != {line["a"]["id"], line["b"]["id"]}:
        return ""
    return named[line[verdict]["id"]] if verdict in ("a", "b") else verdict


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in messages]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "\n\n".join(f"{message['role']}: {message['content']}" for message in value)
    return safe_cell(value)
