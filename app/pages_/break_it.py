"""Break it: the field's real faults as switches, each beside the right loop."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from explorer import address, controls, page, sharing, tries
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
        "Faults in",
        (SAMPLING, TRAINING),
        SAMPLING,
        key="where",
        format_func=lambda one: f"Faults in {one}",
        label_visibility="collapsed",
    )
in_sampling = where == SAMPLING
if in_sampling:
    name = controls.pills(st, "Fault", list(OF_SAMPLING), "cond and uncond swapped", key="fault")
else:
    name = controls.pills(st, "Fault", list(OF_TRAINING), "range 0 to 1", key="taught")
fault = (OF_SAMPLING if in_sampling else OF_TRAINING)[name]
seen, beside, controlling = page.bench()

with st.spinner("Loading"):  # importing torch takes seconds; the visitor already has something to read
    import torch
    from explorer import break_runs, jobs, lesson_jobs, programs
    from explorer.plane_stage import stage
    from explorer.scrubber import scrubber

with beside:
    st.markdown(f"**Symptom.** {fault.symptom}")
    tries.tries("break_it")
    tries.question("break_it")


def table(measures: dict[str, tuple[str, ...]]) -> None:
    """What was measured, right beside broken."""
    lines = [f"| {what} | {right} | **{broken}** |" for what, (right, broken) in measures.items()]
    st.markdown("\n".join(["| measured here | right | broken |", "|---|---|---|", *lines]))


def digits() -> tuple[str, str, "Callable[[], dict[str, Tensor]]"]:
    """A fault in sampling: digits of the right and of the broken loop. Returns what `programs.show` shows."""
    with controlling:
        first, second, third = st.columns(3, gap="medium")
        steps = controls.steps(first, "Steps", sharing.up_to(STEPS, sharing.STEPS), 10, key="break_steps")
        scale = controls.slider(
            second, "Guidance scale w", 0.0, 8.0, 2.0, 0.5, key="break_w", help="1 is off, 0 ignores the class."
        )
        seed = controls.number(third, "Seed", 0, 99999, 0, key="seed")
    loop = break_runs.Loop(name, steps, scale, seed)
    with seen:
        if not page.may_begin(loop.seconds, loop):
            page.end()
        with page.progress("Drawing twice") as tell:
            right, broken = break_runs.both_drawn(loop, tell)
        scrubber(break_runs.film_of_digits(right, broken), key="broken", keep=True)
        table(break_runs.measures_of_digits(right, broken))
        st.caption(
            f"{len(right.x_0)} digits by each loop, {break_runs.SHOWN} of them shown, from the same noise. The class "
            "is that of our own classifier; diversity is the mean distance between digits of one class."
        )
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
        steps = controls.steps(first, "Training steps", break_runs.LESSONS, 1200, key="lesson")
        seed = controls.number(second, "Seed of the training", 0, 99999, 0, key="net_seed")
    lesson = break_runs.Lesson(name, steps, seed)
    trained = address.hidden("trained", Switch(), False)
    numbers = None

    with seen:
        known = break_runs.known(lesson)
        begin = lesson_jobs.pair(lesson, partial(break_runs.both_learned, lesson), known, trained=trained)
        if break_runs.known(lesson):
            with page.progress("Reading both networks") as tell:
                right, broken = break_runs.both_learned(lesson, tell)
            stage(break_runs.film_of_points(right, broken), "strokes")
            numbers = partial(dict, right=right.x_0, broken=broken.x_0)
            table(break_runs.measures_of_points(right, broken))
            st.caption(
                f"{len(right.x_0):,} points of each network, in {break_runs.SAMPLING_STEPS} steps of DDIM from the "
                "same noise, each with a label."
            )
        else:
            stage(break_runs.data_alone(), "strokes")
            if not jobs.running():
                st.button("Train both", type="primary", icon=":material/model_training:", key="train", on_click=begin)
            st.caption(
                "The same loop twice, right and with the fault. About "
                f"{page.duration(lesson.seconds)} on one quiet core, at most."
            )
    return break_runs.program_of_lesson(lesson), "", numbers


shown = digits() if in_sampling else points()
for column, (title, words, which, line) in zip(
    st.columns(2, gap="large"),
    (("How to notice it", fault.notice, "wrong", fault.wrong), ("Cure", fault.cure, "right", fault.right)),
    strict=True,
):
    with column:
        st.header(title, anchor=False)
        st.markdown(f"{words}\n\n**The {which} line**\n```python\n{line}\n```")
st.markdown(
    "**Is it in your program?** Train it on the eight Gaussians of the plane, and let `diagnose` compare its outputs "
    f"with the exact denoiser of each fault:\n```bash\n{DIAGNOSE}\n```"
)
page.below(BREAK_IT)
programs.show(*shown)
tries.next_page("break_it")
