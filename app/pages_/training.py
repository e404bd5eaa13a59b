"""Training: a network learns digits from nothing, and is seen at every stage; then the other pages sample from it."""

from functools import partial

import streamlit as st
from explorer import address, choices, controls, page, tries
from explorer.page_words import TRAINING
from explorer.setting_types import Switch
from explorer.taught import KINDS, PATHS, Lesson, finished

address.films("frame")
page.top(TRAINING)
seen, beside, controlling = page.bench()

with st.spinner("Loading"):  # importing torch takes seconds; the visitor already has something to read
    from explorer import digit_lessons, jobs, lesson_jobs, programs
    from explorer.digit_lessons import LESSON_STEPS, SHOWN, Learning
    from explorer.scrubber import scrubber

with controlling:
    first, second, third, fourth = st.columns(4, gap="medium")
    kind = controls.choice(first, "It predicts", list(KINDS), "flow", key="kind", format_func=KINDS.get)
    # a flow's velocity belongs to the straight path, and the other predictions to DDPM's schedules
    paths = ["flow"] if kind == "flow" else ["cosine", "linear"]
    path = controls.choice(
        second, "Schedule", paths, paths[0], key="path", format_func=PATHS.get, disabled=kind == "flow"
    )
    steps = controls.steps(third, "Training steps", LESSON_STEPS, 1000, key="lesson")
    seed = controls.number(fourth, "Seed of the training", 0, lesson_jobs.MOST_SEED, 0, key="net_seed")
    first, second = st.columns(2, gap="medium")
    digit = controls.segments(first, "A digit in noise", SHOWN, SHOWN[0], key="digit")
    average = controls.switch(
        second, "Sample with the average of the weights (EMA)", True, key="ema",
        help="The moving average of the last few hundred steps' weights. Off: the weights of the last step.",
    )  # fmt: skip
lesson = Lesson(kind, path, steps, seed)
trained = address.hidden("trained", Switch(), False)


def begin() -> None:
    """Train, or go on after a pause."""
    st.session_state.trained = True
    lesson_jobs.begin(Learning, lesson, partial(Learning, lesson))


def when_seen(shown: int) -> None:
    """While it learns: run the page again as soon as there is more to see."""
    if learning is not None and learning.looks > shown:
        st.rerun()


learned, learning = finished(lesson), lesson_jobs.present(Learning, lesson)
if trained and learned is None and learning is None and not jobs.running() and lesson.seconds <= page.LONG:
    learning = lesson_jobs.begin(Learning, lesson, partial(Learning, lesson))
with seen:
    if learned is None and learning is not None and learning.looks:
        learned = learning.learned()
    if learned is None:
        with page.progress("Drawing before the first step") as tell:
            learned = digit_lessons.untrained(lesson, tell)
    scrubber(digit_lessons.film_of(learned, digit, average=average), key="lesson_film", keep=True)
with beside:
    watched = jobs.watch(partial(when_seen, len(learned.averaged)))
    if learned.model is not None:
        st.success("Your network is ready.", icon=":material/check_circle:")
        st.button(
            "Use it on the other pages",
            key="use_it",
            type="primary",
            width="stretch",
            on_click=choices.use,
            args=(lesson.name,),
        )
        st.download_button(
            "Save its weights",
            lambda: digit_lessons.weight_file(learned.model),
            file_name=f"{lesson.name}.safetensors",
            icon=":material/save:",
            on_click="ignore",
            width="stretch",
            help='A file for load_pretrained("...") in Python.',
        )
        lesson_jobs.other_seed("net_seed", seed)
    elif not watched:
        lesson_jobs.offer(lesson, learning, begin, "two quiet cores")
    tries.tries("training")
    tries.question("training")
page.below(TRAINING)
programs.show(
    digit_lessons.program_of(lesson),
    digit_lessons.drawn_by("model") if average and learned.model is not None else "",
    lambda: digit_lessons.tensors(learned),
)
tries.next_page("training")
