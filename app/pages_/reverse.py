"""Reverse: noise becomes an image, step by step."""

from dataclasses import replace
from functools import partial

import streamlit as st
from explorer import address, branches, choices, controls, names, page, programs, share_panel, sharing, spacings, tries
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
        second, "Sampler", list(names.SAMPLERS), "euler", key="sampler", format_func=names.SAMPLERS.get
    )
    possible = sharing.up_to((count for count in STEPS if count <= MOST[choice.pace]), sharing.STEPS)
    usual = choice.default("steps", USUAL[choice.pace])
    steps = controls.steps(third, "Steps", possible, usual, key="steps")
    with fourth:
        most, usual = 10.0, model(choice.model).default_guidance_scale
        scale = choices.guidance_slider(choice, "w", most, usual, rectified=unguided)
    first, second, third, fourth = st.columns(4, gap="medium")
    label = controls.choice(first, "Class", [ALL, *classes], ALL, key="class")
    spacing = spacings.choose_or_own(second, choice.model, steps, key="spacing")
    seed = controls.number(third, "Seed", 0, 99999, 0, key="seed")
    eta = 0.0
    if sampler == "ddim":
        what = "0: deterministic, 1: DDPM's noise."
        eta = controls.slider(fourth, "eta", 0.0, 1.0, 0.0, 0.05, key="eta", help=what)
    sharing.say(f"a run has at most {sharing.STEPS} steps")
    with st.expander("More", icon=":material/tune:"):
        first, second, third = st.columns(3, gap="medium")
        negative = controls.choice(
            first, "Negative class", [NONE, *classes], NONE, key="negative", disabled=unguided,
            help="Replaces the unconditional side: guidance moves away from this class.",
        )  # fmt: skip
        rescale = controls.slider(second, "Guidance rescale φ", 0.0, 1.0, 0.0, 0.1, key="rescale", disabled=unguided)
        middle = controls.switch(
            third, f"Guide only where {MIDDLE[0]:g} ≤ σ/α ≤ {MIDDLE[1]:g}", key="middle", disabled=unguided,
            help="Guides at middle noise levels only. Keeps more variety, with less contrast.",
        )  # fmt: skip
        clip = controls.switch(third, "Clip predicted x₀ to [−1, 1]", True, key="clip")

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
    with picture, page.progress("Sampling") as tell:
        kept = run(settings, tell)
        branch = None if fork is None else branches.branched(kept, settings, fork, tell)
        film = kept.film if branch is None else branch.film
    first_visit = not st.session_state.get("reverse_played")
    st.session_state.reverse_played = True
    with picture:
        scrubber(film, key="run", autoplay=first_visit, keep=True, ask="Branch here", on_answer=begin_branch)
    if branch is not None:
        share_panel.offers().panels = (0, 2)  # both runs
        forking.caption(branches.words_of(fork, branch))
    page.colour_notice(choice.data)
    sides = " of both sides" if scale != 1 else ""
    if sides and settings.guidance_interval:
        sides += ", where guided"
        st.caption("Where guidance is off, the network is not evaluated without the class, and two panels are blank.")
    st.caption(
        f"{len(settings.labels)} images · {kept.evaluations} network evaluation{'' if kept.evaluations == 1 else 's'}"
        f"{sides}"
    )
    if scale == 1 and not unguided:
        st.caption("Guidance is off at w = 1, so there is no unconditional prediction, and no difference to show.")

page.below(REVERSE)
if fork is None:
    last = f"mosaic(pixels(x_0), {columns_of(settings)})"
    programs.show(programs.animated(settings, choice.noun), last, partial(states, settings))
else:
    programs.show(programs.branched(settings, fork, choice.noun))
tries.next_page("reverse")
