"""Rows come out of every container, one at a time, and damage is named."""

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotation.formats.containers import read_hub, read_rows
from annotation.formats.limits import Limits
from annotation.formats.types import BadRow, Row, UnreadableSource

ROWS = [{"prompt": f"Question {number}", "responses": ["ja", "nein — ü"]} for number in range(5)]


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def read(content: bytes, **limits: int) -> list[Row | BadRow]:
    return list(read_rows(io.BytesIO(content), limits=Limits(**limits)))


def fields(rows: list[Row | BadRow]) -> list[dict[str, Any]]:
    return [row.fields for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize(
    "content",
    [
        lines(ROWS),
        gzip.compress(lines(ROWS), mtime=0),
        b"\xef\xbb\xbf" + lines(ROWS),
        lines(ROWS).replace(b"\n", b"\r\n"),
        lines(ROWS).rstrip(b"\n"),
        json.dumps(ROWS).encode(),
        json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
        b"\xef\xbb\xbf \n" + json.dumps(ROWS).encode() + b"\n\n",
        gzip.compress(json.dumps(ROWS).encode(), mtime=0),
        json.dumps(ROWS[:2]).encode() + b"\n[ ]" + json.dumps(ROWS[2:]).encode(),
        b"\n".join(json.dumps([row]).encode() for row in ROWS),
        parquet(ROWS),
        parquet(ROWS, row_group_size=2, compression="zstd"),
    ],
    ids=[
        "lines", "gzip", "mark", "crlf", "open", "array", "indented", "array mark", "array gzip",
        "arrays", "array a line", "parquet", "groups",
    ],
)  # fmt: skip
def test_every_container_gives_the_same_rows(content: bytes) -> None:
    found = read(content)
    assert fields(found) == ROWS
    assert [row.line for row in found] == [1, 2, 3, 4, 5]


def test_bad_lines_are_named_and_the_others_read() -> None:
    good = json.dumps({"a": 1}).encode()
    found = read(b"\n".join([good, b"{oops", b"", b"[1]", b'"text"', b'{"a": "\xff"}', b"5" * 5000, good]))
    assert [(row.line, type(row)) for row in found] == [
        (1, Row), (2, BadRow), (4, BadRow), (5, BadRow), (6, BadRow), (7, BadRow), (8, Row),
    ]  # fmt: skip
    reasons = [row.reason for row in found if isinstance(row, BadRow)]
    assert "not JSON" in reasons[0]
    assert "must be an object" in reasons[1]
    assert "UTF-8" in reasons[3]


def test_a_line_that_is_too_long_is_passed_over() -> None:
    found = read(b'{"a": 1}\n{"a": "' + b"x" * 1000 + b'"}\n{"a": 2}\n', line_bytes=100)
    assert [type(row) for row in found] == [Row, BadRow, Row]
    assert found[2].line == 3


@pytest.mark.parametrize("deep", ["[" * 300 + "]" * 300, "[" * 100_000 + "]" * 100_000], ids=["300", "100,000"])
def test_a_row_nested_too_deep_is_named(deep: str) -> None:
    found = read(f'{{"a": {deep}}}\n{{"a": 1}}\n'.encode())
    assert [type(row) for row in found] == [BadRow, Row]


def test_depth_is_counted_in_lists_and_objects() -> None:
    row = b'{"a": [{"b": [1]}]}\n'  # four containers inside each other
    assert isinstance(read(row, depth=4)[0], Row)
    assert isinstance(read(row, depth=3)[0], Row)
    assert isinstance(read(row, depth=2)[0], BadRow)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (gzip.compress(lines(ROWS * 500), mtime=0)[:-200], "cut off"),
        (json.dumps(ROWS).encode()[:-20], "cut off"),
        (b'[{"a": 1} {"a": 2}]', "expected"),
        (b'[{"a": 1},]', "not JSON"),
        (b'[{"a": 1}]\n[{"a": 2}, ', "cut off"),
        (b'[{"a": 1}]\n{"a": 2}\n', "one row a line"),
        (b'[{"a": 1}]\nand so on', "'and so on'"),
        (b"[" + b"[" * 100_000, "too deep"),
        (b'[{"a": "\xff"}]', "UTF-8"),
        (parquet(ROWS)[:-30], "Parquet"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"(\xb5/\xfdrest", "zstd"),
    ],
)
def test_a_damaged_source_is_refused_with_what_to_do(content: bytes, part: str) -> None:
    with pytest.raises(UnreadableSource, match=part):
        read(content)


def test_what_came_before_the_damage_was_read() -> None:
    rows = read_rows(io.BytesIO(json.dumps(ROWS).encode()[:-20]))
    found = []
    with pytest.raises(UnreadableSource):
        found.extend(rows)
    assert fields(found) == ROWS[:4]


def test_a_compression_bomb_ends_early() -> None:
    bomb = gzip.compress(b"\n" * 50_000_000)
    with pytest.raises(UnreadableSource, match="larger"):
        read(bomb, source_bytes=1_000_000)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_text_that_repeats_in_parquet_lies_in_memory_once(kind: pa.DataType) -> None:
    text = "y" * 1_000_000
    table = pa.table(
        {
            "prompt": pa.array([text] * 256).cast(kind),
            "responses": pa.array([[{"role": "assistant", "content": text}]] * 256),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    assert len(buffer.getvalue()) < 3_000
    buffer.seek(0)
    del table
    pool = pa.default_memory_pool()
    before, count = pool.bytes_allocated(), 0
    for row in read_rows(buffer):
        assert isinstance(row, Row)
        assert row.fields["responses"] == [{"role": "assistant", "content": text}]
        assert pool.bytes_allocated() - before < 30_000_000  # 512 MB where a batch is written out
        count += 1
    assert count == 256


def test_parquet_has_the_limits_of_the_other_containers() -> None:
    rows = [{"texts": ["z" * 1_000] * repeats} for repeats in (1, 50, 2)]
    found = read(parquet(rows), line_bytes=10_000)
    assert [type(row) for row in found] == [Row, BadRow, Row]
    assert found[1].line == 2
    with pytest.raises(UnreadableSource, match="larger"):
        read(parquet([{"text": "z" * 1_000}] * 50), source_bytes=20_000)


def test_too_many_rows_end_the_reading() -> None:
    with pytest.raises(UnreadableSource, match="more than 3 rows"):
        read(lines(ROWS), rows=3)


@pytest.mark.parametrize("elements", [0, 1, 3000])
def test_an_array_is_read_across_its_buffers(elements: int) -> None:
    rows = [{"a": "x" * (number % 700), "b": [number, {"c": "],}"}]} for number in range(elements)]
    assert fields(read(json.dumps(rows).encode())) == rows


class Endless(io.RawIOBase):
    """A file of a hundred thousand lines that is never in memory."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.rows = self.make(count)
        self.rest = b""

    def make(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            yield lines([{"prompt": f"{number} " + "x" * 900, "responses": ["a", "b"]}])

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def readinto(self, buffer: Any) -> int:
        while len(self.rest) < len(buffer) and (line := next(self.rows, None)):
            self.rest += line
        chunk, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_memory_does_not_grow_with_the_file() -> None:
    def peak(count: int) -> int:
        file = Endless(count)
        file.rest = b"\n\n\n\n"  # what is looked at for the kind of file is not given again
        tracemalloc.start()
        assert sum(1 for _ in read_rows(file)) == count  # type: ignore[arg-type]
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(100)
    assert peak(20_000) < peak(2_000) * 1.5


def test_a_folder_is_read_by_datasets_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "train.jsonl").write_bytes(lines(ROWS))
    assert fields(list(read_hub(str(tmp_path)))) == ROWS


def test_a_set_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="could not be opened"):
        read_hub(str(tmp_path / "nothing"))
    (tmp_path / "train.jsonl").write_bytes(lines(ROWS))
    with pytest.raises(UnreadableSource, match="could not be opened"):
        read_hub(str(tmp_path), split="elsewhere")
