"""What the desk's templates need beyond Django's own filters."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def at(mapping: Mapping[Any, Any] | str | None, key: Any) -> Any:
    """The value under a key that is itself a variable; empty where there is none."""
    return mapping.get(key, "") if isinstance(mapping, Mapping) else ""
