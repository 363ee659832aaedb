"""Words in prompts and responses: by an index of words on PostgreSQL, by reading along on SQLite. Pages by key, never
by offset."""

import json
from typing import TypeVar

from django.db import connection, models, transaction
from django.db.models import Exists, Func, OuterRef, QuerySet, TextField, Value
from django.db.models.functions import Cast, Lower

from annotation.models import Campaign, Conversation, Response

WORDS = "to_tsvector('simple', replace(left(messages::text, 100000), '\\n', ' '))"
"""What `conversation_words` and `response_words` index: the first 100,000 characters, since PostgreSQL refuses to index
a megabyte of words."""
PAGE = 50
FEW = 10_000
"""Responses with the words that are looked up one by one."""
CHUNK = 1000
Row = TypeVar("Row", Conversation, Response)


def search_conversations(
    *, campaign: Campaign, text: str = "", category: str = "", after: int = 0, limit: int = PAGE
) -> list[Conversation]:
    """The next conversations after a key with every word of the text in the prompt or in one of the responses; all of
    them for an empty text.

    Asked for apart and merged: either way has its own index.
    """
    found = Conversation.objects.filter(campaign=campaign, pk__gt=after)
    if category:
        found = found.filter(category=category)
    words = text.replace("\x00", " ").strip()[:200]
    if not words:
        return list(found.order_by("pk")[:limit])
    by_prompt = _holding(found, words).order_by("pk")[:limit]
    both = {one.pk: one for one in (*by_prompt, *_by_response(found, words, after=after, limit=limit))}
    return [both[pk] for pk in sorted(both)[:limit]]


def _by_response(found: QuerySet[Conversation], words: str, *, after: int, limit: int) -> list[Conversation]:
    """Those with the words in a response. Few responses with them are looked up by the index; where there are many,
    the next ones are near, and the conversations are gone through one after another.

    Left to itself PostgreSQL goes through a million conversations for a word that stands in one.
    """
    said = _holding(Response.objects.all(), words)
    ids = _first_few(said) if connection.vendor == "postgresql" else None
    if ids is None:
        return list(found.filter(Exists(said.filter(conversation=OuterRef("pk")))).order_by("pk")[:limit])
    nearest = sorted(pk for pk in ids if pk > after)
    rows: list[Conversation] = []
    for start in range(0, len(nearest), CHUNK):
        rows += found.filter(pk__in=nearest[start : start + CHUNK]).order_by("pk")[: limit - len(rows)]
        if len(rows) == limit:
            break
    return rows


def _first_few(said: QuerySet[Response]) -> set[int] | None:
    """The conversations of these responses, of whatever campaign; None for more than `FEW` responses."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # reading along takes the words of every text apart
        ids = list(said.order_by().values_list("conversation", flat=True)[: FEW + 1])
        cursor.execute("SET LOCAL enable_seqscan = on")
    return set(ids) if len(ids) <= FEW else None


def _holding(rows: QuerySet[Row], words: str) -> QuerySet[Row]:
    if connection.vendor == "postgresql":
        return rows.alias(
            is_match=_Matches(Value(words, output_field=TextField()), output_field=models.BooleanField())
        ).filter(is_match=True)
    rows = rows.alias(text=Lower(Cast("messages", TextField())))
    for word in words.split():
        rows = rows.filter(text__contains=json.dumps(word)[1:-1].lower())
    return rows


class _Matches(Func):
    """The index's own expression, letter by letter, so that PostgreSQL recognises it."""

    template = f"({WORDS} @@ plainto_tsquery('simple', %(expressions)s))"
