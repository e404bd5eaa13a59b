"""Compare: a small model of ours and Stable Diffusion, side by side at the same step of the same sampler."""

from functools import partial

import streamlit as st
from explorer import (
    address,
    choices,
    controls,
    labels,
    page,
    programs,
    sharing,
    spacings,
    stable,
    stable_sections,
    tries,
)
from explorer.compared import compare, compare_live, first_comparison
from explorer.names import SAMPLERS as SAMPLER_NAMES
from explorer.page_words import COMPARE
from explorer.runs import Settings, class_names, model
from explorer.scrubber import scrubber

STEPS = 12  # the default number
MOST_RECORDED = sharing.most(100, sharing.STEPS)  # steps of a recorded run

address.films("frame")
with page.top(COMPARE):
    choice = choices.choose()
seen, beside, controlling = page.bench()
with beside:
    tries.tries("compare")
    tries.question("compare")
names = class_names(choice.data)
with controlling:
    ours, theirs, common = st.columns(3, gap="medium")
with ours:
    choices.pick_network(choice, labels.Compare.ours)
    label = controls.choice(st, labels.CLASS, names, "7" if choice.data == "mnist" else "horse", key="of_class")
with theirs:
    name, loading = stable_sections.pick_model(labels.Compare.theirs)
    recorded = stable_sections.upload_trace() if name == stable.RECORDED else None
    if name != stable.RECORDED:
        prompt = controls.text(st, labels.PROMPT, stable.usual(name, loading).prompt, key="compare_prompt")
with common:
    held = recorded is not None  # a recorded run keeps its own sampler and steps
    sampler = controls.choice(
        st,
        labels.Compare.sampler,
        list(SAMPLER_NAMES),
        "ddim",
        key="compare_sampler",
        format_func=SAMPLER_NAMES.get,
        disabled=held,
    )
    steps = controls.slider(
        st, labels.Compare.steps, 2, sharing.most(50, sharing.STEPS), STEPS, 1, key="compare_steps", disabled=held
    )
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    of_theirs = spacings.of_stable_diffusion(name, steps, sampler, loading)
    of_both = tuple(one for one in spacings.of_network(choice.model, steps) if one in of_theirs)
    spacing = spacings.choose(st, of_both, key="compare_spacing", disabled=held)
    if held:
        said = recorded.trace.settings
        sampler, steps, spacing = said["sampler"], said["num_inference_steps"], said.get("spacing")
        st.caption(
            labels.Compare.as_recorded.format(
                sampler=page.literal(sampler), steps=steps, spacing=stable.spacing_of(said)
            )
        )
        if spacing not in (None, *spacings.of_network(choice.model, steps)):
            st.caption(labels.Compare.no_spacing.format(spacing=spacing))
            spacing = None

scale = model(choice.model).default_guidance_scale
settings = Settings(choice.model, sampler, steps, (names.index(label),), scale, seed=0, spacing=spacing)
shown, waits = None, False
if name == stable.RECORDED:
    if steps > MOST_RECORDED:  # our model would run the same number here, and the page would wait for it
        seen.info(
            labels.Compare.too_many.format(steps=steps, most_recorded=MOST_RECORDED),
            icon=":material/timer:",
        )
    elif held:
        with seen, page.progress(labels.SAMPLING) as tell:
            shown = compare(recorded.trace, settings, (), tell)
else:
    usual = stable.usual(name, loading)
    height, width = usual.size
    ask = stable.Ask(prompt, "", usual.guidance_scale, sampler, spacing, steps, (0,), height, width, loading)
    asked = (*stable.asked(name, ask, stable.RunStart()), settings)
    job = partial(compare_live, stable.models(), name, ask, settings)
    with seen:
        if "sd_compared" not in st.session_state:
            with page.progress(labels.SAMPLING) as tell:  # before the job begins, which would have the cores
                shown = first_comparison(settings, tell)
        ran = stable_sections.run(labels.Compare.run, name, ask, job, "sd_compared", asked, usual_steps=STEPS)
        shown, waits = ran or shown, ran is None
if shown is None and not held:
    with seen, page.progress(labels.SAMPLING) as tell:
        shown = first_comparison(settings, tell)

if shown is not None:
    with seen:
        stable_sections.label(shown.trace)
        scrubber(shown.film, key="compared", name="" if waits else "frame")
    st.header(labels.Compare.costs, anchor=False)
    head, *rows = [[page.literal(cell) for cell in row] for row in (shown.head, *shown.rows)]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|", *(f"| **{a}** | {b} | {c} |" for a, b, c in rows)]
    st.markdown("\n".join(lines))
    if shown.trace.label == "stand-in":
        st.caption(labels.Compare.stand_in)
page.below(COMPARE)
if name in stable.AT_ONCE:
    stable_sections.absent()
if name != stable.RECORDED:
    programs.show(programs.compared(name, ask, settings), "mosaic(pixels(pictures))")
tries.next_page("compare")
