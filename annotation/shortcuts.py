"""The desk's keys: which key does what, and how a teacher changes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

LONGEST_KEY = 12
"""Characters of a key's name in the browser: `a`, `ArrowLeft`, `Backspace`."""


@dataclass(frozen=True)
class Shortcut:
    """One thing that a key does at the desk."""

    name: str
    key: str
    """As the browser names it in KeyboardEvent.key; empty is none."""
    title: "_StrPromise"


SHORTCUTS = (
    Shortcut("answer_1", "1", _("First answer from the left")),
    Shortcut("answer_2", "2", _("Second answer")),
    Shortcut("answer_3", "3", _("Third answer")),
    Shortcut("answer_4", "4", _("Fourth answer")),
    Shortcut("answer_5", "5", _("Fifth answer")),
    Shortcut("answer_6", "6", _("Sixth answer")),
    Shortcut("answer_7", "7", _("Seventh answer")),
    Shortcut("answer_8", "8", _("Eighth answer")),
    Shortcut("first", "ArrowLeft", _("A is better")),
    Shortcut("second", "ArrowRight", _("B is better")),
    Shortcut("tie", "t", _("Tie")),
    Shortcut("both_bad", "x", _("Both bad")),
    Shortcut("skip", "s", _("Skip")),
    Shortcut("undo", "u", _("Undo the last answer")),
    Shortcut("reason", "r", _("Write a reason")),
    Shortcut("flag", "f", _("Flag for the admins")),
    Shortcut("differences", "d", _("Show differences")),
    Shortcut("guidelines", "g", _("Guidelines")),
    Shortcut("prompt", "p", _("Go to the prompt")),
    Shortcut("message", "m", _("Write to the admins")),
    Shortcut("history", "h", _("My answers")),
    Shortcut("help", "?", _("Show the shortcuts")),
)


def keys_of(preferences: dict[str, Any]) -> dict[str, str]:
    """Shortcut name -> key, for these preferences; all empty where the person has switched keys off."""
    chosen = preferences.get("shortcuts", {})
    if preferences.get("shortcuts_off"):
        return {shortcut.name: "" for shortcut in SHORTCUTS}
    return {shortcut.name: str(chosen.get(shortcut.name, shortcut.key)) for shortcut in SHORTCUTS}
