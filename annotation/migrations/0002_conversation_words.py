"""An index of the words of conversations and of their responses, where the database is PostgreSQL."""

from typing import Any

from django.db import migrations

from annotation.services.search import WORDS

TABLES = ("conversation", "response")


def create_indexes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(
                f"CREATE INDEX {table}_words ON annotation_{table} USING gin ({WORDS})", params=None
            )


def drop_indexes(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"DROP INDEX {table}_words", params=None)


class Migration(migrations.Migration):
    dependencies = [("annotation", "0001_initial")]

    operations = [migrations.RunPython(create_indexes, drop_indexes)]
