"""Which words of two rendered responses differ: marked in the HTML, on request."""

import hashlib
import re
from dataclasses import replace
from difflib import Match, SequenceMatcher

from django.core.cache import caches
from django.utils.safestring import SafeString, mark_safe

from annotation.markdown import KEEP_SECONDS
from annotation.rendering import Sides, Turn

WINDOW = 1_000
"""Words of each side that are compared at a time: the time grows with the length of the texts, not with its square."""
SURE = 3
"""Words in a row that must agree for one window to end and the next to begin after them."""

PIECES = re.compile(
    r"(?P<formula><math.*?</math>)|(?P<tag><[^>]*>)"
    r"|(?P<word>[぀-ヿ㐀-鿿가-힯]|&[#\w]+;|\w+|[^\w\s<])|(?P<space>\s+|<)",
    re.DOTALL,
)


def mark_differences(shown: Sides) -> Sides:
    """The same two sides with `<mark>` around the words that only one of two turns at the same place has."""
    first, second = shown.sides
    pairs = [_mark_turns(*turns) for turns in zip(first.turns, second.turns, strict=False)]
    marked = [
        replace(side, turns=[pair[place] for pair in pairs] + side.turns[len(pairs) :])
        for place, side in enumerate((first, second))
    ]
    return replace(shown, sides=marked)


def _mark_turns(first: Turn, second: Turn) -> tuple[Turn, Turn]:
    if first.html == second.html:
        return first, second
    marked = mark_words(first.html, second.html)
    return replace(first, html=marked[0]), replace(second, html=marked[1])


def mark_words(first: str, second: str) -> tuple[SafeString, SafeString]:
    """Both texts, which are safe HTML already, with the words marked that the other lacks at this place.

    Only text is wrapped, never a tag nor a formula, so that what was safe stays safe.
    """
    key = f"words:{hashlib.sha256(f'{len(first)} {first}{second}'.encode()).hexdigest()}"
    near = caches["near"]
    marked: tuple[str, str] | None = near.get(key)
    if marked is None:
        pieces = _split(first), _split(second)
        words = tuple([text for kind, text in side if kind in ("word", "formula")] for side in pieces)
        differing = _compare_words(words[0], words[1])
        marked = _wrap(pieces[0], differing[0]), _wrap(pieces[1], differing[1])
        near.set(key, marked, KEEP_SECONDS)
    return mark_safe(marked[0]), mark_safe(marked[1])


def _split(html: str) -> list[tuple[str, str]]:
    return [(str(found.lastgroup), found.group()) for found in PIECES.finditer(html)]


def _compare_words(first: list[str], second: list[str]) -> tuple[set[int], set[int]]:
    """Places of the words that have no partner on the other side."""
    lonely = set(range(len(first))), set(range(len(second)))
    start, other_start = 0, 0
    while start < len(first) and other_start < len(second):
        window, other = first[start : start + WINDOW], second[other_start : other_start + WINDOW]
        blocks = SequenceMatcher(None, window, other).get_matching_blocks()
        is_last = start + WINDOW >= len(first) and other_start + WINDOW >= len(second)
        if not is_last:
            blocks = _up_to_last_sure(blocks)
        for block in blocks:
            lonely[0].difference_update(range(start + block.a, start + block.a + block.size))
            lonely[1].difference_update(range(other_start + block.b, other_start + block.b + block.size))
        if is_last:
            break
        start += blocks[-1].a + blocks[-1].size if blocks else len(window)
        other_start += blocks[-1].b + blocks[-1].size if blocks else len(other)
    return lonely


def _up_to_last_sure(blocks: list[Match]) -> list[Match]:
    """Agreements up to the last long one: what comes after it may still find a better partner in the next window."""
    sure = [place for place, block in enumerate(blocks) if block.size >= SURE]
    return blocks[: sure[-1] + 1] if sure else []


def _wrap(pieces: list[tuple[str, str]], differing: set[int]) -> str:
    """Neighbouring words share one mark, with the space between them; a tag or a formula ends it."""
    out: list[str] = []
    run: list[str] = []
    spaces: list[str] = []

    def close_run() -> None:
        if run:
            out.append(f"<mark>{''.join(run)}</mark>")
        out.extend(spaces)
        run.clear()
        spaces.clear()

    place = 0
    for kind, text in pieces:
        if kind == "word" and place in differing:
            run.extend([*spaces, text])
            spaces.clear()
        elif kind == "space" and run:
            spaces.append(text)
        else:
            close_run()
            out.append(text)
        place += kind in ("word", "formula")
    close_run()
    return "".join(out)
