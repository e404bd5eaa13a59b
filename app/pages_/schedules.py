"""Schedules: how fast an image becomes noise."""

from collections.abc import Callable
from dataclasses import replace

import streamlit as st
import torch
from explorer import address, choices, controls, labels, own_schedule, page, programs, schedule_films, tries
from explorer.names import WITH_YOURS as NAMES
from explorer.names import YOURS
from explorer.page_words import SCHEDULES as SCHEDULES_PAGE
from explorer.pictures import origin, picture, pictures, real_images
from explorer.schedule_films import ROLES
from explorer.scrubber import scrubber

from diffusion_explained.noise import generators, randn
from diffusion_explained.schedules import SCHEDULES, DDPMSchedule, Schedule

DEFAULT_BETAS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "sigmoid": (1e-4, 0.02)}
SHOWN = {"mnist": (8, 3), "cifar10": (7, 7)}  # the picture that is noised: its class, and its number within that class
COLUMNS = own_schedule.COLUMNS  # of the filmstrip, without the clean picture

address.films("frame")
with page.top(SCHEDULES_PAGE):
    choice = choices.choose(network=False)
seen, beside, controlling = page.bench()
with beside:
    tries.tries("schedules")
    tries.question("schedules")
with controlling:
    chosen = controls.many(
        st,
        labels.SCHEDULES,
        tuple(NAMES),
        ["linear", "scaled_linear", "cosine", "flow", YOURS],
        key="schedules",
        format_func=NAMES.get,
    )
    first, second, third = st.columns(3, gap="medium")
    T = controls.number(first, labels.Schedules.training_timesteps, 10, 5000, 1000, step=10, key="T")
    shift = controls.number(first, labels.Schedules.shift, 0.1, 20.0, 1.0, step=0.5, key="shift")
    own = controls.switch(second, labels.Schedules.own, key="own", help=labels.Schedules.own_help)
    zero = controls.switch(second, labels.Schedules.zero, key="zero")
    beta_start = controls.number(
        third,
        labels.Schedules.beta_start,
        1e-6,
        0.5,
        1e-4,
        step=1e-4,
        format="%.5f",
        key="beta_start",
        disabled=not own,
    )
    beta_end = controls.number(
        third, labels.Schedules.beta_end, 1e-6, 0.999, 0.02, step=1e-3, format="%.5f", key="beta_end", disabled=not own
    )
    if own and beta_end < beta_start:
        st.caption(labels.Schedules.falling)
handles = own_schedule.values()


def call(name: str) -> tuple[Callable[..., Schedule], str, dict[str, object]]:
    """What makes a schedule: the callable, its name in a program, its options."""
    of_T: dict[str, object] = {"num_train_timesteps": T, "rescale_zero_terminal_snr": zero}
    if name == YOURS:
        make = DDPMSchedule.of_log_snr
        return make, make.__qualname__, {"log_snr": list(handles), **of_T}
    make = SCHEDULES[name]
    if name in ("flow", "edm"):
        return make, make.__qualname__, {"shift": shift} if name == "flow" else {}
    if name in DEFAULT_BETAS:
        low, high = (beta_start, beta_end) if own else DEFAULT_BETAS[name]
        of_T |= {"beta_start": low, "beta_end": high}
    return make, make.__qualname__, of_T


if not chosen:
    seen.info(labels.Schedules.choose, icon=":material/touch_app:")
    page.end()
calls = {name: call(name) for name in NAMES if name in chosen}
schedules = {name: make(**options) for name, (make, _, options) in calls.items()}

x_0 = picture(choice.data, *SHOWN[choice.data])
eps = randn(x_0.shape, generators(1, 0))
made = {name: f"{spelt}({programs.arguments(options)})" for name, (_, spelt, options) in calls.items()}
with seen:
    key = (*made.items(), choice.data, pictures(choice.data).split)
    film = schedule_films.film_of_schedules(schedules, key, x_0, eps)
    scrubber(film, key="schedules_film", frame=len(film.captions) // 2, keep=True)
    if YOURS in schedules:
        st.header(labels.Schedules.drag, anchor=False)
        st.markdown(labels.Schedules.drag_lead)
        others = {name: one for name, one in schedules.items() if name != YOURS}
        (around,) = schedule_films.charts_of(others or schedules, {"log SNR": schedule_films.QUANTITIES["log SNR"]})
        own_schedule.editor(around if others else replace(around, curves=()), ROLES[YOURS], x_0, eps)
    for name, one in schedules.items():
        if isinstance(one, DDPMSchedule) and one.terminal_snr > own_schedule.VISIBLE_SNR:
            st.caption(
                labels.Schedules.terminal.format(name=NAMES[name], snr=one.terminal_snr, share=float(one.alpha(T - 1)))
            )
    if "edm" in schedules:
        st.caption(labels.Schedules.edm)
    origin(choice.data)

st.header(labels.FILMSTRIP, anchor=False)
rows = {name: schedule_films.states(one, x_0, eps, COLUMNS) for name, one in schedules.items()}
captions = ["clean", *(f"{(k + 1) / COLUMNS:.0%}" for k in range(COLUMNS))]
page.strip(rows, captions, labels.Schedules.strip, NAMES)
page.below(SCHEDULES_PAGE)

data = choice.data if choice.data == "mnist" or real_images(choice.data) else "made"
programs.show(
    programs.schedules(made, data, SHOWN[choice.data]),
    f"mosaic(pixels(torch.stack(sum(x_t.values(), []))), {COLUMNS + 1})",
    lambda: {name: torch.stack(images) for name, images in rows.items()},
)
tries.next_page("schedules")
