"""Every sentence of the pages stands in every catalogue with its placeholders: found in the sources themselves."""

import ast
import gettext
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("config", "annotation", "activelearning", "training")
LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
CALLS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
QUOTED = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
IN_A_TEMPLATE = re.compile(rf"(?:\b_|\bgettext|\bngettext)\(\s*{QUOTED}(?:\s*,\s*{QUOTED})?")
PLACEHOLDER = re.compile(r"%\(\w+\)[-.\d]*[a-z]|%[sd]")

Sentence = tuple[str, str]
"""A sentence and its plural, which is empty where it has none."""


class Missing(gettext.NullTranslations):
    """Behind a catalogue, in place of the English words."""

    def gettext(self, message: str) -> str:
        raise LookupError(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        raise LookupError(msgid1)


def catalogue(path: Path) -> gettext.GNUTranslations:
    with path.open("rb") as file:
        found = gettext.GNUTranslations(file)
    found.add_fallback(Missing())
    return found


def file_of(language: str, suffix: str) -> Path:
    return ROOT / "templates" / "locale" / language / "LC_MESSAGES" / f"django.{suffix}"


def said_in_python(text: str) -> Iterator[Sentence]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            assert words, f"a sentence that no catalogue can hold: {ast.unparse(node)}"
            yield words[0], words[1] if node.func.id.startswith("ngettext") else ""


def said_in_a_template(text: str) -> Iterator[Sentence]:
    for one, more in IN_A_TEMPLATE.findall(templatize(text)):
        yield ast.literal_eval(one), ast.literal_eval(more) if more else ""


def sentences() -> set[Sentence]:
    python = (path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts)
    found = {one for path in python for one in said_in_python(path.read_text("utf-8"))}
    for path in (ROOT / "templates").rglob("*.html"):
        found.update(said_in_a_template(path.read_text("utf-8")))
    return found


def translations_of(found: gettext.GNUTranslations, sentence: Sentence) -> list[str]:
    """For one and for many; none where the catalogue lacks the sentence."""
    one, more = sentence
    try:
        return [found.ngettext(one, more, count) for count in (1, 2)] if more else [found.gettext(one)]
    except LookupError:
        return []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_translated_with_its_placeholders(language: str) -> None:
    found = catalogue(file_of(language, "mo"))
    said = sentences()
    assert len(said) > 1000
    missing, wrong = [], []
    for sentence in sorted(said):
        texts = translations_of(found, sentence)
        missing += [] if texts else [sentence[0]]
        wanted = sorted(PLACEHOLDER.findall(sentence[1] or sentence[0]))
        wrong += [text for text in texts[-1:] if sorted(PLACEHOLDER.findall(text)) != wanted]
        wrong += [text for text in texts if not set(PLACEHOLDER.findall(text)) <= set(wanted) or not text.strip()]
    assert not missing, f"{len(missing)} sentences lack {language}: see docs/desk.md, Languages"
    assert not wrong


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs gettext's tools")
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language: str, tmp_path: Path) -> None:
    anew = tmp_path / "django.mo"
    subprocess.run(["msgfmt", "--check-format", "-o", anew, file_of(language, "po")], check=True)
    first, second = catalogue(anew), catalogue(file_of(language, "mo"))
    for sentence in sentences():
        assert translations_of(first, sentence) == translations_of(second, sentence)
