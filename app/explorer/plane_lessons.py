"""The training card of the page The plane: Train, Pause, Continue, another seed, and the loss as it falls."""

from functools import partial

import streamlit as st

from diffusion_explained.pretrained import Model
from explorer import address, jobs, lesson_jobs, page, plane_gan
from explorer.plane import Movement
from explorer.plane_gan import Contest
from explorer.plane_stage import live
from explorer.plane_training import Lesson, Training, finished, loss_chart
from explorer.setting_types import Switch

PANEL = 1  # of the stage, in which the network's points are shown


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
        lesson_jobs.other_seed("net_seed", lesson.seed)
        return model, lesson.steps
    if watched:
        return None, 0
    paused = lesson_jobs.offer(lesson, training, partial(_press, lesson, movement, pace), "one quiet core, at most")
    return (training.model, training.step) if paused and training is not None else (None, 0)


def contest_card(contest: Contest) -> None:
    """Show the card of a GAN and a diffusion model: Train both, their progress, or another seed."""
    trained, known = address.hidden("trained", Switch(), False), plane_gan.known(contest)
    begin = lesson_jobs.pair(contest, partial(plane_gan.trained, contest), known, trained=trained)
    if plane_gan.known(contest):
        lesson_jobs.other_seed("gan_seed", contest.seed)
    elif not jobs.running():
        st.button(
            "Train both", type="primary", key="train", icon=":material/model_training:", width="stretch", on_click=begin
        )


def _begin(lesson: Lesson, movement: Movement, pace: str) -> Training:
    training = lesson_jobs.begin(Training, lesson, lambda: Training(lesson, movement))
    training.pace = pace
    return training


def _press(lesson: Lesson, movement: Movement, pace: str) -> None:
    st.session_state.trained = True
    _begin(lesson, movement, pace)


def _beside(training: Training) -> None:
    title = f"network after {training.step:,} steps" if training.step else "untrained network"
    live(loss_chart(training, training.lesson), PANEL, training.preview, title)
