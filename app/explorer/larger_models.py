"""Text to image with another model than micro: one inference, begun by a button, by the samplers that draw digits."""

from functools import partial
from typing import Any

import streamlit as st

from diffusion_explained.stable_diffusion.trace_films import film_of_trace
from explorer import (
    controls,
    labels,
    page,
    part_labels,
    pipeline_stage,
    programs,
    sharing,
    spacings,
    stable,
    stable_sections,
    tries,
)
from explorer.from_words import STABLE_DIFFUSION
from explorer.loading import Loading
from explorer.names import SAMPLERS as SAMPLER_NAMES
from explorer.scrubber import scrubber
from explorer.start_pictures import CIFAR10, EMOJI, FILE, PAPER, resamplings, start_picture


def show(kind: str) -> None:
    """The page below its head. kind: what `stable_sections.chosen_model` returns."""
    with st.container(key="machine-first"):
        asks_how = kind not in (*stable.AT_ONCE, stable.RECORDED)
        first, words = st.columns([1, 2.7], gap="large") if asks_how else (st.container(), st.container())
        with st.container(key="machine"):
            machine = st.container()
    second, third = words.columns([1.6, 1], gap="medium")
    with first:
        name, loading = stable_sections.loaded_as(kind)
    with st.container(key="workbench"):  # on a phone the result stands above its controls
        asking, result = st.columns([1, 2.7], gap="large")
    program = ""
    if name == stable.RECORDED:
        with second:
            own = stable_sections.upload_trace()
    else:
        ask, start = _request(name, loading, second, third, asking)
        program = programs.diffusion(name, ask, start)
        with machine:
            job = partial(stable.draw, stable.models(), name, ask, start)
            own = stable_sections.run("Run", name, ask, job, "sd_drawn", stable.asked(name, ask, start))
    waits = own is None and name != stable.RECORDED  # for the visitor's run; meanwhile the one that ships is shown
    drawn = own or stable.first_run()
    with machine:
        _whole(drawn, "" if waits else "frame")
    with result:
        _pictures(drawn)
        if name in stable.AT_ONCE:
            stable_sections.absent()
        trying, predicting = st.columns(2, gap="large")
        with trying:
            tries.offer(STABLE_DIFFUSION.tries)
        with predicting:
            tries.ask(STABLE_DIFFUSION.question, "stable_diffusion_answer")
    page.below(STABLE_DIFFUSION)
    if program:
        programs.show(program)


def _request(name: str, loading: Loading, second: Any, third: Any, asking: Any) -> tuple[stable.Ask, stable.RunStart]:
    """What the visitor asks the model for, and what the run starts from; the prompts' places are `second`, `third`."""
    usual = stable.usual(name, loading)
    prompt = controls.text(second, labels.PROMPT, usual.prompt, key="t2i_prompt")
    negative = controls.text(
        third, labels.NEGATIVE_PROMPT, key="t2i_negative", help=part_labels.LargerModels.negative_help
    )
    of_machine = name not in stable.AT_ONCE  # the default settings of these depend on the machine and its files
    with asking:
        scale = controls.slider(
            st, labels.SCALE, 0.0, 20.0, usual.guidance_scale, 0.5, key="t2i_w", always=of_machine,
            help=part_labels.LargerModels.scale_help,
        )  # fmt: skip
        if scale < 1:
            st.caption(part_labels.LargerModels.without_prompt)
        sampler = controls.choice(
            st, labels.SAMPLER, list(SAMPLER_NAMES), usual.sampler, key="t2i_sampler", always=of_machine,
            format_func=SAMPLER_NAMES.get,
        )  # fmt: skip
        most, own = sharing.most(100, sharing.STEPS), usual.num_inference_steps
        steps = controls.slider(st, labels.STEPS, 1, most, own, 1, key="t2i_steps", always=of_machine)
        allowed = spacings.of_stable_diffusion(name, steps, sampler, loading)
        spacing = spacings.choose(st, allowed, key="t2i_spacing")
        left, right = st.columns(2)
        seed = controls.number(left, labels.SEED, 0, 99999, 0, key="t2i_seed")
        pictures = sharing.most(4, sharing.PICTURES)
        count = controls.number(
            right, labels.PICTURES, 1, pictures, 1, key="t2i_count", help=part_labels.LargerModels.batch
        )
        side = sharing.most(stable.SIDE, sharing.SIDE)
        left, right = st.columns(2)
        width = controls.number(
            left, part_labels.LargerModels.width, 1, side, usual.size[1], step=64, key="width", always=of_machine
        )
        height = controls.number(
            right, part_labels.LargerModels.height, 1, side, usual.size[0], step=64, key="height", always=of_machine
        )
        sharing.say(part_labels.LargerModels.bounds.format(steps=sharing.STEPS, pictures=sharing.PICTURES, side=side))
        start = start_picture(height, width, (CIFAR10, EMOJI, PAPER, FILE))
        repeats = resamplings(start, sampler)
        more = stable_sections.pick_additions(name, loading)
    seeds = tuple(range(seed, seed + count))
    ask = stable.Ask(prompt, negative, scale, sampler, spacing, steps, seeds, height, width, loading, more, repeats)
    return ask, start


def _whole(drawn: stable.FinishedRun, frame: str) -> None:
    """The picture of the whole of a run, or its film; frame: the address's key for its step."""
    stable_sections.label(drawn.trace)
    stable_sections.notices(drawn)
    stable_sections.cut_off(drawn.trace.tokens[0])
    if drawn.whole is not None:
        pipeline_stage.pipeline([drawn.whole], key="sd_run", name=frame)
    else:
        st.caption(part_labels.LargerModels.no_tokens)
        scrubber(film_of_trace(drawn.trace), key="sd_run")
    st.caption(page.literal(stable.facts(drawn.trace)))


def _pictures(drawn: stable.FinishedRun) -> None:
    """The first latent of a run, and its pictures."""
    st.header(part_labels.LargerModels.latent, anchor=False)
    stable_sections.latents(drawn)
    several = len(drawn.trace.pictures) > 1
    st.header(part_labels.LargerModels.pictures if several else part_labels.LargerModels.picture, anchor=False)
    stable_sections.finished(drawn)
    stable_sections.save(drawn.trace)
