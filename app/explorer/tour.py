"""The tour: the pages' tries as one lecture. Each stop is an address, so that a stop can be sent and Back goes back."""

from itertools import chain
from typing import NamedTuple

import streamlit as st

from explorer import address, part_labels, tries
from explorer.page_words import PAGES, PATH
from explorer.setting_types import OneOf

MINUTES = 15
# which tries of a page are stops, where they are not its first one alone
TRIES = {"plane": (1, 2), "forward": (1, 2), "reverse": (1, 2, 3), "schedules": (2,), "guidance": (1, 2, 3)}


class Stop(NamedTuple):
    """A page, and the number of its try."""

    page: str
    number: int


def _stops() -> tuple[Stop, ...]:
    pages = [name for name in chain(*PATH.values()) if PAGES[name].tries]
    return tuple(Stop(name, number) for name in pages for number in TRIES.get(name, (1,)))


STOPS = _stops()


def begin() -> None:
    """The link to the first stop."""
    st.page_link(
        f"pages_/{STOPS[0].page}.py",
        label=part_labels.Tour.begin.format(stops=len(STOPS), minutes=MINUTES),
        icon=":material/tour:",
        query_params={"tour": "1"},
    )


def guide(page: str) -> None:
    """Above a page that is a stop of the tour: set the state of the stop on arrival, and show the bar."""
    here, numbers = address.visit(), [k for k, stop in enumerate(STOPS, 1) if stop.page == page]
    alone = list(here.given) == ["tour"]  # an address with more says itself what the page shows
    number = address.hidden("tour", OneOf((0, *numbers)), 0)
    if not number:
        return
    one = PAGES[page].tries[STOPS[number - 1].number - 1]
    if alone:
        tries.set_state(one.sets, one.moves)
    with st.container(key="tour", horizontal=True, vertical_alignment="center", gap="small"):
        left = max(1, round(MINUTES * (len(STOPS) - number + 1) / len(STOPS)))
        words = f"**Stop {number} of {len(STOPS)}** · about {left} minute{'' if left == 1 else 's'} left"
        st.markdown(f"{words}\n\n**{one.title}.** {one.words}")
        st.button(part_labels.Tour.leave, key="tour_leave", on_click=leave, type="tertiary")
        if number > 1:
            with st.container(key="tour_back", width="content"):
                _link("Back", number - 1, ":material/arrow_back:")
        with st.container(key="tour_next", width="content"):
            if number < len(STOPS):
                _link("Next", number + 1, ":material/arrow_forward:")
            else:
                st.page_link("pages_/start.py", label=part_labels.Tour.end, icon=":material/flag:")


def leave() -> None:
    """Leave the tour; the page stays as it is."""
    st.session_state.tour = 0


def _link(label: str, number: int, icon: str) -> None:
    st.page_link(f"pages_/{STOPS[number - 1].page}.py", label=label, icon=icon, query_params={"tour": str(number)})
