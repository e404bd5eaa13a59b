"""Trainings that the visitor begins: the buttons and the jobs behind the training cards of the pages.

A lesson is one network, which can be paused and continued; a pair is two networks trained side by side.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import streamlit as st

from explorer import address, jobs, page, part_labels, sharing
from explorer.turns import Tell

MOST_SEED = 99_999  # of a training


class Learning(Protocol):
    """A lesson in progress: `work` goes on where it was stopped; step: how many training steps are done."""

    lesson: Any
    step: int

    def work(self, tell: Tell) -> object: ...


L = TypeVar("L", bound=Learning)


def looks(steps: int, parts: Iterable[float]) -> tuple[int, ...]:
    """The training steps at these parts of a lesson, 0 to 1, after which something is drawn."""
    return tuple(sorted({round(part * steps) for part in parts}))


def present(kind: type[L], lesson: object) -> L | None:
    """The visitor's training of this lesson: of this session, or of the job of a tab that was loaded again."""
    asked = st.session_state.job.asked if jobs.running() else None
    if isinstance(asked, kind):
        st.session_state[kind.__name__] = asked
    learning = st.session_state.get(kind.__name__)
    return learning if learning is not None and learning.lesson == lesson else None


def begin(kind: type[L], lesson: Any, make: Callable[[], L]) -> L:
    """Begin the lesson, or continue it; `make` is called for a lesson that has not begun."""
    learning = present(kind, lesson)
    if learning is None:
        learning = st.session_state[kind.__name__] = make()
    jobs.begin(
        jobs.Job("Training", "trained_last", learning.work, asked=learning, expected=lesson.seconds, pausable=True)
    )
    return learning


def offer(lesson: Any, learning: Learning | None, press: Callable[[], None], cores: str) -> bool:
    """The button that begins the lesson, or continues it; on a shared explorer a long one does not begin.

    cores: for which machine the forecast holds. Returns whether the lesson is paused.
    """
    if sharing.is_shared() and lesson.seconds > page.LONG:
        takes = f"a training of about {page.duration(lesson.seconds)} does not begin: choose fewer steps"
        st.caption(sharing.sentence(takes))
        return False
    paused = learning is not None and learning.step > 0
    words, icon = ("Continue", ":material/play_arrow:") if paused else ("Train", ":material/model_training:")
    st.button(words, icon=icon, type="primary", width="stretch", key="train", on_click=press)
    if paused:
        address.leaves_out("the network, which is paused in its training")
    else:
        st.caption(part_labels.LessonJobs.forecast.format(duration=page.duration(lesson.seconds), cores=cores))
    return paused


def other_seed(key: str, seed: int) -> None:
    """The button that trains from another seed; key: of the seed's control."""

    def press() -> None:
        st.session_state[key], st.session_state.trained = (seed + 1) % (MOST_SEED + 1), True

    st.button(
        part_labels.LessonJobs.other_seed, icon=":material/casino:", width="stretch", key="other_seed", on_click=press
    )


def pair(asked: Any, work: Callable[[Tell], object], known: bool, *, trained: bool) -> Callable[[], None]:
    """The job that trains two networks side by side; it begins once by itself if the address says that it was trained.

    Returns what the button that begins it calls.
    """

    def begin() -> None:
        st.session_state.trained, st.session_state.pair_begun = True, asked
        jobs.begin(jobs.Job("Training both", "pair_trained", work, asked=asked, expected=asked.seconds))

    begun = st.session_state.get("pair_begun") == asked  # the visitor may have stopped it
    if trained and not begun and not known and not jobs.running():
        begin()
    jobs.watch()
    return begin
