"""Break it: the field's real faults as switches, each beside the right loop."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from explorer import address, controls, labels, page, sharing, tries
from explorer.break_words import DIAGNOSE, OF_SAMPLING, OF_TRAINING, SAMPLING, TRAINING
from explorer.page_words import BREAK_IT
from explorer.setting_types import Switch

if TYPE_CHECKING:
    from torch import Tensor

STEPS = (2, 3, 4, 6, 8, 10, 15, 20, 30, 50)

address.films("frame", "at", "layers")
with page.top(BREAK_IT):
    where = controls.segments(
        st,
        labels.BreakIt.where,
        (SAMPLING, TRAINING),
        SAMPLING,
        key="where",
        format_func=lambda one: labels.BreakIt.faults_in.format(where=one),
        label_visibility="collapsed",
    )
in_sampling = where == SAMPLING
if in_sampling:
    name = controls.pills(st, labels.BreakIt.fault, list(OF_SAMPLING), "cond and uncond swapped", key="fault")
else:
    name = controls.pills(st, labels.BreakIt.fault, list(OF_TRAINING), "range 0 to 1", key="taught")
fault = (OF_SAMPLING if in_sampling else OF_TRAINING)[name]
seen, beside, controlling = page.bench()

with st.spinner(labels.LOADING):  # importing torch takes seconds; the visitor already has something to read
    import torch
    from explorer import break_runs, jobs, lesson_jobs, programs
    from explorer.plane_stage import stage
    from explorer.scrubber import scrubber

with beside:
    st.markdown(labels.BreakIt.symptom.format(symptom=fault.symptom))
    tries.tries("break_it")
    tries.question("break_it")


def table(measures: dict[str, tuple[str, ...]]) -> None:
    """What was measured, right beside broken."""
    lines = [f"| {what} | {right} | **{broken}** |" for what, (right, broken) in measures.items()]
    st.markdown("\n".join([labels.BreakIt.head, "|---|---|---|", *lines]))


def digits() -> tuple[str, str, "Callable[[], dict[str, Tensor]]"]:
    """A fault in sampling: digits of the right and of the broken loop. Returns what `programs.show` shows."""
    with controlling:
        first, second, third = st.columns(3, gap="medium")
        steps = controls.steps(first, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), 10, key="break_steps")
        scale = controls.slider(second, labels.SCALE, 0.0, 8.0, 2.0, 0.5, key="break_w", help=labels.OFF_OR_NONE)
        seed = controls.number(third, labels.SEED, 0, 99999, 0, key="seed")
    loop = break_runs.Loop(name, steps, scale, seed)
    with seen:
        if not page.may_begin(loop.seconds, loop):
            page.end()
        with page.progress(labels.DRAWING_TWICE) as tell:
            right, broken = break_runs.both_drawn(loop, tell)
        scrubber(break_runs.film_of_digits(right, broken), key="broken", keep=True)
        table(break_runs.measures_of_digits(right, broken))
        st.caption(labels.BreakIt.digits.format(count=len(right.x_0), shown=break_runs.SHOWN))
    tensors = {"right": right.states, "broken": broken.states}
    return (
        break_runs.program_of_loop(loop),
        break_runs.LAST_DIGITS,
        lambda: {name: torch.stack(states) for name, states in tensors.items()},
    )


def points() -> tuple[str, str, "Callable[[], dict[str, Tensor]] | None"]:
    """A fault in training: samples of a right and of a broken network. Returns what `programs.show` shows."""
    with controlling:
        first, second = st.columns(2, gap="medium")
        steps = controls.steps(first, labels.TRAINING_STEPS, break_runs.LESSONS, 1200, key="lesson")
        seed = controls.number(second, labels.SEED_OF_TRAINING, 0, 99999, 0, key="net_seed")
    lesson = break_runs.Lesson(name, steps, seed)
    trained = address.hidden("trained", Switch(), False)
    numbers = None

    with seen:
        known = break_runs.known(lesson)
        begin = lesson_jobs.pair(lesson, partial(break_runs.both_learned, lesson), known, trained=trained)
        if break_runs.known(lesson):
            with page.progress(labels.BreakIt.reading) as tell:
                right, broken = break_runs.both_learned(lesson, tell)
            stage(break_runs.film_of_points(right, broken), "strokes")
            numbers = partial(dict, right=right.x_0, broken=broken.x_0)
            table(break_runs.measures_of_points(right, broken))
            st.caption(labels.BreakIt.points.format(count=len(right.x_0), sampling_steps=break_runs.SAMPLING_STEPS))
        else:
            stage(break_runs.data_alone(), "strokes")
            if not jobs.running():
                st.button(
                    labels.BreakIt.train, type="primary", icon=":material/model_training:", key="train", on_click=begin
                )
            st.caption(labels.BreakIt.same_loop.format(duration=page.duration(lesson.seconds)))
    return break_runs.program_of_lesson(lesson), "", numbers


shown = digits() if in_sampling else points()
for column, (title, words, which, line) in zip(
    st.columns(2, gap="large"),
    (
        (labels.BreakIt.notice, fault.notice, "wrong", fault.wrong),
        (labels.BreakIt.cure, fault.cure, "right", fault.right),
    ),
    strict=True,
):
    with column:
        st.header(title, anchor=False)
        st.markdown(labels.BreakIt.line.format(words=words, which=which, line=line))
st.markdown(labels.BreakIt.diagnose.format(diagnose=DIAGNOSE))
page.below(BREAK_IT)
programs.show(*shown)
tries.next_page("break_it")
