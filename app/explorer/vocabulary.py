"""The words that micro was trained on, for a visitor to look through."""

from explorer import emoji


def known() -> tuple[str, ...]:
    """All of them, in alphabetical order."""
    return emoji.names()
