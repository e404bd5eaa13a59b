"""The words that micro was trained on, for a visitor to search."""

from difflib import get_close_matches

import streamlit as st

from diffusion_explained.micro.scenes import POSITIONS, RELATIONS
from diffusion_explained.micro.subjects import Subjects, load_subjects
from diffusion_explained.micro.words import COLOURS, NUMBERS
from explorer import page

OTHER = {
    "colours": COLOURS,
    "how many": tuple(NUMBERS.values()),
    "where": (*POSITIONS, *RELATIONS),
    "background": ("on a green background",),
}


@st.cache_data(show_spinner=False)
def _loaded() -> Subjects:
    return load_subjects()


def subjects() -> Subjects:
    """Group -> subject -> its synonyms."""
    with page.needed("The list of words that travels with the package"):
        return _loaded()


def names() -> tuple[str, ...]:
    """All subjects."""
    return tuple(name for group in subjects().values() for name in group)


def nouns() -> frozenset[str]:
    """The words of which the names of subjects consist."""
    return frozenset(word for name in names() for word in name.split() if len(word) > 2)


def matching(query: str) -> dict[str, list[str]]:
    """Group -> the subjects whose names or synonyms contain the text, ignoring upper and lower case."""
    text = query.strip().lower()
    found = {
        group: [name for name, synonyms in of_group.items() if any(text in word for word in (name, *synonyms))]
        for group, of_group in subjects().items()
    }
    return {group: matches for group, matches in found.items() if matches}


def nearest(word: str, most: int = 4) -> list[str]:
    """Known subjects for an unknown word: those of which it is a synonym, or part of one, else those spelled alike."""
    synonyms = [name for names in matching(word).values() for name in names] if len(word) > 2 else []
    spelled = get_close_matches(word.lower(), names(), most, 0.6)
    return list(dict.fromkeys([*sorted(synonyms, key=len), *spelled]))[:most]
