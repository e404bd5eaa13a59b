"""Reverse: noise becomes an image, step by step."""

from dataclasses import replace
from functools import partial

import streamlit as st
from explorer import (
    address,
    branches,
    choices,
    controls,
    labels,
    names,
    page,
    programs,
    share_panel,
    sharing,
    spacings,
    tries,
)
from explorer.page_words import REVERSE
from explorer.runs import Settings, class_names, columns_of, kept_steps, model, rectified, run, seconds_of, states
from explorer.scrubber import scrubber

from diffusion_explained.guidance import MIDDLE

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 250, 500, 1000)
USUAL = {"digits": 10, "pictures": 8, "slow": 6}  # steps
MOST = {"digits": 1000, "pictures": 100, "slow": 100}
ALL = "one of each"
NONE = "none"

address.films("frame", "image")
with page.top(REVERSE):
    choice = choices.choose()
classes = class_names(choice.data)
seen, beside, controlling = page.bench()
with controlling:
    first, second, third, fourth = st.columns(4, gap="medium")
    with first:
        choices.pick_network(choice)
    unguided = rectified(choice.model)
    sampler = controls.choice(
        second, labels.SAMPLER, list(names.SAMPLERS), "euler", key="sampler", format_func=names.SAMPLERS.get
    )
    possible = sharing.up_to((count for count in STEPS if count <= MOST[choice.pace]), sharing.STEPS)
    usual = choice.default("steps", USUAL[choice.pace])
    steps = controls.steps(third, labels.STEPS, possible, usual, key="steps")
    with fourth:
        most, usual = 10.0, model(choice.model).default_guidance_scale
        scale = choices.guidance_slider(choice, "w", most, usual, rectified=unguided)
    first, second, third, fourth = st.columns(4, gap="medium")
    label = controls.choice(first, labels.CLASS, [ALL, *classes], ALL, key="class")
    spacing = spacings.choose_or_own(second, choice.model, steps, key="spacing")
    seed = controls.number(third, labels.SEED, 0, 99999, 0, key="seed")
    eta = 0.0
    if sampler == "ddim":
        what = "0: deterministic, 1: DDPM's noise."
        eta = controls.slider(fourth, "eta", 0.0, 1.0, 0.0, 0.05, key="eta", help=what)
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    with st.expander(labels.Reverse.more, icon=":material/tune:"):
        first, second, third = st.columns(3, gap="medium")
        negative = controls.choice(
            first, labels.Reverse.negative, [NONE, *classes], NONE, key="negative", disabled=unguided,
            help=labels.Reverse.negative_help,
        )  # fmt: skip
        rescale = controls.slider(second, labels.Reverse.rescale, 0.0, 1.0, 0.0, 0.1, key="rescale", disabled=unguided)
        middle = controls.switch(
            third, labels.Reverse.middle.format(low=MIDDLE[0], high=MIDDLE[1]), key="middle", disabled=unguided,
            help=labels.Reverse.middle_help,
        )  # fmt: skip
        clip = controls.switch(third, labels.Reverse.clip, True, key="clip")

settings = Settings(
    model=choice.model,
    sampler=sampler,
    num_inference_steps=steps,
    labels=tuple(range(10)) if label == ALL else (classes.index(label),) * 8,
    guidance_scale=scale,
    seed=seed,
    eta=eta,
    negative=None if unguided or negative == NONE else classes.index(negative),
    guidance_rescale=0.0 if unguided else rescale,
    guidance_interval=MIDDLE if middle and not unguided else None,
    clip=clip,
    spacing=spacing,
)
with beside:
    tries.tries("reverse")
    tries.question("reverse")


def begin_branch(frame: int) -> None:
    branches.begin(settings, frame)
    address.move(frame=len(kept_steps(settings)))  # both ends


with seen:
    picture, forking = st.container(), st.container(key="fork-row")
    fork = branches.choose(forking, choice, settings, guided=not unguided)
    work = seconds_of(settings)
    if fork is not None:
        left = steps - fork.i
        work += seconds_of(replace(fork.settings, num_inference_steps=left))
    if not page.may_begin(work, (settings, fork)):
        page.end()
    with picture, page.progress(labels.SAMPLING) as tell:
        kept = run(settings, tell)
        branch = None if fork is None else branches.branched(kept, settings, fork, tell)
        film = kept.film if branch is None else branch.film
    first_visit = not st.session_state.get("reverse_played")
    st.session_state.reverse_played = True
    with picture:
        scrubber(film, key="run", autoplay=first_visit, keep=True, ask=labels.Reverse.branch, on_answer=begin_branch)
    if branch is not None:
        share_panel.offers().panels = (0, 2)  # both runs
        forking.caption(branches.words_of(fork, branch))
    page.colour_notice(choice.data)
    sides = labels.Reverse.both_sides if scale != 1 else ""
    if sides and settings.guidance_interval:
        sides = labels.Reverse.both_where_guided
        st.caption(labels.Reverse.blank)
    st.caption(
        labels.Reverse.counts.format(
            images=len(settings.labels),
            evaluations=kept.evaluations,
            plural="" if kept.evaluations == 1 else "s",
            sides=sides,
        )
    )
    if scale == 1 and not unguided:
        st.caption(labels.Reverse.unguided)

page.below(REVERSE)
if fork is None:
    last = f"mosaic(pixels(x_0), {columns_of(settings)})"
    programs.show(programs.animated(settings, choice.noun), last, partial(states, settings))
else:
    programs.show(programs.branched(settings, fork, choice.noun))
tries.next_page("reverse")
