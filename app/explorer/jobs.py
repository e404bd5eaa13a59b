"""Work that outlasts a run of the page: done in a thread, watched on the page, and stopped by a button.

A job belongs to the visitor who began it. It ends when the visitor is gone (the tab was closed) or silent (the page
that shows the job has not looked at it for long; a visitor who reads another page is not silent), and a page that is
loaded again finds its own job: the tab keeps an unguessable word.
"""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Generic, TypeVar

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer import page
from explorer.turns import Stopwatch, Tell

T = TypeVar("T")
POLL = 0.5  # seconds between looks at a job
GRACE = 20.0  # seconds after which a tab that was closed is not being loaded again
SILENT = 180.0  # seconds without a look after which a job ends; browsers let hidden tabs look once a minute
LONGEST_WORD = 64

clock = time.monotonic  # replaced by the tests


class StoppedError(Exception):
    """The visitor pressed Stop, or left."""


class _Desk:
    """The server's jobs: in a queue for one worker, so that what is large has the memory for itself."""

    def __init__(self) -> None:
        self.worker, self.lock = ThreadPoolExecutor(1, "job"), threading.Lock()
        self.queue: list[Job] = []
        self.of_visitor: dict[str, Job] = {}


@st.cache_resource(show_spinner=False)
def _desk() -> _Desk:
    return _Desk()


def _session() -> str:
    """The id of the session that this script runs for."""
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def _connected(session: str) -> bool:
    """Whether a browser is connected to a session; without a server (in tests) always."""
    return not runtime.exists() or runtime.get_instance().is_active_session(session)


class Job(Generic[T]):
    """Work under way. `work` calls (part done, what is being done) often, which is where it can be stopped.

    kept: where its value goes in the session's state; stoppable: whether stopping would help; asked: by what settings
    it works; expected: about how many seconds it will take, if that is known.
    """

    def __init__(
        self,
        what: str,
        kept: str,
        work: Callable[[Tell], T],
        *,
        stoppable: bool = True,
        asked: object = None,
        expected: float | None = None,
    ) -> None:
        self.what, self.kept, self.stoppable, self.asked, self.expected = what, kept, stoppable, asked, expected
        self.part, self.doing, self.waits = 0.0, "", True
        self.session, self.seen, self.shown, self._alone_since = _session(), clock(), True, None
        self._watch, self._stop, self._desk = Stopwatch(lambda: clock()), threading.Event(), _desk()
        self._watch.told(None)
        with self._desk.lock:
            self._desk.queue.append(self)
        self._future = self._desk.worker.submit(self._run, work)
        self._future.add_done_callback(self._ended)

    def _run(self, work: Callable[[Tell], T]) -> T:
        self._watch.told(0.0)
        self.tell(0.0)
        return work(self.tell)

    def _ended(self, _: object) -> None:
        with self._desk.lock:
            self._desk.queue.remove(self)

    def tell(self, part: float | None, doing: str = "") -> None:
        """How far it is; None while it waits for others. Raises StoppedError once it is to stop."""
        if self._stop.is_set() or self.left():
            raise StoppedError
        self._watch.told(part)
        self.waits = part is None
        self.part, self.doing = self.part if part is None else part, doing

    def look(self) -> None:
        """The visitor is here, in the session that this script runs for, and looks at it."""
        self.session, self.seen, self.shown = _session(), clock(), True

    def look_away(self) -> None:
        """The visitor is here and reads another page, which asks for no looks: being connected is enough."""
        self.session, self.shown = _session(), False

    def left(self) -> bool:
        """Whether its visitor is gone for longer than a page takes to load again, or its page has long not looked."""
        if _connected(self.session):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = clock()
        gone = self._alone_since is not None and clock() - self._alone_since > GRACE
        return gone or (self.shown and clock() - self.seen > SILENT)

    def stop(self) -> None:
        """Let it end at the next `tell`."""
        self._stop.set()
        self._future.cancel()

    @property
    def left_to_do(self) -> float | None:
        """About how many seconds of work are left, None where nothing is known."""
        spent = self._watch.seconds
        if self.part > 0 and spent > page.FORECAST:
            return spent * (1 - self.part) / self.part
        return None if self.expected is None else self.expected * (1 - self.part)

    @property
    def words(self) -> str:
        """What a progress bar says of it: its place in the queue, then how far it is."""
        if self._stop.is_set():
            return f"{self.what} · stopping after this step"
        with self._desk.lock:
            place = self._desk.queue.index(self) if self in self._desk.queue else 0
            before = [job for job in self._desk.queue[:place] if not job.left()]
        if before:
            seconds = [job.left_to_do for job in before]
            soon = "" if None in seconds else f", about {page.duration(max(1, round(sum(seconds))))}"
            return f"{self.what} · waiting for its turn, {len(before)} before you{soon}"
        return page.progress_words(self.what, self.doing, None if self.waits else self.part, self._watch.seconds)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def value(self) -> T:
        """What the work gave, or the error in which it ended."""
        return self._future.result()


def begin(job: Job) -> None:
    """Make it the visitor's job: a visitor has one, and a newer one takes the place of an older."""
    if running():
        st.session_state.job.stop()
    st.session_state.pop("job_said", None)
    st.session_state.job = _desk().of_visitor[_visitor()] = job


def running() -> bool:
    """Whether the session has a job that has not ended."""
    return "job" in st.session_state and not st.session_state.job.done


def turn_page() -> None:
    """A page begins to run; if it is one that shows the session's job, it will look at the job in a moment."""
    if running():
        st.session_state.job.look_away()


def _visitor() -> str:
    """The word by which this tab is known, which nobody else can guess."""
    return st.session_state.setdefault("visitor", secrets.token_urlsafe(16))


_TAB = """export default function ({ data, setStateValue }) {
  const held = sessionStorage.getItem("diffusion_explained_visitor");
  if (!held) sessionStorage.setItem("diffusion_explained_visitor", data.visitor);
  else if (held !== data.visitor) setStateValue("visitor", held);
}"""


def recognise() -> None:
    """Let a tab that was loaded again have its job back. The tab keeps its word until it is closed."""
    tab = st.components.v2.component("diffusion_explained_visitor", js=_TAB)
    word = tab(
        data={"visitor": _visitor()}, key="of_tab", default={"visitor": None}, on_visitor_change=lambda: None
    ).visitor
    if not isinstance(word, str) or len(word) > LONGEST_WORD or word == _visitor():
        return
    own = _desk().of_visitor.pop(_visitor(), None)
    st.session_state.visitor = word
    if (job := _desk().of_visitor.get(word)) is not None:
        if own is not None:
            own.stop()  # it began by itself when the page was loaded again
        job.look()
        st.session_state.job, st.session_state[f"{job.kept}_begun"] = job, True
    elif own is not None:
        _desk().of_visitor[word] = own


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
            _forget()  # it is shown as it is, once
            raise
        st.session_state[key] = value
        _forget()  # last: Streamlit may leave this run whenever its state is touched, and begin anew
    if "job_said" in st.session_state:
        say, words, icon = st.session_state.job_said
        say(words, icon=icon)


def _forget() -> None:
    _desk().of_visitor.pop(_visitor(), None)
    del st.session_state.job


def _look() -> None:
    job = st.session_state.get("job")
    if job is None or job.done:
        st.rerun()
    job.look()
    bar, stop = st.columns([4, 1], vertical_alignment="center")
    bar.progress(min(1.0, job.part), text=job.words)
    if job.stoppable:
        stop.button("Stop", icon=":material/stop_circle:", on_click=job.stop, key="stop", width="stretch")
