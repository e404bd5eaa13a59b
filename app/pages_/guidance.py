"""Guidance: how much to obey the class, and what it costs."""

import time

import streamlit as st
from explorer import page
from explorer.runs import MODELS, Guided, guided, real_diversity

from diffusion_explained import plots

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
REDRAW = 0.5  # seconds between drawings of the growing sweep

page.head(
    "Guidance: obedience against diversity",
    "One network predicts the noise twice, with the class and without, and the difference is exaggerated. "
    "Every row below starts from **the same noise**; only the scale $w$ changes.",
    r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
    r"w=0:\text{ no class},\ \ w=1:\text{ no guidance}",
)
before = st.query_params.to_dict()
first, second, third, fourth = st.columns(4)
model_name = first.selectbox("Model", MODELS, key="model", bind="query-params")
per_class = second.select_slider("Images per class", (2, 4, 8, 16), 4, key="per_class", bind="query-params")
steps = third.select_slider("Steps", (4, 6, 8, 10, 15, 20, 30, 50), 10, key="sweep_steps", bind="query-params")
seed = fourth.number_input("Seed", 0, 99999, 0, key="seed", bind="query-params")
page.address_notice(before, ["model", "per_class", "sweep_steps", "seed"])

curves, pictures = st.columns([1, 1.5], gap="large")
plot, strip = curves.empty(), pictures.empty()
results: list[Guided] = []


def draw() -> None:
    with plot.container():
        page.show(
            plots.guidance_sweep(
                [one.guidance_scale for one in results],
                [one.accuracy for one in results],
                [one.diversity for one in results],
                real_diversity=real_diversity(per_class),
                theme=page.theme(),
            )
        )
    with strip.container():
        st.markdown("**Asked for this class, from the same noise**")
        rows = {f"w = {one.guidance_scale:g}": one.x_0[:10] for one in results}
        page.strip(rows, [str(label) for label in range(10)], "digits asked for at one guidance scale")


drawn = 0.0
with page.progress("Sweeping the guidance scale") as tell:
    for k, scale in enumerate(SCALES):
        tell(k / len(SCALES), f"w = {scale:g}, {k + 1} of {len(SCALES)}")
        results.append(guided(model_name, scale, per_class, steps, seed))
        if time.monotonic() - drawn > REDRAW and len(results) > 1:
            draw()
            drawn = time.monotonic()
draw()
curves.caption(
    f"{10 * per_class} images at each scale. Class accuracy: how many our own classifier takes for the class that was "
    "asked for. Diversity: how far apart the images of one class are, on average; a class drawn the same way every "
    "time would have 0."
)

with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- At $w = 0$ the class is not heard: one image in ten is right by chance, and each class shows all ten "
        "digits, hence the great diversity.\n"
        "- A little above 1 nearly every image is right; more only makes them more alike, with bolder strokes.\n"
        "- Very large scales push pixels out of range: the image is over-sharpened, and details are lost.\n"
        "- Read along a column: one noise, one class, and the same stroke that grows surer."
    )
