"""Languages of conversations and of the people who read them, as short codes: de, en, zh."""

import re
from collections.abc import Iterable

from django.conf.locale import LANG_INFO

UNKNOWN = frozenset({"", "unknown", "und", "mul", "zxx", "other"})
_BY_NAME = {
    str(info[key]).lower(): code.partition("-")[0]
    for code, info in LANG_INFO.items()
    for key in ("name", "name_local")
    if key in info
}
"""As people and data sets write them: German, Deutsch."""
_TAG = re.compile(r"[a-z]{2,8}")


def code_of(name: object) -> str:
    """The code of a language tag or name; regions and scripts are left away. "" for what names no language."""
    text = name.strip().lower() if isinstance(name, str) else ""
    if text in _BY_NAME:
        return _BY_NAME[text]
    code = re.split(r"[-_]", text)[0]
    return code if code not in UNKNOWN and _TAG.fullmatch(code) else ""


def codes_of(names: Iterable[object]) -> list[str]:
    """The codes, each once, in the order given."""
    return [code for code in dict.fromkeys(map(code_of, names)) if code]


def may_read(language: str, *lists: Iterable[object]) -> bool:
    """Whether every list of languages has this one. An unknown language suits everybody, an empty list has all."""
    wanted = code_of(language)
    known = [set(codes_of(names)) for names in lists]
    return not wanted or all(not codes or wanted in codes for codes in known)
