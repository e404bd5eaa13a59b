"""The training card of the page The plane: Train, Pause, Continue, another seed, and the loss as it falls."""

from functools import partial

import streamlit as st

from diffusion_explained.pretrained import Model
from explorer import address, jobs, lesson_jobs, page, plane_gan, sharing
from explorer.plane import Movement
from explorer.plane_gan import Contest
from explorer.plane_stage import live
from explorer.plane_training import Lesson, Training, finished, loss_chart
from explorer.setting_types import Switch

PANEL = 1  # of the stage, in which the network's points are shown
MOST_SEED = 99_999


def training_card(lesson: Lesson, movement: Movement, pace: str) -> tuple[Model | None, int]:
    """Show the card. Return the network as it can be shown now, and for how many steps it has learned.

    None: it has not begun, or is learning; the canvas then shows it live.
    """
    trained = address.hidden("trained", Switch(), False)
    training = lesson_jobs.present(Training, lesson)
    if training is not None:
        training.movement, training.pace = movement, pace
    if trained and training is None and finished(lesson) is None and not jobs.running() and lesson.seconds <= page.LONG:
        training = _begin(lesson, movement, pace)
    watched = jobs.watch(None if training is None else partial(_beside, training))
    # a training that was shown beside its progress may have ended since: the next run of the page shows its end
    model = None if watched and training is not None else finished(lesson)
    if model is not None or not watched:
        live(loss_chart(training, lesson), PANEL, {}, "")
    if model is not None:
        st.button(
            "Train with another seed",
            icon=":material/casino:",
            width="stretch",
            key="other_seed",
            on_click=_other_seed,
            args=(lesson,),
        )
        return model, lesson.steps
    if watched:
        return None, 0
    if sharing.is_shared() and lesson.seconds > page.LONG:
        st.caption(
            sharing.sentence(f"a training of about {page.duration(lesson.seconds)} does not begin: choose fewer steps")
        )
        return None, 0
    paused = training is not None and training.step > 0
    words, icon = ("Continue", ":material/play_arrow:") if paused else ("Train", ":material/model_training:")
    st.button(
        words, icon=icon, type="primary", width="stretch", key="train", on_click=_press, args=(lesson, movement, pace)
    )
    if paused:
        address.leaves_out("the network, which is paused in its training")
        return training.model, training.step
    st.caption(f"About {page.duration(lesson.seconds)} on one quiet core, at most.")
    return None, 0


def contest_card(contest: Contest) -> None:
    """Show the card of a GAN and a diffusion model: Train both, their progress, or another seed."""
    trained = address.hidden("trained", Switch(), False)

    def begin() -> None:
        st.session_state.trained = True
        work = partial(plane_gan.trained, contest)
        jobs.begin(jobs.Job("Training both", "plane_gan", work, asked=contest, expected=contest.seconds))

    if trained and not plane_gan.known(contest) and not jobs.running():
        if st.session_state.get("plane_contest") != contest:  # once, because the visitor may stop it
            begin()
        st.session_state.plane_contest = contest
    jobs.watch()
    options = {"icon": ":material/model_training:", "width": "stretch"}
    if plane_gan.known(contest):
        st.button("Train with another seed", key="other_seed", on_click=_other_gan, args=(contest,), **options)
    elif not jobs.running():
        st.button("Train both", type="primary", key="train", on_click=begin, **options)


def _other_gan(contest: Contest) -> None:
    st.session_state.gan_seed = (contest.seed + 1) % (MOST_SEED + 1)
    st.session_state.trained = True


def _begin(lesson: Lesson, movement: Movement, pace: str) -> Training:
    training = lesson_jobs.begin(Training, lesson, lambda: Training(lesson, movement))
    training.pace = pace
    return training


def _press(lesson: Lesson, movement: Movement, pace: str) -> None:
    st.session_state.trained = True
    _begin(lesson, movement, pace)


def _other_seed(lesson: Lesson) -> None:
    st.session_state.net_seed = (lesson.seed + 1) % (MOST_SEED + 1)
    st.session_state.trained = True


def _beside(training: Training) -> None:
    title = f"network after {training.step:,} steps" if training.step else "untrained network"
    live(loss_chart(training, training.lesson), PANEL, training.preview, title)
