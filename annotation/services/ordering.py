"""Who adds conversations, responses or comparisons to a campaign does so one after the other."""

from django.db import connection

ADDING = 0x7075
"""The space of these locks among PostgreSQL's advisory locks."""


def add_in_order(campaign_id: int) -> None:
    """Wait for whoever adds to this campaign; until the caller's transaction ends, others wait.

    Embeddings and pools are read on from the largest id that they know. Ids are given when a row is inserted and seen
    when it is committed: without the lock, rows of a longer transaction would appear below that mark and be passed
    over for ever. Call it before the first such row and before the campaign's row is touched. SQLite has one writer.
    """
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [ADDING, campaign_id % 2**31])
