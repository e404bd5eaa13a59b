"""The bound on the visitors of a shared explorer: a later one is told that it is full, and nobody is disturbed."""

import threading

import streamlit as st

from diffusion_explained.serving import is_shared, most_visitors
from explorer import jobs


class _Rooms:
    """The sessions that were let in; those whose browser has left are forgotten."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), set[str]()

    def admits(self, session: str, most: int) -> bool:
        """Whether a session is let in: it is in already, or fewer than `most` others are."""
        with self.lock:
            self.inside = {one for one in self.inside if jobs.connected(one)}
            if session in self.inside or len(self.inside) < most:
                self.inside.add(session)
        return session in self.inside


@st.cache_resource(show_spinner=False)
def _rooms() -> _Rooms:
    return _Rooms()


def admit() -> None:
    """On a shared explorer that is full, tell a new visitor so and end the script.

    A visitor who was let in stays in, after a lost connection too. A reload is a new visit, and the old one has left.
    """
    if not is_shared() or "admitted" in st.session_state:
        return
    most = most_visitors()
    if not _rooms().admits(jobs.session(), most):
        st.warning(
            f"This explorer is full: {most} visitors use it, and it serves no more at once. Reload this page in a "
            "few minutes, or run `diffusion-explained app` on a machine of your own. Whoever runs this explorer "
            "can allow more (`--visitors`)."
        )
        st.stop()
    st.session_state.admitted = True
