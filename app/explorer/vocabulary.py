"""The words that micro was trained on, for a visitor to search."""

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


def matching(query: str) -> dict[str, list[str]]:
    """Group -> the subjects whose names or synonyms contain the text, ignoring upper and lower case."""
    text = query.strip().lower()
    found = {
        group: [name for name, synonyms in of_group.items() if any(text in word for word in (name, *synonyms))]
        for group, of_group in subjects().items()
    }
    return {group: matches for group, matches in found.items() if matches}
