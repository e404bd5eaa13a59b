"""A cache of models, runs and pictures that are computed once, shown many times, and shared by all sessions.

`st.cache_resource` would be enough without progress bars: a cached function cannot write to the page that waits for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

import streamlit as st

from explorer.turns import POLL, Tell

T = TypeVar("T")
MEGABYTES = 64  # the default limit of a cache; its newest value stays, however large


def quiet(part: float | None, doing: str = "") -> None:
    """A `Tell` that shows no progress."""


@dataclass
class _Making:
    """A value that a thread is computing: that thread holds the lock, and threads that wait read the progress."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    visitors: int = 0
    part: float | None = None
    doing: str = ""


class Cache:
    """The most recently used values by key. A session that needs a value that another one is computing waits for it.

    Threads share the values, so nobody changes a value after it was made.

    most, megabytes: the largest number of values, and their largest total size.
    """

    def __init__(self, most: int, megabytes: float = MEGABYTES) -> None:
        self.most, self.bytes = most, int(megabytes * 1e6)
        self._values: OrderedDict[Hashable, object] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._making: dict[Hashable, _Making] = {}
        self._lock = threading.Lock()

    def get(
        self,
        key: Hashable,
        make: Callable[[Tell], T],
        tell: Tell = quiet,
        *,
        keep: Callable[[T], bool] = lambda value: True,
    ) -> T:
        """The value of key; computed now if the cache does not hold it.

        make is called with a `Tell`, whose progress every waiting session sees. Neither an error that make raises nor
        a value for which `keep` returns False is kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, _Making())
            making.visitors += 1
        try:
            while not making.lock.acquire(timeout=POLL):
                tell(making.part, making.doing)
            try:
                return self._made(key, make, tell, keep, making)
            finally:
                making.lock.release()
        finally:
            with self._lock:
                making.visitors -= 1
                if not making.visitors:
                    del self._making[key]

    def _made(
        self, key: Hashable, make: Callable[[Tell], T], tell: Tell, keep: Callable[[T], bool], making: _Making
    ) -> T:
        with self._lock:
            if key in self._values:
                return self._values[key]

        def progress(part: float | None, doing: str = "") -> None:
            making.part, making.doing = part, doing
            tell(part, doing)

        value = make(progress)
        if keep(value):
            with self._lock:
                self._values[key], self._sizes[key] = value, size_of(value)
                while len(self._values) > 1 and (
                    len(self._values) > self.most or sum(self._sizes.values()) > self.bytes
                ):
                    oldest, _ = self._values.popitem(last=False)
                    del self._sizes[oldest]
        return value

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self._sizes.clear()

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """Drop the values whose keys are unwanted."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                del self._values[key], self._sizes[key]

    def find(self, key: Hashable) -> Any:
        """The value of key if the cache holds it, otherwise None; nothing is computed."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)


def size_of(value: object) -> int:
    """About how many bytes a value holds: its tensors, arrays, bytes and strings, at any depth."""
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    if isinstance(size := getattr(value, "nbytes", None), int):
        return size
    if is_dataclass(value) and not isinstance(value, type):
        return sum(size_of(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(size_of, value))
    return 0


@st.cache_resource(show_spinner=False)
def named_cache(name: str, most: int = 32, megabytes: float = MEGABYTES) -> Cache:
    """The cache of that name; all sessions of the server share it."""
    return Cache(most, megabytes)
