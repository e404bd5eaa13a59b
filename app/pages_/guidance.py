"""Guidance: how closely samples follow the class, and what diversity that costs."""

import time

import streamlit as st
from explorer import choices, controls, page, programs, sharing, spacings
from explorer.pictures import real_images
from explorer.runs import SCALES, Guided, class_names, guided, real_diversity, rectified, seconds

from diffusion_explained import plots

PER_CLASS = {"digits": (2, 4, 8, 16), "pictures": (2, 3, 4), "slow": (2, 3, 4)}
USUAL = {"digits": (4, 10), "pictures": (2, 6), "slow": (2, 4)}  # images per class, steps
REDRAW = 3.0  # seconds between redrawings of the growing sweep

page.head(
    "Guidance: class accuracy against diversity",
    "The network predicts the noise twice, with the class and without, and guidance amplifies the difference. "
    "Every row below starts from **the same noise**; only the scale $w$ changes.",
    r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
    r"w=0:\text{ no class},\ \ w=1:\text{ no guidance}",
)
choice = choices.choose()
first, second, third, fourth, fifth = st.columns([1.5, 1, 1, 1.2, 1])
with first:
    choices.pick_network(choice)
few = choice.default("per_class", USUAL[choice.pace][0])
possible = sharing.up_to(PER_CLASS[choice.pace], sharing.PER_CLASS)
per_class = controls.steps(second, "Images per class", possible, few, key="per_class")
usual = choice.default("sweep_steps", USUAL[choice.pace][1])
steps = controls.steps(third, "Steps", (4, 6, 8, 10, 15, 20, 30, 50), usual, key="sweep_steps")
spacing = spacings.choose(fourth, spacings.of_network(choice.model, steps), key="spacing")
seed = controls.number(fifth, "Seed", 0, 99999, 0, key="seed")
sharing.say(f"a sweep has at most {sharing.PER_CLASS} images per class and {sharing.STEPS} steps")
if rectified(choice.model):
    st.info(f"{choices.NO_GUIDANCE} Choose another network to sweep the scale.", icon=":material/touch_app:")
    page.end()

scales = SCALES[choice.pace]
asked = (choice.model, per_class, steps, spacing, seed)
if not page.may_begin(seconds(choice.model, len(scales) * steps, 10 * per_class, guided=True), asked):
    page.end()
with page.progress("Measuring real images") as tell:
    real = real_diversity(choice.data, per_class, tell) if real_images(choice.data) else None
curves, pictures = st.columns([1, 1.5], gap="large")
plot, strip = curves.empty(), pictures.empty()
results: list[Guided] = []


def draw() -> None:
    with plot.container():
        page.show(
            (*asked, len(results), real),
            lambda theme: plots.guidance_sweep(
                [one.guidance_scale for one in results],
                [one.accuracy for one in results],
                [one.diversity for one in results],
                real_diversity=real,
                theme=theme,
            ),
        )
    with strip.container():
        st.markdown("**Images of the class above each column, from the same noise**")
        rows = {f"w = {one.guidance_scale:g}": one.x_0[:10] for one in results}
        page.strip(rows, class_names(choice.data), "images of each class at one guidance scale")


drawn = time.monotonic()
with page.progress("Sweeping the guidance scale") as tell:
    for k, scale in enumerate(scales):

        def within(part: float | None, doing: str, k: int = k) -> None:
            tell(None if part is None else (k + part) / len(scales), f"{doing}, {k + 1} of {len(scales)}")

        results.append(guided(choice.model, scale, per_class, steps, spacing, seed, within))
        if time.monotonic() - drawn > REDRAW and len(results) > 1:
            draw()
            drawn = time.monotonic()
draw()
curves.caption(
    f"{10 * per_class} images at each scale. Class accuracy: the share of images that our own classifier assigns to "
    "the class that they were drawn for. Diversity: the mean distance between images of one class; it would be 0 if "
    "all of them were equal."
)

programs.show(programs.guidance(choice.model, scales, per_class, steps, spacing, seed))
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- At $w = 0$ the class is ignored: one image in ten is right by chance, and every column mixes all ten "
        "classes, hence the high diversity.\n"
        "- A little above 1 most images are right; a larger scale only makes them more alike, with bolder strokes and "
        "colours.\n"
        "- Very large scales push pixels out of range: the image is over-sharpened, and details are lost.\n"
        "- Read down a column: with the same noise and class, the image becomes a clearer example of its class."
    )
