"""Rows out of a file (JSON lines, JSON arrays, Parquet; gzip around the first two) or a set on the hub, streaming."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Protocol

from annotation.formats.json_arrays import CHUNK_BYTES, read_arrays
from annotation.formats.limits import DEFAULT_LIMITS, Limits, check_depth, kind_of
from annotation.formats.types import BadRow, Refused, Row, UnreadableSource

PARQUET_BATCH_ROWS = 64
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
OTHER_MAGIC = {b"PK\x03\x04": "a zip archive", b"(\xb5/\xfd": "compressed with zstd", b"BZh": "compressed with bzip2"}


def read_rows(file: IO[bytes], *, limits: Limits = DEFAULT_LIMITS) -> Iterator[Row | BadRow]:
    """Every row of an open binary file; the container is told by its first bytes, since uploads are stored under
    generated names.

    Holds one row (one batch of PARQUET_BATCH_ROWS) at a time. raises UnreadableSource, also after some rows, when the
    file is cut off, too large, or none of the containers.
    """
    magic = file.read(4)
    file.seek(0)
    if magic == PARQUET_MAGIC:
        return checked_rows(read_parquet(file, limits=limits), limits=limits)
    for other, name in OTHER_MAGIC.items():
        if magic.startswith(other):
            raise UnreadableSource(f"The file is {name}. Give JSON lines (plain or .gz), JSON or Parquet.")
    stream: Readable = gzip.GzipFile(fileobj=file) if magic.startswith(GZIP_MAGIC) else file
    return checked_rows(
        read_text(io.BufferedReader(Metered(stream, limits.source_bytes)), limits=limits), limits=limits
    )


def read_hub(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[Row | BadRow]:
    """Every row of a set on the hub, or of a local folder that `datasets` reads, without downloading it first."""
    from datasets.load import load_dataset

    try:
        rows = load_dataset(name, config, split=split, revision=revision, streaming=True)
    except Exception as error:  # the library raises its own, the hub's and the network's
        raise UnreadableSource(f"{name} could not be opened: {error}") from error
    return checked_rows(enumerate(hub_rows(name, rows), start=1), limits=limits)


def hub_rows(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except Exception as error:  # as above: a connection that ends, a column that changes its type
        raise UnreadableSource(f"{name} could not be read further: {error}") from error


def checked_rows(values: Iterable[tuple[int, object]], *, limits: Limits) -> Iterator[Row | BadRow]:
    """Rows from (line, value); a value that came as BadRow stays one."""
    for count, (line, value) in enumerate(values):
        if count == limits.rows:
            raise UnreadableSource(f"The source has more than {limits.rows:,} rows: split it.")
        if isinstance(value, BadRow):
            yield value
        elif not isinstance(value, dict):
            yield BadRow(line, f"the row is {kind_of(value)}, and must be an object with named fields")
        else:
            try:
                check_depth(value, limit=limits.depth)
                yield Row(line, value)
            except Refused as error:
                yield BadRow(line, str(error))


def read_parquet(file: IO[bytes], *, limits: Limits) -> Iterator[tuple[int, object]]:
    """A text that repeats is written once in the file and stays once in a batch (`read_dictionary`), so that some
    hundred bytes do not become gigabytes; each row is weighed before it is written out."""
    from pyarrow import parquet
    from pyarrow.lib import ArrowException

    open_parquet: Any = parquet.ParquetFile  # untyped
    line, left = 0, limits.source_bytes
    try:
        texts = text_columns(open_parquet(file, pre_buffer=False).schema)
        source = open_parquet(file, pre_buffer=False, read_dictionary=texts)
        for batch in batches_of(source):
            # A batch that is no longer than one row may be is written out whole, twenty times as fast as row by row.
            whole = weigh_rows(batch) <= limits.line_bytes
            for part in [batch] if whole else [batch.slice(place, 1) for place in range(batch.num_rows)]:
                size = weigh_rows(part)
                if size > limits.line_bytes:
                    line += 1
                    yield line, BadRow(line, f"the row is longer than {limits.line_bytes:,} bytes: shorten its texts")
                    continue
                left -= size
                if left < 0:
                    raise too_large()
                for fields in part.to_pylist():
                    line += 1
                    yield line, fields
    except (ArrowException, OSError) as error:
        raise UnreadableSource(f"The Parquet file cannot be read after row {line}: {error}") from error


def batches_of(source: Any) -> Iterator[Any]:
    """Group by group: a batch over two of them would have two dictionaries, which Arrow cannot nest."""
    for group in range(source.num_row_groups):
        yield from source.iter_batches(batch_size=PARQUET_BATCH_ROWS, row_groups=[group])


def text_columns(schema: Any) -> list[str]:
    columns = [schema.column(number) for number in range(len(schema))]
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in ("STRING", "NONE")
    ]


def weigh_rows(batch: Any) -> int:
    return sum(weigh(column) for column in batch.columns)


def weigh(array: Any) -> int:
    """Bytes of an Arrow array once its repeated texts are written out."""
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary).take(array.indices)
        return len(array) + int(compute.sum(lengths).as_py() or 0)
    if types.is_struct(array.type):
        return len(array) + sum(weigh(part) for part in array.flatten())
    if types.is_map(array.type):
        part = slice(array.offsets[0].as_py(), array.offsets[len(array)].as_py())
        return len(array) + weigh(array.keys[part]) + weigh(array.items[part])
    if types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        return len(array) + weigh(array.flatten())
    return int(array.nbytes)


def too_large() -> UnreadableSource:
    return UnreadableSource("The file is larger than may be imported, once decompressed: split it.")


def read_text(stream: io.BufferedReader, *, limits: Limits) -> Iterator[tuple[int, object]]:
    try:
        head = stream.peek(CHUNK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
        yield from read_arrays(stream, limits=limits) if head.startswith(b"[") else read_lines(stream, limits=limits)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableSource(
            f"The file is damaged or cut off ({error}): fetch it again. What came before went in."
        ) from error


def read_lines(stream: io.BufferedReader, *, limits: Limits) -> Iterator[tuple[int, object]]:
    line = 0
    while text := stream.readline(limits.line_bytes + 1):
        line += 1
        if len(text) > limits.line_bytes and not text.endswith(b"\n"):
            skip_line(stream)
            yield line, BadRow(line, f"the line is longer than {limits.line_bytes:,} bytes: shorten its texts")
        elif text.strip():
            yield line, parse_line(text.removeprefix(codecs.BOM_UTF8) if line == 1 else text, line=line)


def skip_line(stream: io.BufferedReader) -> None:
    while (text := stream.readline(CHUNK_BYTES)) and not text.endswith(b"\n"):
        pass


def parse_line(text: bytes, *, line: int) -> object:
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError as error:
        return BadRow(line, f"byte {error.start + 1} is not UTF-8: save the file as UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(line, f"not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return BadRow(line, "the row is nested too deep: flatten it")
    except ValueError as error:  # an integer of thousands of digits
        return BadRow(line, f"not readable: {error}")


class Readable(Protocol):
    """What a meter can stand in front of."""

    def read(self, size: int = -1, /) -> bytes: ...


class Metered(io.RawIOBase):
    """A stream that ends with UnreadableSource once it gave more bytes than it may."""

    def __init__(self, stream: Readable, limit: int) -> None:
        super().__init__()
        self.stream = stream
        self.left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self.stream.read(len(buffer))
        self.left -= len(chunk)
        if self.left < 0:
            raise too_large()
        buffer[: len(chunk)] = chunk
        return len(chunk)
