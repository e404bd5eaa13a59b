"""Stable Diffusion: one inference, from the words to the picture, by the samplers that draw digits."""

from functools import partial

import streamlit as st
from explorer import (
    address,
    controls,
    labels,
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

page.top(STABLE_DIFFUSION)
address.films(*pipeline_stage.FILMS)
with st.container(key="machine-first"):
    first, words = st.columns([1, 2.7], gap="large")
    with st.container(key="machine"):
        machine = st.container()
second, third = words.columns([1.6, 1], gap="medium")
with first:
    name, loading = stable_sections.pick_model()
with st.container(key="workbench"):  # on a phone the result stands above its controls
    asking, result = st.columns([1, 2.7], gap="large")
if name == stable.RECORDED:
    with second:
        drawn = stable_sections.upload_trace()
else:
    usual = stable.usual(name, loading)
    prompt = controls.text(second, labels.PROMPT, usual.prompt, key="prompt")
    negative = controls.text(
        third,
        labels.NEGATIVE_PROMPT,
        key="negative",
        help=labels.StableDiffusion.negative_help,
    )
    of_machine = name not in stable.AT_ONCE  # the default settings of these depend on the machine and its files
    with asking:
        scale = controls.slider(
            st, labels.SCALE, 0.0, 20.0, usual.guidance_scale, 0.5, key="sd_w", always=of_machine,
            help=labels.StableDiffusion.scale_help,
        )  # fmt: skip
        if scale < 1:
            st.caption(labels.StableDiffusion.without_prompt)
        sampler = controls.choice(
            st, labels.SAMPLER, list(SAMPLER_NAMES), usual.sampler, key="sd_sampler", format_func=SAMPLER_NAMES.get,
            always=of_machine,
        )  # fmt: skip
        most, own = sharing.most(100, sharing.STEPS), usual.num_inference_steps
        steps = controls.slider(st, labels.STEPS, 1, most, own, 1, key="sd_steps", always=of_machine)
        spacing = spacings.choose(st, spacings.of_stable_diffusion(name, steps, sampler, loading), key="sd_spacing")
        left, right = st.columns(2)
        seed = controls.number(left, labels.SEED, 0, 99999, 0, key="sd_seed")
        count = controls.number(
            right,
            labels.PICTURES,
            1,
            sharing.most(4, sharing.PICTURES),
            1,
            key="count",
            help=labels.StableDiffusion.batch,
        )
        side = sharing.most(stable.SIDE, sharing.SIDE)
        left, right = st.columns(2)
        width = controls.number(
            left, labels.StableDiffusion.width, 1, side, usual.size[1], step=64, key="width", always=of_machine
        )
        height = controls.number(
            right, labels.StableDiffusion.height, 1, side, usual.size[0], step=64, key="height", always=of_machine
        )
        ours = (EMOJI, CIFAR10) if name == stable.MICRO else (CIFAR10, EMOJI)
        sharing.say(labels.StableDiffusion.bounds.format(steps=sharing.STEPS, pictures=sharing.PICTURES, side=side))
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
        st.caption(labels.StableDiffusion.no_tokens)
        scrubber(film_of_trace(drawn.trace), key="sd_run")
    st.caption(page.literal(stable.facts(drawn.trace)))
with result:
    st.header(labels.StableDiffusion.latent, anchor=False)
    stable_sections.latents(drawn)
    st.header(
        labels.StableDiffusion.picture if len(drawn.trace.pictures) == 1 else labels.StableDiffusion.pictures,
        anchor=False,
    )
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
