"""The switch between three readers, on every page: words, formulas, code. Other pages keep the choice."""

import streamlit as st

from explorer import address
from explorer.page_parts import Reader
from explorer.page_words import READERS, USUAL_READER
from explorer.setting_types import OneOf


def _chosen() -> None:
    st.session_state.reads = st.session_state.reader


def choose() -> None:
    """The switch; the address names the reader, unless it is the usual one."""
    kind, state = OneOf(tuple(READERS)), st.session_state
    kept = state.get("reads", USUAL_READER)
    asked = address.read("reader", kind, kept if kind.has(kept) else USUAL_READER)
    state.reads = state.reader = asked
    address.put("reader", kind.write(asked) if asked != USUAL_READER else None)
    st.segmented_control(
        "What the page shows beside its pictures",
        list(READERS),
        format_func=lambda one: READERS[one].name,
        required=True,
        key="reader",
        on_change=_chosen,
        label_visibility="collapsed",
    )


def reader() -> Reader:
    """The chosen reader."""
    return READERS[st.session_state.get("reads", USUAL_READER)]
