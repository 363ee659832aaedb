"""An index of the words of conversations, where the database is PostgreSQL."""

from typing import Any

from django.db import migrations

from annotation.services.search import WORDS


def create_index(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"CREATE INDEX conversation_words ON annotation_conversation USING gin ({WORDS})", params=None
        )


def drop_index(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX conversation_words", params=None)


class Migration(migrations.Migration):
    dependencies = [("annotation", "0001_initial")]

    operations = [migrations.RunPython(create_index, drop_index)]
