"""What leads a visitor through a page: three numbered tries that set its state, a question, and the next page."""

from collections.abc import Iterable, Mapping
from functools import partial

import streamlit as st

from explorer import address, part_labels
from explorer.page_parts import Question, Try
from explorer.page_words import PAGES, PATH


def set_state(sets: Mapping[str, object], moves: Mapping[str, object]) -> None:
    """Set the page's controls, and what only the browser writes: the slider, the layers."""
    st.session_state.update(sets)
    address.move(**moves)


def tries(page: str) -> None:
    """The page's numbered tries."""
    offer(PAGES[page].tries)


def offer(some: Iterable[Try]) -> None:
    """Numbered tries; a button sets the state that its words speak of."""
    st.header(part_labels.Tries.title, anchor=False)
    with st.container(key="tries", gap="small"):
        for number, one in enumerate(some, 1):
            st.button(
                f"**{number}** **{one.title}** {one.words}",
                key=f"try_{number}",
                on_click=partial(set_state, one.sets, one.moves),
                width="stretch",
            )


def question(page: str) -> None:
    """The page's question, if it has one."""
    ask(PAGES[page].question, f"{page}_answer")


def ask(asked: Question | None, answer: str) -> None:
    """A question, to be answered before its answer is shown; the key `answer` keeps the visitor's answer."""
    if asked is None:
        return
    st.header(part_labels.Tries.question, anchor=False)
    st.markdown(asked.asks)
    with st.container(key="answers", gap="small"):
        for k, words in enumerate(asked.answers):
            st.button(
                words,
                key=f"answer_{k}",
                on_click=partial(st.session_state.update, {answer: k}),
                width="stretch",
            )
    if (answered := st.session_state.get(answer)) is not None:
        (st.success if answered == asked.right else st.info)(asked.explanation, icon=":material/lightbulb:")


def next_page(page: str) -> None:
    """The link to the page that follows on the path; after the last page, to the first."""
    order = [name for names in PATH.values() for name in names]
    following = order[(order.index(page) + 1) % len(order)]
    words = PAGES[following]
    with st.container(key="next"):
        st.page_link(
            f"pages_/{following}.py",
            label=part_labels.Tries.next.format(name=words.name, short=words.short),
            icon=":material/arrow_forward:",
        )
