"""Guidance: how closely samples follow the class, and what diversity that costs."""

import time

import streamlit as st
from explorer import address, choices, controls, labels, page, programs, sharing, spacings, tries
from explorer.page_words import GUIDANCE
from explorer.pictures import real_images
from explorer.runs import SCALES, Guided, class_names, guided, model, real_diversity, rectified, seconds, sweep_film
from explorer.scrubber import scrubber

PER_CLASS = {"digits": (2, 4, 8, 16), "pictures": (2, 3, 4), "slow": (2, 3, 4)}
USUAL = {"digits": (4, 10), "pictures": (2, 6), "slow": (2, 4)}  # images per class, steps

address.films("frame", "image")
with page.top(GUIDANCE):
    choice = choices.choose()
seen, beside, controlling = page.bench()
with controlling:
    first, second, third, fourth, fifth = st.columns([1.5, 1, 1, 1.2, 1], gap="medium")
    with first:
        choices.pick_network(choice)
    few = choice.default("per_class", USUAL[choice.pace][0])
    possible = sharing.up_to(PER_CLASS[choice.pace], sharing.PER_CLASS)
    per_class = controls.steps(second, labels.Guidance.per_class, possible, few, key="per_class")
    usual = choice.default("sweep_steps", USUAL[choice.pace][1])
    steps = controls.steps(third, labels.STEPS, (4, 6, 8, 10, 15, 20, 30, 50), usual, key="sweep_steps")
    spacing = spacings.choose(fourth, spacings.of_network(choice.model, steps), key="spacing")
    seed = controls.number(fifth, labels.SEED, 0, 99999, 0, key="seed")
    sharing.say(labels.Guidance.bounds.format(per_class=sharing.PER_CLASS, steps=sharing.STEPS))
if rectified(choice.model):
    seen.info(labels.Guidance.rectified.format(no_guidance=choices.NO_GUIDANCE), icon=":material/touch_app:")
    page.end()

scales = SCALES[choice.pace]
asked = (choice.model, per_class, steps, spacing, seed)


def nearest(scale: float) -> int:
    """The frame of the scale that is nearest to this one."""
    return min(range(len(scales)), key=lambda k: abs(scales[k] - scale))


address.means("scale", "frame", nearest)  # the tries speak of scales, which are frames here
with beside:
    tries.tries("guidance")
    tries.question("guidance")
results: list[Guided] = []
with seen:
    if not page.may_begin(seconds(choice.model, len(scales) * steps, 10 * per_class, guided=True), asked):
        page.end()
    with page.progress(labels.Guidance.measuring) as tell:
        real = real_diversity(choice.data, per_class, tell) if real_images(choice.data) else None
    place = st.empty()


def rows() -> None:
    """All scales so far, one below the other."""
    shown = {f"w = {one.guidance_scale:g}": one.x_0[:10] for one in results}
    page.strip(shown, class_names(choice.data), labels.Guidance.strip)


drawn = time.monotonic()
with seen, page.progress(labels.Guidance.sweeping) as tell:
    for k, scale in enumerate(scales):

        def within(part: float | None, doing: str, k: int = k) -> None:
            tell(None if part is None else (k + part) / len(scales), f"{doing}, {k + 1} of {len(scales)}")

        results.append(guided(choice.model, scale, per_class, steps, spacing, seed, within))
        if time.monotonic() - drawn > page.REDRAW:
            with place.container():
                rows()
            drawn = time.monotonic()
with place.container():
    film = sweep_film(choice.data, results, real)
    scrubber(film, key="sweep", frame=nearest(model(choice.model).default_guidance_scale), keep=True)
with seen:
    st.caption(labels.Guidance.measures.format(images=10 * per_class))

st.header(labels.Guidance.all_scales, anchor=False)
st.markdown(labels.Guidance.read_down)
rows()
page.below(GUIDANCE)
programs.show(
    programs.guidance(choice.model, scales, per_class, steps, spacing, seed),
    "mosaic(pixels(torch.cat([x_0[:10] for x_0 in images.values()])), 10)",
    lambda: {f"x_0 at w = {one.guidance_scale:g}": one.x_0 for one in results},
)
tries.next_page("guidance")
