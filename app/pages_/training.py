"""Training: a network learns digits from nothing, and is seen at every stage; then the other pages sample from it."""

from functools import partial

import streamlit as st
from explorer import address, choices, controls, labels, page, tries
from explorer.page_words import TRAINING
from explorer.setting_types import Switch
from explorer.taught import KINDS, PATHS, Lesson, finished

address.films("frame")
page.top(TRAINING)
seen, beside, controlling = page.bench()

with st.spinner(labels.LOADING):  # importing torch takes seconds; the visitor already has something to read
    from explorer import digit_lessons, jobs, lesson_jobs, programs
    from explorer.digit_lessons import LESSON_STEPS, SHOWN, Learning
    from explorer.scrubber import scrubber

with controlling:
    first, second, third, fourth = st.columns(4, gap="medium")
    kind = controls.choice(first, labels.Training.kind, list(KINDS), "flow", key="kind", format_func=KINDS.get)
    # a flow's velocity belongs to the straight path, and the other predictions to DDPM's schedules
    paths = ["flow"] if kind == "flow" else ["cosine", "linear"]
    path = controls.choice(
        second, labels.SCHEDULE, paths, paths[0], key="path", format_func=PATHS.get, disabled=kind == "flow"
    )
    steps = controls.steps(third, labels.TRAINING_STEPS, LESSON_STEPS, 1000, key="lesson")
    seed = controls.number(fourth, labels.SEED_OF_TRAINING, 0, lesson_jobs.MOST_SEED, 0, key="net_seed")
    first, second = st.columns(2, gap="medium")
    digit = controls.segments(first, labels.Training.digit, SHOWN, SHOWN[0], key="digit")
    average = controls.switch(
        second, labels.Training.average, True, key="ema",
        help=labels.Training.average_help,
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
        with page.progress(labels.Training.before) as tell:
            learned = digit_lessons.untrained(lesson, tell)
    scrubber(digit_lessons.film_of(learned, digit, average=average), key="lesson_film", keep=True)
with beside:
    watched = jobs.watch(partial(when_seen, len(learned.averaged)))
    if learned.model is not None:
        st.success(labels.Training.ready, icon=":material/check_circle:")
        st.button(
            labels.Training.use,
            key="use_it",
            type="primary",
            width="stretch",
            on_click=choices.use,
            args=(lesson.name,),
        )
        st.download_button(
            labels.Training.save,
            lambda: digit_lessons.weight_file(learned.model),
            file_name=f"{lesson.name}.safetensors",
            icon=":material/save:",
            on_click="ignore",
            width="stretch",
            help=labels.Training.save_help,
        )
        lesson_jobs.other_seed("net_seed", seed)
    elif not watched:
        lesson_jobs.offer(lesson, learning, begin, labels.Training.two_cores)
    tries.tries("training")
    tries.question("training")
page.below(TRAINING)
programs.show(
    digit_lessons.program_of(lesson),
    digit_lessons.drawn_by("model") if average and learned.model is not None else "",
    lambda: digit_lessons.tensors(learned),
)
tries.next_page("training")
