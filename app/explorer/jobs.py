"""Work that outlasts a run of the page: done in a thread, watched on the page, and stopped by a button."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Generic, TypeVar

import streamlit as st

from explorer import page

T = TypeVar("T")
Tell = Callable[[float, str], None]
POLL = 0.5  # seconds between looks at a job


class StoppedError(Exception):
    """The visitor pressed Stop."""


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """One for the whole server: what is large has the machine for itself."""
    return ThreadPoolExecutor(1, "job")


class Job(Generic[T]):
    """Work under way. `work` calls (part done, what is being done) often, which is where it can be stopped.

    kept: where its value goes in the session's state; stoppable: whether stopping would help.
    """

    def __init__(self, what: str, kept: str, work: Callable[[Tell], T], *, stoppable: bool = True) -> None:
        self.what, self.kept, self.stoppable = what, kept, stoppable
        self.part, self.doing, self.begin = 0.0, "waiting for its turn", 0.0
        self._stop = threading.Event()
        self._future = _worker().submit(self._run, work)

    def _run(self, work: Callable[[Tell], T]) -> T:
        self.begin, self.doing = time.monotonic(), ""
        return work(self.tell)

    def tell(self, part: float, doing: str = "") -> None:
        """How far it is. Raises StoppedError once it is to stop."""
        if self._stop.is_set():
            raise StoppedError
        if part == 0:  # what is measured begins now
            self.begin = time.monotonic()
        self.part, self.doing = part, doing

    def stop(self) -> None:
        """Let it end at the next `tell`."""
        self._stop.set()
        self._future.cancel()

    @property
    def words(self) -> str:
        """What a progress bar says of it."""
        if self._stop.is_set():
            return f"{self.what} · stopping after this step"
        return page.progress_words(self.what, self.doing, self.part, time.monotonic() - self.begin if self.begin else 0)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def value(self) -> T:
        """What the work gave, or the error in which it ended."""
        return self._future.result()


def begin(job: Job) -> None:
    """Make it the session's job: a session has one, and a newer one takes the place of an older."""
    if running():
        st.session_state.job.stop()
    st.session_state.pop("job_said", None)
    st.session_state.job = job


def running() -> bool:
    """Whether the session has a job that has not ended."""
    return "job" in st.session_state and not st.session_state.job.done


def watch() -> None:
    """Show how far the session's job is; keep the value of one that has ended, or say why there is none.

    What is said stays until the next job: a page may be run again at any time.
    """
    if running():
        page.fragment(_look, run_every=POLL)()
        return
    if "job" in st.session_state:
        job = st.session_state.job
        try:
            key, value = job.kept, job.value()
        except (StoppedError, CancelledError):
            words = f"{job.what}: stopped. What was shown before is still below."
            key, value = "job_said", (st.info, words, ":material/stop_circle:")
        except (OSError, ValueError) as error:
            words = f"{job.what}: {page.literal(str(error))}"
            key, value = "job_said", (st.error, words, ":material/error:")
        except Exception:
            del st.session_state.job  # it is shown as it is, once
            raise
        st.session_state[key] = value
        del st.session_state.job  # last: Streamlit may leave this run whenever its state is touched, and begin anew
    if "job_said" in st.session_state:
        say, words, icon = st.session_state.job_said
        say(words, icon=icon)


def _look() -> None:
    job = st.session_state.get("job")
    if job is None or job.done:
        st.rerun()
    bar, stop = st.columns([4, 1], vertical_alignment="center")
    bar.progress(min(1.0, job.part), text=job.words)
    if job.stoppable:
        stop.button("Stop", icon=":material/stop_circle:", on_click=job.stop, key="stop", width="stretch")
