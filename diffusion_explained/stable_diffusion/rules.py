"""Rules for the values of files that come from outside: in words for messages, and as a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """Which values are allowed: in words for messages, and as a test."""

    words: str
    allows: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """A whole number from low to high; true and false are not numbers."""
    return Rule(f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high)
