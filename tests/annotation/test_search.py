"""Finding conversations by their words."""

import pytest
from django.db import connection

from annotation.models import Campaign, Conversation, Response
from annotation.services import search
from annotation.services.search import search_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def conversations(campaign: Campaign) -> list[Conversation]:
    texts = ["How do I reverse a list?", "Wie heißt die Hauptstadt\nvon Österreich?", "Reverse the charges, please."]
    return [
        Conversation.objects.create(
            campaign=campaign, digest=f"{n:064x}", category="x" if n else "y",
            messages=[{"role": "user", "content": text}],
        )
        for n, text in enumerate(texts)
    ]  # fmt: skip


def test_every_word_must_be_there_in_any_case(campaign: Campaign, conversations: list[Conversation]) -> None:
    first, german, last = conversations
    assert search_conversations(campaign=campaign, text="REVERSE") == [first, last]
    assert search_conversations(campaign=campaign, text="list reverse") == [first]
    assert search_conversations(campaign=campaign, text="von Österreich") == [german]
    assert search_conversations(campaign=campaign, text="nothing of this") == []


def test_a_response_is_searched_as_well(campaign: Campaign, conversations: list[Conversation]) -> None:
    first, german, _ = conversations
    for number, (conversation, text) in enumerate(
        [(first, "Slice it backwards."), (german, "Wien, the old\nlist of places."), (german, "Bern. Slice?")]
    ):
        Response.objects.create(
            conversation=conversation, digest=f"{number:064x}", messages=[{"role": "assistant", "content": text}]
        )
    assert search_conversations(campaign=campaign, text="SLICE") == [first, german]
    assert search_conversations(campaign=campaign, text="list") == [first, german], "in a prompt, and in a response"
    assert search_conversations(campaign=campaign, text="wien bern") == [], "every word in one and the same text"
    assert search_conversations(campaign=campaign, text="slice", category="x") == [german]
    assert search_conversations(campaign=campaign, text="slice", limit=1) == [first]
    assert search_conversations(campaign=campaign, text="slice", after=first.pk) == [german]
    assert search_conversations(campaign=Campaign.objects.create(name="Another"), text="slice") == []


def test_pages_go_by_key(campaign: Campaign, conversations: list[Conversation]) -> None:
    first, german, last = conversations
    assert search_conversations(campaign=campaign, limit=2) == [first, german]
    assert search_conversations(campaign=campaign, after=german.pk, limit=2) == [last]
    assert search_conversations(campaign=campaign, text="reverse", category="x") == [last]


def test_another_campaign_is_not_searched(campaign: Campaign, conversations: list[Conversation]) -> None:
    assert search_conversations(campaign=Campaign.objects.create(name="Another"), text="reverse") == []


@pytest.mark.parametrize(
    "text", ["'; drop table", '"', "%", "\\", "a" * 5000, "\x00x"], ids=lambda text: repr(text[:12])
)
def test_no_text_breaks_it(campaign: Campaign, conversations: list[Conversation], text: str) -> None:
    assert search_conversations(campaign=campaign, text=text) == []


def test_a_very_long_conversation_is_stored_and_found(campaign: Campaign) -> None:
    """A million different words are more than PostgreSQL's index takes of one row."""
    words = " ".join(f"word{n}" for n in range(200_000))
    long = Conversation.objects.create(
        campaign=campaign, digest="0" * 64, messages=[{"role": "user", "content": words}]
    )
    assert search_conversations(campaign=campaign, text="word7") == [long]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the index is PostgreSQL's")
@pytest.mark.parametrize("table", ["conversation", "response"])
def test_the_index_is_used(campaign: Campaign, conversations: list[Conversation], table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
        from annotation.services.search import WORDS

        cursor.execute(f"EXPLAIN SELECT id FROM annotation_{table} WHERE {WORDS} @@ plainto_tsquery('simple', 'list')")
        assert f"{table}_words" in "".join(row[0] for row in cursor.fetchall())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the index is PostgreSQL's")
@pytest.mark.parametrize("few", [0, 1, 100])
def test_few_and_many_responses_are_found_alike(
    campaign: Campaign, conversations: list[Conversation], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(search, "FEW", few)
    monkeypatch.setattr(search, "CHUNK", 2)
    theirs = Campaign.objects.create(name="Another")
    another = Conversation.objects.create(campaign=theirs, digest="0" * 64, messages=[])
    for number, conversation in enumerate([*conversations, another, *conversations[1:]]):
        Response.objects.create(
            conversation=conversation, digest=f"{number:064x}", messages=[{"role": "assistant", "content": "Slice it."}]
        )
    assert search_conversations(campaign=campaign, text="slice") == conversations
    assert search_conversations(campaign=campaign, text="slice", limit=2) == conversations[:2]
    first, second, _ = conversations
    assert search_conversations(campaign=campaign, text="slice", after=first.pk, limit=1) == [second]
