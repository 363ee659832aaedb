"""Which models a page may name: what is installed, an id of the hub, or a folder below MODEL_FOLDER."""

import re
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

INSTALLED = ("default", "minilm", "tiny")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def check_model_name(name: str) -> str:
    """The name as the workers may load it. Raises ValidationError.

    A worker reads what it is pointed at, and what it made of it can be downloaded: a name that is a path elsewhere on
    the server would lead one campaign into another's policies. Commands are not asked: who starts them reads the files.
    """
    name = name.strip()
    if name in INSTALLED:
        return name
    if HUB_ID.fullmatch(name) and ".." not in name and not Path(name).exists():  # a folder here would win over the hub
        return name
    path = Path(name).resolve() if Path(name).is_absolute() else None
    if path is not None and path.is_relative_to(settings.MODEL_FOLDER) and not path.is_relative_to(files_folder()):
        return str(path)
    raise ValidationError(
        _("Name a model of the hub, such as Qwen/Qwen3-0.6B, or a folder below the server's MODEL_FOLDER.")
    )


def files_folder() -> Path:
    """Where every campaign's uploads and policies lie."""
    return Path(settings.MEDIA_ROOT).resolve()
