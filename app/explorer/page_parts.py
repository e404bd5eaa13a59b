"""What the words of a page consist of: see `page_words`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Try:
    """Something to try: what its button says, the controls that it sets, and what it sets in the browser."""

    title: str
    words: str
    sets: Mapping[str, object] = field(default_factory=dict)
    moves: Mapping[str, object] = field(default_factory=dict)


class Question(NamedTuple):
    """A question to be answered before its answer is shown; right: the index of the right answer."""

    asks: str
    answers: tuple[str, ...]
    right: int
    explanation: str


class Reader(NamedTuple):
    """A reader, by what the pages show: formulas, facts about the picture, the program (hidden, folded or open)."""

    name: str
    formulas: bool
    notes: bool
    program: str


@dataclass(frozen=True)
class PageWords:
    """The words of a page: its name in the navigation, a short sentence for links to it, and what the page itself says.

    notes: facts about what the page shows, one sentence or two each.
    """

    name: str
    icon: str
    short: str
    title: str = ""
    lead: str = ""
    formulas: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    question: Question | None = None
    notes: tuple[str, ...] = ()
