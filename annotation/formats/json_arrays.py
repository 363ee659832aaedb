"""The elements of JSON arrays, one at a time, without reading the whole of them."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator

from annotation.formats.limits import Limits
from annotation.formats.types import UnreadableSource

CHUNK_BYTES = 2**18
NOT_SPACE = re.compile(r"\S")
DECODE = json.JSONDecoder().raw_decode


def read_arrays(stream: io.BufferedReader, *, limits: Limits) -> Iterator[tuple[int, object]]:
    """The elements of one array, or of several that follow each other, as in files that were joined; numbered from 1.

    A syntax error inside an array leaves no place to go on from, so it ends the reading, as does anything else that
    stands after an array.
    """
    text = Utf8Text(stream)
    number = 0
    while not text.is_over():
        if not text.starts_with("["):
            raise UnreadableSource(
                f"After the end of an array there is more, from {text.sight()!r} on: give one row a line, or an array."
            )
        text.skip_over("[")
        last = number
        while not text.starts_with("]"):
            number += 1
            if number > last + 1:
                text.skip_over(",")
            yield number, read_element(text, number=number, limits=limits)
        text.position += 1


def read_element(text: Utf8Text, *, number: int, limits: Limits) -> object:
    """The buffer grows, doubling, until the element at its head is complete."""
    while True:
        try:
            value, text.position = DECODE(text.buffer, text.position)
            return value
        except RecursionError as error:
            raise UnreadableSource(f"Element {number} is nested too deep: flatten it.") from error
        except ValueError as error:
            if text.left() > limits.line_bytes or not text.grow():
                raise UnreadableSource(f"Element {number} of the array is cut off or not JSON: {error}.") from error


class Utf8Text:
    """A window on a stream's text: buffer from position on is what was not yet taken."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.buffer = ""
        self.position = 0

    def left(self) -> int:
        return len(self.buffer) - self.position

    def grow(self) -> bool:
        """Drops what was taken and doubles the rest (at least CHUNK_BYTES); False at the end of the stream."""
        chunk = self.stream.read(max(CHUNK_BYTES, self.left()))
        try:
            self.buffer = self.buffer[self.position :] + self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise UnreadableSource(f"The file is not UTF-8 ({error.reason}): save it as UTF-8.") from error
        self.position = 0
        return bool(chunk)

    def is_over(self) -> bool:
        """Whether nothing but white space is left, which it passes over."""
        while (start := NOT_SPACE.search(self.buffer, self.position)) is None:
            self.position = len(self.buffer)
            if not self.grow():
                return True
        self.position = start.start()
        return False

    def starts_with(self, mark: str) -> bool:
        """After white space, which it passes over."""
        if self.is_over():
            raise UnreadableSource("The array is cut off: its closing ] is missing.")
        return self.buffer.startswith(mark, self.position)

    def skip_over(self, mark: str) -> None:
        """Past mark and the white space on both its sides."""
        if not self.starts_with(mark):
            raise UnreadableSource(f"The array is not JSON: {mark} expected before {self.sight()!r}.")
        self.position += len(mark)
        self.starts_with("")

    def sight(self) -> str:
        return self.buffer[self.position : self.position + 20]
