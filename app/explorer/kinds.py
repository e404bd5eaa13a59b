"""What a setting of a page may be, and how the address spells it: numbers, choices, switches, words.

Each kind reads the list of values that a key has in an address (ValueError for what is not possible), writes a value as
such a list, and knows whether it `has` a value.
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
UNTYPED = ("Cc", "Cs", "Cn")  # of control letters, halves of letters, and what is none
LONGEST = 5000  # letters of a prompt


class Kind(Protocol):
    """What a setting may be."""

    def read(self, texts: list[str]) -> object:
        """The value that an address asks for. Raises ValueError for what is not possible."""

    def write(self, value: object) -> list[str]:
        """How an address asks for a value."""

    def has(self, value: object) -> bool:
        """Whether it is one of these values."""


def one(texts: list[str]) -> str:
    """The value of a key that is to have one."""
    if len(set(texts)) != 1:
        raise ValueError("This can be given once.")
    return texts[0]


def _number(texts: list[str], written: re.Pattern[str], make: Callable[[str], T], kind: Kind, words: str) -> T:
    """The number of a kind that a key has, if it is written so; ValueError with these words for any other text."""
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
    """One of some choices, spelt as they are written."""

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
    """Any number of some choices; a key without a value stands for none of them."""

    choices: Sequence[object]

    def read(self, texts: list[str]) -> list[object]:
        wanted = [] if texts == [""] else texts
        named = {str(choice): choice for choice in self.choices}
        if not named.keys() >= set(wanted):
            raise ValueError("Not all of these can be chosen.")
        return [named[text] for text in dict.fromkeys(wanted)]  # in the order in which they were chosen

    def write(self, value: Sequence[object]) -> list[str]:
        return [str(choice) for choice in value] or [""]

    def has(self, value: object) -> bool:
        return isinstance(value, list | tuple) and all(one in self.choices for one in value)


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
    """Words in one line, without control letters."""

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
