"""What of a text a database takes."""


def storable(text: str) -> str:
    """The text without NUL characters and halves of surrogate pairs: a model may write both, and PostgreSQL refuses."""
    return text.replace("\x00", "").encode("utf-8", errors="ignore").decode("utf-8")
