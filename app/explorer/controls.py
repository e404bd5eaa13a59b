"""The controls of the pages: Streamlit's widgets, whose values are kept in the address.

A control defines one setting of its page: its key, its allowed values, and its default. The address is read and
written with the same bounds and choices that the widget shows, so no other value ever reaches a widget.
`where` is `st` or a column.
"""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from explorer import address, sharing
from explorer.setting_types import LONGEST, ManyOf, Number, OneOf, Range, SettingType, Switch, Text, Whole


def _control(make: Callable[[], Any], key: str, kind: SettingType, default: Any, always: bool = False) -> Any:
    address.seed(key, kind, default)
    value = make()
    address.keep(key, kind, value, default, always=always)
    return value


def number(
    where: Any, label: str, low: float, high: float, default: float, *, key: str, always: bool = False, **options: Any
) -> Any:
    """A number to type; an integer if its bounds are integers."""
    kind = Whole(low, high) if isinstance(low, int) else Number(low, high)
    return _control(lambda: where.number_input(label, low, high, key=key, **options), key, kind, default, always)


def slider(
    where: Any, label: str, low: float, high: float, default: float, step: float, *, key: str, always: bool = False,
    **options: Any,
) -> Any:  # fmt: skip
    """A number on a slider; an integer if its bounds are integers."""
    kind = Whole(low, high) if isinstance(low, int) else Number(low, high)
    return _control(lambda: where.slider(label, low, high, step=step, key=key, **options), key, kind, default, always)


def span(where: Any, label: str, low: int, high: int, default: tuple[int, int], *, key: str) -> tuple[int, int]:
    """Two integers on a slider, from and to."""
    return _control(lambda: where.slider(label, low, high, key=key), key, Range(low, high), default)


def steps(
    where: Any, label: str, choices: Sequence[Any], default: Any, *, key: str, always: bool = False, **options: Any
) -> Any:
    """One of several ordered values, on a slider."""
    make = lambda: where.select_slider(label, choices, key=key, **options)  # noqa: E731
    return _control(make, key, OneOf(choices), default, always)


def choice(
    where: Any, label: str, choices: Sequence[Any], default: Any, *, key: str, always: bool = False, **options: Any
) -> Any:
    """One of several choices, in a list."""
    make = lambda: where.selectbox(label, choices, key=key, **options)  # noqa: E731
    return _control(make, key, OneOf(choices), default, always)


def pills(where: Any, label: str, choices: Sequence[Any], default: Any, *, key: str, **options: Any) -> Any:
    """One of several choices, all visible."""
    make = lambda: where.pills(label, choices, required=True, wrap=True, key=key, **options)  # noqa: E731
    return _control(make, key, OneOf(choices), default)


def many(
    where: Any, label: str, choices: Sequence[Any], default: Sequence[Any], *, key: str, **options: Any
) -> list[Any]:
    """Any number of several choices, all visible."""
    make = lambda: where.pills(label, choices, selection_mode="multi", wrap=True, key=key, **options)  # noqa: E731
    return _control(make, key, ManyOf(choices), list(default))


def segments(where: Any, label: str, choices: Sequence[Any], default: Any, *, key: str, **options: Any) -> Any:
    """One of a few choices, side by side."""
    make = lambda: where.segmented_control(label, choices, required=True, key=key, **options)  # noqa: E731
    return _control(make, key, OneOf(choices), default)


def switch(where: Any, label: str, default: bool = False, *, key: str, always: bool = False, **options: Any) -> bool:
    """On or off."""
    return _control(lambda: where.toggle(label, key=key, **options), key, Switch(), default, always)


def text(
    where: Any, label: str, default: str = "", *, key: str, most: int = LONGEST, always: bool = False, **options: Any
) -> str:
    """A text of one line."""
    make = lambda: where.text_input(label, max_chars=most, key=key, **options)  # noqa: E731
    return _control(make, key, Text(most), default, always)


def upload(label: str, *, key: str, help: str) -> Any:
    """A visitor's file, or None. Any type is accepted: the code that reads it reports errors. It is in no address."""
    return _uploaded(label, key, help, several=False)


def uploads(label: str, *, key: str, help: str) -> list[Any]:
    """The same for several files."""
    return _uploaded(label, key, help, several=True)


def _uploaded(label: str, key: str, help: str, several: bool) -> Any:
    megabytes, (files, in_all) = sharing.upload_mb(), sharing.uploads()
    kept = f"Of your files the newest {files} are kept, at most {in_all} MB in all, until you close the page."
    file = st.file_uploader(
        label, type=None, key=key, max_upload_size=megabytes, help=f"{help} {kept}", accept_multiple_files=several
    )
    sharing.say(f"a file may have at most {megabytes} MB")
    return file
