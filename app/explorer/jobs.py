"""Work that takes longer than a run of the page: it runs in a thread; the page shows its progress and a Stop button.

A job belongs to the visitor who began it. It ends when the visitor is gone (the tab was closed) or silent (the page
that shows the job has not asked for its progress for long; a visitor who reads another page is not silent). A page
that is loaded again finds its own job, because the tab keeps a random token.
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
from explorer.turns import Request, Stopwatch, Tell, computing

T = TypeVar("T")
POLL = 0.5  # seconds between updates of a job's progress
GRACE = 20.0  # seconds without a connection after which a tab counts as closed; reloading a page takes less
SILENT = 180.0  # seconds without an update after which a job ends; browsers let hidden tabs update once per minute
LONGEST_WORD = 64

clock = time.monotonic  # replaced by the tests


class StoppedError(Exception):
    """The visitor pressed Stop, or left."""


class _Desk:
    """The server's jobs, in a queue for one worker, so that each job has the memory for itself."""

    def __init__(self) -> None:
        self.worker, self.lock = ThreadPoolExecutor(1, "job"), threading.Lock()
        self.queue: list[Job] = []
        self.of_visitor: dict[str, Job] = {}


@st.cache_resource(show_spinner=False)
def _desk() -> _Desk:
    return _Desk()


def session() -> str:
    """The id of the session for which this script runs."""
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def connected(session: str) -> bool:
    """Whether a browser is connected to a session; without a server (in tests) always."""
    return not runtime.exists() or runtime.get_instance().is_active_session(session)


class Job(Generic[T]):
    """Running or queued work. `work` is given a `Tell` and calls it often; a job stops at such a call.

    kept: the key of its value in the session's state; stoppable: whether to show a Stop button; asked: the settings
    of the work; expected: about how many seconds it takes, if known; pausable: the button says Pause, because the work
    can go on later, and the page itself says how far it is.
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
        pausable: bool = False,
    ) -> None:
        self.pausable = pausable
        self.what, self.kept, self.stoppable, self.asked, self.expected = what, kept, stoppable, asked, expected
        self.part, self.doing, self.waits = 0.0, "", True
        self.session, self.seen, self.shown, self._alone_since = session(), clock(), True, None
        self._watch, self._stop, self._desk = Stopwatch(lambda: clock()), threading.Event(), _desk()
        self._watch.report(None)
        self._request = Request()
        with self._desk.lock:
            self._desk.queue.append(self)
        self._future = self._desk.worker.submit(self._run, work)
        self._future.add_done_callback(self._ended)

    def _run(self, work: Callable[[Tell], T]) -> T:
        self._watch.report(0.0)
        self.tell(0.0)
        with computing(self._request), self._request.as_holder():  # of the worker
            return work(self.tell)

    def _ended(self, _: object) -> None:
        with self._desk.lock:
            self._desk.queue.remove(self)

    def tell(self, part: float | None, doing: str = "") -> None:
        """Set the progress; a part of None means that the job waits. Raises StoppedError if the job must stop."""
        if self._stop.is_set() or self.left():
            raise StoppedError
        self._watch.report(part)
        self.waits = part is None
        self.part, self.doing = self.part if part is None else part, doing

    def look(self) -> None:
        """Note that the visitor, in the session of this script, sees the job's page."""
        self.session, self.seen, self.shown = session(), clock(), True

    def look_away(self) -> None:
        """Note that the visitor reads another page, which shows no progress: a connection is then enough."""
        self.session, self.shown = session(), False

    def left(self) -> bool:
        """Whether the visitor has been gone for longer than GRACE, or the job's page silent for longer than SILENT."""
        if connected(self.session):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = clock()
        gone = self._alone_since is not None and clock() - self._alone_since > GRACE
        return gone or (self.shown and clock() - self.seen > SILENT)

    def stop(self) -> None:
        """Make the job end at its next `tell`."""
        self._stop.set()
        self._future.cancel()

    @property
    def left_to_do(self) -> float | None:
        """About how many seconds of work are left; None if unknown."""
        spent = self._watch.seconds
        if self.part > 0 and spent > page.FORECAST:
            return spent * (1 - self.part) / self.part
        return None if self.expected is None else self.expected * (1 - self.part)

    @property
    def words(self) -> str:
        """The text of its progress bar: its place in the queue, or how far it is."""
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
        """Whether it has ended, with a value or an error."""
        return self._future.done()

    def value(self) -> T:
        """The result of the work. Raises the error with which the work ended."""
        return self._future.result()


def begin(job: Job) -> None:
    """Make it the visitor's job. A visitor has one job; a new one stops the old one."""
    if running():
        st.session_state.job.stop()
    st.session_state.pop("job_said", None)
    st.session_state.job = _desk().of_visitor[_visitor()] = job


def running() -> bool:
    """Whether the session has a job that has not ended."""
    return "job" in st.session_state and not st.session_state.job.done


def turn_page() -> None:
    """Call this when a page begins to run: the job counts as not shown until the page shows it (`Job.look`)."""
    if running():
        st.session_state.job.look_away()


def _visitor() -> str:
    """The random token that identifies this tab; nobody else can guess it."""
    return st.session_state.setdefault("visitor", secrets.token_urlsafe(16))


_TAB = """export default function ({ data, setStateValue }) {
  const held = sessionStorage.getItem("diffusion_explained_visitor");
  if (!held) sessionStorage.setItem("diffusion_explained_visitor", data.visitor);
  else if (held !== data.visitor) setStateValue("visitor", held);
}"""


def recognise() -> None:
    """Give a tab that was loaded again its job back, on any page. The tab keeps its token until it is closed."""
    tab = st.components.v2.component("diffusion_explained_visitor", js=_TAB)
    with st.container(key="of-visitor"):  # which the style sheet hides
        word = tab(
            data={"visitor": _visitor()}, key="of_tab", default={"visitor": None}, on_visitor_change=lambda: None
        ).visitor
    if not isinstance(word, str) or len(word) > LONGEST_WORD or word == _visitor():
        return
    own = _desk().of_visitor.pop(_visitor(), None)
    st.session_state.visitor = word
    if (job := _desk().of_visitor.get(word)) is not None:
        if own is not None:
            own.stop()  # this job began automatically when the page was loaded again
        job.look()
        st.session_state.job, st.session_state[f"{job.kept}_begun"] = job, True
    elif own is not None:
        _desk().of_visitor[word] = own


def watch(beside: Callable[[], None] | None = None) -> bool:
    """Show the progress of the session's job; if it has ended, keep its value or show its error.

    The message stays until the next job, because a page may run again at any time.
    beside: shows more of the running job, at each update. Returns whether a running job is shown.
    """
    if running():

        def look() -> None:
            _look()
            if beside is not None:
                beside()

        page.fragment(look, run_every=POLL)()
        return True
    if "job" in st.session_state:
        job = st.session_state.job
        try:
            key, value = job.kept, job.value()
        except (StoppedError, CancelledError):
            words = f"{job.what}: stopped. The result before it is still below."
            key, value = "job_said", (st.info, words, ":material/stop_circle:")
            if job.pausable:
                _forget()
                return False
        except (OSError, ValueError) as error:
            words = f"{job.what}: {page.literal(str(error))}"
            key, value = "job_said", (st.error, words, ":material/error:")
        except Exception:
            _forget()  # Streamlit shows this error itself, once
            raise
        st.session_state[key] = value
        _forget()  # last: Streamlit may abort this run and start another whenever its state is touched
    if "job_said" in st.session_state:
        say, words, icon = st.session_state.job_said
        say(words, icon=icon)
    return False


def _forget() -> None:
    _desk().of_visitor.pop(_visitor(), None)
    del st.session_state.job


def _look() -> None:
    job = st.session_state.get("job")
    if job is None or job.done:
        st.rerun()
    job.look()
    words, icon = ("Pause", ":material/pause:") if job.pausable else ("Stop", ":material/stop_circle:")
    # a pausable job is shown in a narrow column of its page
    bar, stop = (st, st) if job.pausable else st.columns([4, 1], vertical_alignment="center")
    bar.progress(min(1.0, job.part), text=job.words)
    if job.stoppable:
        stop.button(words, icon=icon, on_click=job.stop, key="stop", width="stretch")
