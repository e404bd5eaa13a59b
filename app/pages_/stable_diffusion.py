"""Stable Diffusion: one inference, from the words to the picture, by the samplers that draw digits."""

from functools import partial

import streamlit as st
from explorer import (
    address,
    controls,
    page,
    pipeline_stage,
    programs,
    sharing,
    spacings,
    stable,
    stable_sections,
    tries,
)
from explorer.names import SAMPLERS as SAMPLER_NAMES
from explorer.page_words import STABLE_DIFFUSION
from explorer.scrubber import scrubber
from explorer.start_pictures import CIFAR10, EMOJI, FILE, PAPER, resamplings, start_picture

from diffusion_explained.stable_diffusion.trace_films import film_of_trace

NO_TOKENS = "This model's pipeline reads the prompt within instructions of its own, so its tokens are not shown."
WITHOUT_PROMPT = (
    "Below 1 the picture moves away from the prompt: 0 is the prediction without it. Where a model's card says 0.0, it "
    "means no guidance, which is 1 here."
)
page.top(STABLE_DIFFUSION)
address.films(*pipeline_stage.FILMS)
first, words = st.columns([1, 2.7], gap="large")
second, third = words.columns([1.6, 1], gap="medium")
with first:
    name, loading = stable_sections.pick_model()
with st.container(key="machine"):
    machine = st.container()
with st.container(key="workbench"):  # on a phone the result stands above its controls
    asking, result = st.columns([1, 2.7], gap="large")
if name == stable.RECORDED:
    with second:
        drawn = stable_sections.upload_trace()
else:
    usual = stable.usual(name, loading)
    prompt = controls.text(second, "Prompt", usual.prompt, key="prompt")
    negative = controls.text(
        third,
        "Negative prompt",
        key="negative",
        help="It replaces the empty prompt on the unconditional side of guidance.",
    )
    of_machine = name not in stable.AT_ONCE  # the default settings of these depend on the machine and its files
    with asking:
        scale = controls.slider(
            st, "Guidance scale w", 0.0, 20.0, usual.guidance_scale, 0.5, key="sd_w", always=of_machine,
            help="1 is off; 5 to 15 is usual for full Stable Diffusion. A model card's 0.0 means off: it is 1 here.",
        )  # fmt: skip
        if scale < 1:
            st.caption(WITHOUT_PROMPT)
        sampler = controls.choice(
            st, "Sampler", list(SAMPLER_NAMES), usual.sampler, key="sd_sampler", format_func=SAMPLER_NAMES.get,
            always=of_machine,
        )  # fmt: skip
        most, own = sharing.most(100, sharing.STEPS), usual.num_inference_steps
        steps = controls.slider(st, "Steps", 1, most, own, 1, key="sd_steps", always=of_machine)
        spacing = spacings.choose(st, spacings.of_stable_diffusion(name, steps, sampler, loading), key="sd_spacing")
        left, right = st.columns(2)
        seed = controls.number(left, "Seed", 0, 99999, 0, key="sd_seed")
        of_batch = "One batch: this seed and the ones after it."
        count = controls.number(right, "Pictures", 1, sharing.most(4, sharing.PICTURES), 1, key="count", help=of_batch)
        side = sharing.most(stable.SIDE, sharing.SIDE)
        left, right = st.columns(2)
        width = controls.number(left, "Width", 1, side, usual.size[1], step=64, key="width", always=of_machine)
        height = controls.number(right, "Height", 1, side, usual.size[0], step=64, key="height", always=of_machine)
        ours = (EMOJI, CIFAR10) if name == stable.MICRO else (CIFAR10, EMOJI)
        sharing.say(
            f"a run has at most {sharing.STEPS} steps and {sharing.PICTURES} pictures (seeds) of {side} × {side} pixels"
        )
        start = start_picture(height, width, (*ours, PAPER, FILE))
        repeats = resamplings(start, sampler)
        more = stable_sections.pick_additions(name, loading)
        if name == stable.embedded():
            stable_sections.to_text_to_image(prompt, seed, scale, steps)
    seeds = tuple(range(seed, seed + count))
    ask = stable.Ask(prompt, negative, scale, sampler, spacing, steps, seeds, height, width, loading, more, repeats)
    with machine:
        job = partial(stable.draw, stable.models(), name, ask, start)
        drawn = stable_sections.run("Run", name, ask, job, "sd_drawn", stable.asked(name, ask, start))
waits = drawn is None and name != stable.RECORDED  # for the visitor's run; meanwhile the one that ships is shown
drawn = drawn or stable.first_run()

with machine:
    stable_sections.label(drawn.trace)
    stable_sections.notices(drawn)
    stable_sections.cut_off(drawn.trace.tokens[0])
    if drawn.whole is not None:
        pipeline_stage.pipeline([drawn.whole], key="sd_run", name="" if waits else "frame")
    else:
        st.caption(NO_TOKENS)
        scrubber(film_of_trace(drawn.trace), key="sd_run")
    st.caption(page.literal(stable.facts(drawn.trace)))
with result:
    st.header("The first latent", anchor=False)
    stable_sections.latents(drawn)
    st.header("The picture" if len(drawn.trace.pictures) == 1 else "The pictures", anchor=False)
    stable_sections.finished(drawn)
    stable_sections.save(drawn.trace)
    if name in stable.AT_ONCE:
        stable_sections.absent()
    trying, predicting = st.columns(2, gap="large")
    with trying:
        tries.tries("stable_diffusion")
    with predicting:
        tries.question("stable_diffusion")
page.below(STABLE_DIFFUSION)
if name != stable.RECORDED:
    programs.show(programs.diffusion(name, ask, start))
tries.next_page("stable_diffusion")
