"""Words in conversations: by an index of words on PostgreSQL, by reading along on SQLite. Pages by key, never by
offset."""

import json

from django.db import connection, models
from django.db.models import Func, QuerySet, TextField, Value
from django.db.models.functions import Cast, Lower

from annotation.models import Campaign, Conversation

WORDS = "to_tsvector('simple', replace(left(messages::text, 100000), '\\n', ' '))"
"""What `conversation_words` indexes: the first 100,000 characters, since PostgreSQL refuses to index a megabyte of
words."""
PAGE = 50


def search_conversations(
    *, campaign: Campaign, text: str = "", category: str = "", after: int = 0, limit: int = PAGE
) -> list[Conversation]:
    """The next conversations after a key that hold every word of the text; all of them for an empty text."""
    found = Conversation.objects.filter(campaign=campaign, pk__gt=after)
    if category:
        found = found.filter(category=category)
    if words := text.replace("\x00", " ").strip()[:200]:
        found = _holding(found, words)
    return list(found.order_by("pk")[:limit])


def _holding(conversations: QuerySet[Conversation], words: str) -> QuerySet[Conversation]:
    if connection.vendor == "postgresql":
        return conversations.alias(
            is_match=_Matches(Value(words, output_field=TextField()), output_field=models.BooleanField())
        ).filter(is_match=True)
    conversations = conversations.alias(text=Lower(Cast("messages", TextField())))
    for word in words.split():
        conversations = conversations.filter(text__contains=json.dumps(word)[1:-1].lower())
    return conversations


class _Matches(Func):
    """The index's own expression, letter by letter, so that PostgreSQL recognises it."""

    template = f"({WORDS} @@ plainto_tsquery('simple', %(expressions)s))"
