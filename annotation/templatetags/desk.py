"""What the desk's templates need beyond Django's own filters."""

import secrets
from collections.abc import Hashable, Mapping
from typing import Any

from django import template
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

MOST_KEPT = 500
"""Fragments that one process keeps."""


@register.filter
def at(mapping: Mapping[Any, Any] | str | None, key: Any) -> Any:
    """The value under a key that is itself a variable; empty where there is none."""
    return mapping.get(key, "") if isinstance(mapping, Mapping) else ""


class KeptNode(template.Node):
    """Controls that differ from one offer to the next by two values only: rendered once, then only these two filled in.

    Marks that nobody can guess stand for the offer's code and the CSRF token, which is masked anew for each answer.
    """

    def __init__(self, nodelist: NodeList, key: FilterExpression) -> None:
        self.nodelist, self.key = nodelist, key
        self.offer_mark, self.token_mark = secrets.token_hex(20), secrets.token_hex(20)
        self.kept: dict[Hashable, str] = {}

    def render(self, context: template.Context) -> SafeString:
        key = self.key.resolve(context)
        if not key:
            return self.nodelist.render(context)
        html = self.kept.get(key)
        if html is None:
            with context.push(offer={"code": self.offer_mark}, csrf_token=self.token_mark):
                html = self.nodelist.render(context)
            if len(self.kept) >= MOST_KEPT:
                self.kept.clear()
            self.kept[key] = html
        html = html.replace(self.offer_mark, str(context["offer"].code))
        return mark_safe(html.replace(self.token_mark, str(context["csrf_token"])))  # a UUID and letters


@register.tag
def kept(parser: Parser, token: Token) -> KeptNode:
    """`{% kept key %}…{% endkept %}`: render the content once for each key, which says all that it depends on.

    An empty key renders it anew.
    """
    _name, key = token.split_contents()
    nodelist = parser.parse(("endkept",))
    parser.delete_first_token()
    return KeptNode(nodelist, parser.compile_filter(key))
