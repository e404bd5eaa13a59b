"""The plane: two-dimensional data, of which every point can be seen on its way from noise."""

from functools import partial

import streamlit as st
from explorer import address, controls, labels, page, sharing, tries
from explorer.plane_stage import stage
from explorer.plane_words import OF_PAIRS, PAIRS, VIEWS

address.films("at", "layers")
with st.container(key="plane-head", horizontal=True, vertical_alignment="center"):
    st.title(labels.Plane.title, anchor=False, width="content")
    view = controls.pills(
        st,
        labels.Plane.view,
        list(VIEWS),
        "flow",
        key="view",
        format_func=lambda one: VIEWS[one].name,
        label_visibility="collapsed",
    )
st.markdown(VIEWS[view].lead)
with st.container(key="plane-bench"):
    picture, asking = st.columns([3.7, 1], gap="medium")
with picture:
    place = st.container(key="plane-stage")

with st.spinner(labels.LOADING):  # importing torch takes seconds; the visitor already has something to read
    from explorer import names, plane, plane_films, plane_gan, plane_quality, programs
    from explorer.plane import Drawing, Movement, Strokes
    from explorer.plane_lessons import contest_card, training_card
    from explorer.plane_training import LESSON_STEPS, PACES, Lesson

TOYS = {**names.named(plane.TOYS, plane.toys.TOYS), plane.DRAWN: labels.Plane.drawn}
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 100, 250)


with asking:
    toy = controls.choice(st, labels.Plane.data, list(TOYS), "moons", key="toy", format_func=TOYS.get)
    strokes = ""
    if toy == plane.DRAWN:
        strokes = address.hidden("strokes", Strokes(), "")
        if strokes:
            st.button(
                labels.Plane.again,
                icon=":material/draw:",
                width="stretch",
                on_click=partial(tries.set_state, {"strokes": ""}, {"at": 1000, "layers": "density.paths"}),
            )
        else:
            st.caption(labels.Plane.draw)
    data = Drawing(toy, strokes)
    label, scale, pairs = None, 1.0, "independent"
    if view == "paths":
        pairs = controls.pills(st, labels.Plane.pairs, list(PAIRS), "independent", key="pairs", format_func=PAIRS.get)
        st.caption(OF_PAIRS[pairs])
    ready = toy != plane.DRAWN or bool(strokes)
    card = st.container()  # of the training, which needs the settings below it
    if view == "guidance" and ready:
        label = controls.choice(st, labels.CLASS, list(range(data.num_classes)), 0, key="class")
        scale = controls.slider(st, labels.SCALE, 0.0, 8.0, 3.0, 0.5, key="w", help=labels.OFF_OR_NONE)
    if view == "gan" and ready:
        count = controls.choice(
            st, labels.TRAINING_STEPS, plane_gan.GAN_STEPS, 1000, key="gan_steps", format_func=lambda one: f"{one:,}"
        )
        contest = plane_gan.Contest(
            data, count, controls.number(st, labels.SEED_OF_TRAINING, 0, 99999, 0, key="gan_seed")
        )
        contest_card(contest)
    else:
        contest = None


def movement_of_controls() -> "Movement":
    """The controls of a run: schedule, sampler, steps, noise."""
    schedule = controls.choice(
        st, labels.SCHEDULE, list(names.SCHEDULES), "flow", key="schedule", format_func=names.SCHEDULES.get
    )
    samplers = [name for name in names.SAMPLERS if view != "random" or name in plane.RANDOM]
    usual = "ddpm" if view == "random" else "euler"
    sampler = controls.choice(
        st,
        labels.SAMPLER,
        samplers,
        usual,
        key="random" if view == "random" else "sampler",
        format_func=names.SAMPLERS.get,
    )
    steps = controls.steps(st, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), 32, key="steps")
    seed = controls.number(st, labels.SEED_OF_NOISE, 0, 99999, 0, key="seed")
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    return Movement(data, schedule, sampler, steps, seed, label, scale)


if contest is None:
    with asking:
        movement = movement_of_controls()
lesson = None
if ready and (view == "learned" or pairs != "independent"):
    with card:
        offered = sharing.up_to(LESSON_STEPS, 4000 if pairs != "rectified" else 2000)
        count = controls.choice(
            st, labels.TRAINING_STEPS, offered, 2000, key="lesson", format_func=lambda one: f"{one:,}"
        )
        net_seed = controls.number(st, labels.SEED_OF_TRAINING, 0, 99999, 0, key="net_seed")
        pace = controls.segments(st, labels.Plane.pace, list(PACES), "fast", key="pace", format_func=str.capitalize)
        lesson = Lesson(data, count, net_seed, pairs)
        network = training_card(lesson, movement, pace)

with place:
    if not ready:
        stage(None, "strokes")
        page.end()
    with page.progress(labels.Plane.moving) as tell:
        if contest is not None:
            shown = plane_gan.trained(contest, tell) if plane_gan.known(contest) else plane_gan.data_alone(contest)
        elif lesson is None:
            shown = plane_films.of_view(view, movement, tell)
        else:
            shown = plane_films.of_lesson(view, movement, lesson, network, tell)
    stage(shown.film, "strokes")
    st.caption(shown.words)

trying, predicting = st.columns(2, gap="large")
with trying:
    tries.tries("plane")
with predicting:
    tries.question("plane")

page.equations(VIEWS[view].formulas)
if view == "flow" and controls.switch(st, labels.Plane.quality, key="quality"):
    plane_quality.curve(movement)
programs.show(
    plane_gan.whole_program(contest) if contest else plane_films.program(view, movement, lesson),
    numbers=lambda: {panel.title: panel.points for panel in shown.film.panels},
)
tries.next_page("plane")
