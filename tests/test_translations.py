"""Every sentence of the pages stands in every catalogue with its placeholders: found in the sources themselves."""

import ast
import gettext
import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest
from django.conf import settings
from django.forms import BaseForm
from django.utils.translation import override
from django.utils.translation.template import templatize

import activelearning.forms
import annotation.forms
import training.forms
from activelearning.templatetags.figures import SENTENCES

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("config", "annotation", "activelearning", "training")
LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
CALLS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}
QUOTED = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
IN_A_TEMPLATE = re.compile(rf"(?:\b_|\bgettext|\bngettext)\(\s*{QUOTED}(?:\s*,\s*{QUOTED})?")
PLACEHOLDER = re.compile(r"%\(\w+\)[-.\d]*[a-z]|%[sd]")

FORMS = [
    activelearning.forms,
    training.forms,
    *(importlib.import_module(f"annotation.forms.{one.name}") for one in iter_modules(annotation.forms.__path__)),
]

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


def test_what_the_algorithms_say_is_known_to_the_pages() -> None:
    """They know no framework: what they say where a figure is undefined is listed for the catalogues."""
    said = set()
    for path in (ROOT / "activelearning" / "algorithms").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
                said.add(ast.literal_eval(node.value))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("Figure", "Figure.undefined"):
                said |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    assert "One label gives no interval." in said
    assert said <= set(SENTENCES)


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


def labels_of(module: ModuleType) -> Iterator[tuple[str, str]]:
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, BaseForm) and kind.__module__ == module.__name__:
            for name, field in kind.base_fields.items():
                if field.label:
                    yield f"{kind.__name__}.{name}", str(field.label)


@pytest.mark.parametrize("module", FORMS, ids=lambda module: module.__name__)
def test_every_field_is_named_by_a_sentence_of_the_catalogues(module: ModuleType) -> None:
    """A model's field without a label would be named by its English identifier."""
    said = {one for one, _more in sentences()}
    with override("en"):
        assert [name for name, label in labels_of(module) if label not in said] == []


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs gettext's tools")
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_compiled_is_what_is_written(language: str, tmp_path: Path) -> None:
    anew = tmp_path / "django.mo"
    subprocess.run(["msgfmt", "--check-format", "-o", anew, file_of(language, "po")], check=True)
    first, second = catalogue(anew), catalogue(file_of(language, "mo"))
    for sentence in sentences():
        assert translations_of(first, sentence) == translations_of(second, sentence)
