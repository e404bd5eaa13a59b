"""A lesson that the visitor begins, pauses and continues: the job behind the training cards of two pages."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import streamlit as st

from explorer import jobs
from explorer.turns import Tell


class Learning(Protocol):
    """A lesson in progress: `work` goes on where it was stopped; step: how many training steps are done."""

    lesson: Any
    step: int

    def work(self, tell: Tell) -> object: ...


L = TypeVar("L", bound=Learning)


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
