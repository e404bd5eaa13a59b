"""What has been computed once and is looked at many times: models, runs and pictures, shared by all sessions.

`st.cache_resource` alone would do, but for progress: a cached function may not write to the page that waits for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

import streamlit as st

T = TypeVar("T")


class Shelf:
    """The most recently used values by key. Who asks for a value that another session is making waits for it.

    Values are shared between threads, so they are never changed once they are made.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, object] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of key, made now if it is not kept; an error that make raises is not kept."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self.most:
                    gone, _ = self._values.popitem(last=False)
                    self._making.pop(gone, None)
            return value

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)


@st.cache_resource(show_spinner=False)
def shelf(name: str, most: int = 32) -> Shelf:
    """The shelf of that name: one for the whole server."""
    return Shelf(most)
