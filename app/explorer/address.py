"""The address of a page: read once on arrival and written back completely, so that it shows the same pixels elsewhere.

A page's controls (`explorer.controls`) define its settings: each has allowed values, takes its value from the address
or from its default, and is written into the address when it differs from the default. One note lists what the address
asks for and no control can provide.

Streamlit's own way is not used: `st.query_params[key] = value` pushes an entry onto the browser's history at every
change, so that Back no longer leaves the page. A small script (`address.js`) replaces the entry instead. A film's
slider moves in the browser only, so the browser also writes its frame (`scrubber.js`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.setting_types import SettingType, Whole
from explorer.words import quoted

SAID = 5  # the number of unusable settings that the note names; the rest are counted


class EndedError(Exception):
    """The page ends here. `st.stop` would end the script too, before the address could be written."""


@dataclass
class Visit:
    """The state of a session's present page.

    given: settings in the address that no control has read yet, key -> values; seen: the query strings that were
    read or written; values: what the controls write; refused: settings that could not be used; unused: settings
    that no control reads; films: the keys that the browser writes; frames: the films on the page, with the frame
    that the address gives; arrived: what the address gave on arrival for other keys that the browser writes; moves:
    how often a button has set such keys; moved: the values that it set and that no component has read yet;
    left_out: what determines the picture but fits into no address; place, note: the containers of the script and of
    the note; written: the last query string; early: whether this run wrote one before its end.
    """

    page: str
    given: dict[str, list[str]]
    seen: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    films: tuple[str, ...] = ()
    frames: dict[str, tuple[str, int]] = field(default_factory=dict)
    arrived: dict[str, Any] = field(default_factory=dict)
    moves: int = 0
    moved: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    place: Any = None
    note: Any = None
    early: bool = False
    written: str = ""


# -- a run of the page --------------------------------------------------------------------------------------


def _asked() -> dict[str, list[str]]:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def _canonical(query: Mapping[str, Sequence[str]], without: Sequence[str]) -> str:
    return urlencode(sorted((key, list(values)) for key, values in query.items() if key not in without), doseq=True)


def visit() -> Visit:
    """The session's present visit. A page that runs outside of `kept` has one too, with an empty address."""
    if "visit" not in st.session_state:
        st.session_state.visit = Visit("", _asked())
    return st.session_state.visit


@contextmanager
def kept(page: str) -> Iterator[None]:
    """A run of a page: its address is read before any of its controls, and written after the last of them."""
    _arrive(page)
    with suppress(EndedError):
        yield
    _leave()


def _arrive(page: str) -> None:
    here, asked = st.session_state.get("visit"), _asked()
    came = getattr(get_script_run_ctx(), "is_history_navigation", False)
    if here is None or here.page != page or came or _canonical(asked, here.films) not in here.seen:
        for key in here.keys if here is not None else ():
            st.session_state.pop(key, None)  # the new address gives the value, or the default holds
        moves = 0 if here is None else here.moves  # a component may stay, and knows the last token
        here = st.session_state.visit = Visit(page, asked, {_canonical(asked, ())}, moves=moves)
    here.values, here.left_out, here.early = {}, [], False
    here.place, here.note = st.container(key="address-bar").empty(), st.container(key="note").empty()


def _leave() -> None:
    here = visit()
    for key in [key for key in here.given if key not in here.films]:
        here.unused[key] = here.given.pop(key)
    _note(here)
    left = f" It leaves out {' and '.join(here.left_out)}, which no address can hold." if here.left_out else ""
    st.caption(f"This page's address holds its settings: it opens the same page in another browser.{left}")
    if here.place is not None:
        _write(here, here.place.container(), "address")


def write_early() -> None:
    """Write the address before long work: the settings chosen so far, and those that no control has read yet."""
    here = visit()
    if here.place is not None and not here.early:
        here.early = True
        _write(here, here.place.container(), "address-early")


def write_part(name: str) -> None:
    """Write the address after only a fragment of the page has run."""
    here = visit()
    if _query(here) != here.written:
        _write(here, st.container(key=f"address-of-{name}"), f"address-{name}")


def written() -> str:
    """The page's settings as its address writes them, without what only the browser writes."""
    return _query(visit())


def _query(here: Visit) -> str:
    waiting = {name: values for name, values in here.given.items() if name not in here.films}
    return urlencode(here.values | waiting, doseq=True)


def _write(here: Visit, place: Any, key: str) -> None:
    script = Path(__file__).with_suffix(".js").read_text("utf-8")
    component = st.components.v2.component("diffusion_explained_address", js=script)
    here.written = _query(here)
    here.seen.add(_canonical(parse_qs(here.written, keep_blank_values=True), here.films))
    with place:
        component(
            data={"query": here.written, "films": list(here.films), "page": here.page, "at": time.time()}, key=key
        )


def _note(here: Visit) -> None:
    """List in one note the settings of the address that could not be used."""

    def named(asked: Mapping[str, Sequence[str]]) -> str:
        pairs = [quoted(f"{key}={value}") for key, values in asked.items() for value in values or [""]]
        more = f" and {len(pairs) - SAID} more" if len(pairs) > SAID else ""
        return ", ".join(pairs[:SAID]) + more

    sentences = []
    if here.refused:
        sentences.append(
            f"The address asks for {named(here.refused)}, which is not possible here; the default is used instead."
        )
    if here.unused:
        sentences.append(
            f"The address sets {named(here.unused)}, which this page does not use with its present settings."
        )
    if sentences:
        here.note.info(" ".join(sentences), icon=":material/link_off:")


# -- what the controls do -----------------------------------------------------------------------------------


def take(key: str) -> list[str] | None:
    """The values that the address gives for a key, removed from the visit; None if there are none."""
    here = visit()
    here.keys.add(key)
    return here.given.pop(key, None)


def refuse(key: str, texts: list[str]) -> None:
    """Remember that these values could not be used."""
    visit().refused[key] = texts


def put(key: str, texts: list[str] | None) -> None:
    """Set the values that the address gives for a key; None removes the key, which means the default."""
    here = visit()
    here.values.pop(key, None)
    if texts is not None:
        here.values[key] = texts


def read(key: str, kind: SettingType, default: object) -> object:
    """The value that the address gives for a key, or the default; the note reports an impossible value."""
    texts = take(key)
    if texts is None:
        return default
    try:
        return kind.read(texts)
    except ValueError:
        refuse(key, texts)
        return default


def seed(key: str, kind: SettingType, default: object) -> None:
    """Set a widget's value before the widget is made: from the address, its own earlier value, or the default."""
    state, here = st.session_state, visit()
    if key in here.given:
        state[key] = read(key, kind, default)
    elif key not in state or not kind.has(state[key]):
        state[key] = default
    here.keys.add(key)


def keep(key: str, kind: SettingType, value: object, default: object, *, always: bool = False) -> None:
    """Write a widget's value into the address unless it is the default. always: machines differ in the default."""
    put(key, kind.write(value) if always or value != default else None)
    if value != default:
        visit().refused.pop(key, None)


def hidden(key: str, kind: SettingType, default: object) -> object:
    """A setting without a widget, which a button changes in the session's state under this key."""
    seed(key, kind, default)
    value = st.session_state[key]
    keep(key, kind, value, default)
    return value


def forget() -> None:
    """Drop the settings that no control has read: they were written for another data set."""
    here = visit()
    here.given, here.refused, here.unused = {}, {}, {}


def leaves_out(what: str) -> None:
    """Name something that determines the picture but fits into no address: a photograph, a painted stroke."""
    here = visit()
    if what not in here.left_out:
        here.left_out.append(what)


# -- films --------------------------------------------------------------------------------------------------


def films(*keys: str) -> None:
    """Name the keys of the page's films before anything is shown: a film may appear long after the address was read."""
    visit().films = keys


def frame(key: str, film: str, last: int, usual: int) -> tuple[int, bool]:
    """The first frame to show, and whether the address gives it; the address applies to the first film shown only.

    Without a key, the film is shown until another one takes its place, and the address waits for that one.
    """
    if not key:
        return usual, False
    here = visit()
    if key not in here.films:
        here.films = (*here.films, key)
    if key in here.given:
        asked = read(key, Whole(0, last), None)
        if asked is not None:
            here.frames[key] = (film, asked)
    of, asked = here.frames.get(key, ("", 0))
    return (asked, True) if of == film else (usual, False)


def in_browser(key: str, kind: SettingType, usual: object) -> object:
    """A setting that only the browser writes: what the address gave for it on arrival, or otherwise `usual`."""
    here = visit()
    if key not in here.films:
        here.films = (*here.films, key)
    if key in here.given:
        here.arrived[key] = read(key, kind, usual)
    return here.arrived.get(key, usual)


def move(**values: object) -> None:
    """Set what only the browser writes (a film's frame), at the page's next run: what a button of the page does."""
    here = visit()
    here.moves, here.moved = here.moves + 1, values


def means(key: str, other: str, read: Callable[[Any], object]) -> None:
    """Understand what a button has set for `key` as a value of `other`: read(value)."""
    here = visit()
    if key in here.moved:
        here.moved[other] = read(here.moved.pop(key))


def moved(key: str) -> tuple[str, Any]:
    """A token that differs after each `move`; and the value that it set for the key, or None once it was read."""
    here = visit()
    return str(here.moves), here.moved.pop(key, None)
