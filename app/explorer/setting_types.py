"""The types of values that a page's setting may have, and their form in the address: numbers, choices, switches, text.

Each type reads the list of values that a key has in an address (ValueError for an impossible one), writes a value as
such a list, and tells whether a value is allowed (`has`).
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T", int, float)
WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]{1,3})?", re.ASCII)
MOST_DIGITS = 24
UNTYPED = ("Cc", "Cs", "Cn")  # control characters, surrogates, and unassigned code points
LONGEST = 5000  # letters of a prompt


class SettingType(Protocol):
    """The values that a setting may have."""

    def read(self, texts: list[str]) -> object:
        """The value that an address asks for. Raises ValueError for an impossible one."""

    def write(self, value: object) -> list[str]:
        """A value as an address writes it."""

    def has(self, value: object) -> bool:
        """Whether a value is allowed."""


def one(texts: list[str]) -> str:
    """The value of a key that must have exactly one."""
    if len(set(texts)) != 1:
        raise ValueError("This can be given once.")
    return texts[0]


def _number(texts: list[str], written: re.Pattern[str], make: Callable[[str], T], kind: SettingType, words: str) -> T:
    """Parse the key's text as a number allowed by `kind`. Raises ValueError with `words` for any other text."""
    text = one(texts)
    if len(text) > MOST_DIGITS or not written.fullmatch(text) or not kind.has(number := make(text)):
        raise ValueError(words)
    return number


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high."""

    low: int
    high: int

    def read(self, texts: list[str]) -> int:
        return _number(texts, WHOLE, int, self, f"A whole number from {self.low} to {self.high}.")

    def write(self, value: int) -> list[str]:
        return [str(value)]

    def has(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Number:
    """A number from low to high."""

    low: float
    high: float

    def read(self, texts: list[str]) -> float:
        return _number(texts, NUMBER, float, self, f"A number from {self.low:g} to {self.high:g}.")

    def write(self, value: float) -> list[str]:
        return [repr(float(value)).removesuffix(".0")]

    def has(self, value: object) -> bool:
        return isinstance(value, int | float) and math.isfinite(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Range:
    """Two whole numbers, the lower one first: "25-75"."""

    low: int
    high: int

    def read(self, texts: list[str]) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", one(texts), re.ASCII)
        if not found or not self.has(value := (int(found[1]), int(found[2]))):
            raise ValueError(f"Two whole numbers from {self.low} to {self.high}, as 25-75.")
        return value

    def write(self, value: tuple[int, int]) -> list[str]:
        return [f"{value[0]}-{value[1]}"]

    def has(self, value: object) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and self.low <= value[0] <= value[1] <= self.high


@dataclass(frozen=True)
class OneOf:
    """One of several choices; an address writes str(choice)."""

    choices: Sequence[object]

    def read(self, texts: list[str]) -> object:
        text = one(texts)
        for choice in self.choices:
            if str(choice) == text:
                return choice
        raise ValueError("None of the choices.")

    def write(self, value: object) -> list[str]:
        return [str(value)]

    def has(self, value: object) -> bool:
        return value in self.choices


@dataclass(frozen=True)
class ManyOf:
    """Any number of several choices; a key with an empty value means none of them."""

    choices: Sequence[object]

    def read(self, texts: list[str]) -> list[object]:
        chosen = [] if texts == [""] else texts
        named = {str(choice): choice for choice in self.choices}
        if not named.keys() >= set(chosen):
            raise ValueError("Not all of these can be chosen.")
        return [named[text] for text in dict.fromkeys(chosen)]  # in the order in which they were chosen

    def write(self, value: Sequence[object]) -> list[str]:
        return [str(choice) for choice in value] or [""]

    def has(self, value: object) -> bool:
        return isinstance(value, list | tuple) and all(one in self.choices for one in value)


@dataclass(frozen=True)
class Joined:
    """Any number of several choices in one text, joined by points: "density.paths", or "none"."""

    choices: Sequence[str]

    def read(self, texts: list[str]) -> str:
        if not self.has(text := one(texts)):
            raise ValueError("Not all of these can be chosen.")
        return text

    def write(self, value: str) -> list[str]:
        return [value]

    def has(self, value: object) -> bool:
        return value == "none" or (isinstance(value, str) and set(value.split(".")) <= set(self.choices))


@dataclass(frozen=True)
class Switch:
    """On or off: true or false."""

    def read(self, texts: list[str]) -> bool:
        text = one(texts)
        if text not in ("true", "false"):
            raise ValueError("true or false.")
        return text == "true"

    def write(self, value: bool) -> list[str]:
        return ["true" if value else "false"]

    def has(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text:
    """A text of one line, without control characters."""

    most: int = LONGEST

    def read(self, texts: list[str]) -> str:
        text = one(texts)
        if not self.has(text) or any(
            unicodedata.category(letter) in UNTYPED or letter in "\u2028\u2029" for letter in text
        ):
            raise ValueError(f"At most {self.most} letters in one line.")
        return text

    def write(self, value: str) -> list[str]:
        return [value]

    def has(self, value: object) -> bool:
        return isinstance(value, str) and len(value) <= self.most
