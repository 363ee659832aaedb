"""Which words of two rendered responses differ: marked in the HTML, on request."""

import hashlib
import re
from dataclasses import replace
from difflib import SequenceMatcher

from django.core.cache import cache
from django.utils.safestring import SafeString, mark_safe

from annotation.rendering import KEEP_SECONDS, Sides, Turn

MOST_WORDS = 6_000
"""In both together: beyond, words that are everywhere anchor nothing."""

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
    marked: tuple[str, str] | None = cache.get(key)
    if marked is None:
        pieces = _split(first), _split(second)
        words = tuple([text for kind, text in side if kind in ("word", "formula")] for side in pieces)
        differing = _compare_words(words[0], words[1])
        marked = _wrap(pieces[0], differing[0]), _wrap(pieces[1], differing[1])
        cache.set(key, marked, KEEP_SECONDS)
    return mark_safe(marked[0]), mark_safe(marked[1])


def _split(html: str) -> list[tuple[str, str]]:
    return [(str(found.lastgroup), found.group()) for found in PIECES.finditer(html)]


def _compare_words(first: list[str], second: list[str]) -> tuple[set[int], set[int]]:
    """Places of the words that have no partner. Frequent words anchor nothing in long texts, which keeps it quick."""
    matcher = SequenceMatcher(None, first, second, autojunk=len(first) + len(second) > MOST_WORDS)
    lonely: tuple[set[int], set[int]] = (set(), set())
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        if kind != "equal":
            lonely[0].update(range(start, end))
            lonely[1].update(range(other_start, other_end))
    return lonely


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
