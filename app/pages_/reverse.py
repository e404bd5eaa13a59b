"""Reverse: noise becomes a digit, step by step."""

import streamlit as st
from explorer import page
from explorer.runs import MODELS, Settings, run
from explorer.scrubber import scrubber

from diffusion_explained.film import gif
from diffusion_explained.samplers import SAMPLERS

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 250, 500, 1000)
ALL = "one of each"
NONE = "none"

page.head(
    "Reverse: from noise to image",
    "Start from pure noise. At every step the network predicts the noise and with it the clean image; the "
    "sampler keeps the prediction and moves to the next, less noisy level.",
    r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
    r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
)
before = st.query_params.to_dict()
with st.container(key="workbench"):  # on a phone the result stands above its controls
    controls, result = st.columns([1, 2.7], gap="large")
with controls:
    model_name = st.selectbox("Model", MODELS, key="model", bind="query-params")
    sampler = st.selectbox(
        "Sampler", list(SAMPLERS), index=list(SAMPLERS).index("euler"), key="sampler", bind="query-params"
    )
    steps = st.select_slider("Steps", STEPS, 10, key="steps", bind="query-params")
    scale = st.slider(
        "Guidance scale w", 0.0, 10.0, 2.0, 0.5, key="w", bind="query-params", help="1 is off, 0 ignores the class."
    )
    eta = 0.0
    if sampler == "ddim":
        eta = st.slider(
            "eta", 0.0, 1.0, 0.0, 0.05, key="eta", bind="query-params", help="0: deterministic, 1: DDPM's noise."
        )
    digit = st.selectbox("Class", [ALL, *map(str, range(10))], key="class", bind="query-params")
    seed = st.number_input("Seed", 0, 99999, 0, key="seed", bind="query-params")
    with st.expander("More", icon=":material/tune:"):
        negative = st.selectbox(
            "Negative class", [NONE, *map(str, range(10))], key="negative", bind="query-params",
            help="Stands in for the unconditional side: guidance moves away from it.",
        )  # fmt: skip
        rescale = st.slider("Guidance rescale φ", 0.0, 1.0, 0.0, 0.1, key="rescale", bind="query-params")
        clip = st.toggle("Clip predicted x₀ to [−1, 1]", True, key="clip", bind="query-params")

settings = Settings(
    model=model_name,
    sampler=sampler,
    num_inference_steps=steps,
    labels=tuple(range(10)) if digit == ALL else (int(digit),) * 8,
    guidance_scale=scale,
    seed=seed,
    eta=eta,
    negative=None if negative == NONE else int(negative),
    guidance_rescale=rescale,
    clip=clip,
)
with result:
    page.address_notice(
        before, ["model", "sampler", "steps", "w", "eta", "class", "seed", "negative", "rescale", "clip"]
    )
    with page.progress("Sampling") as tell:
        kept = run(settings, tell)
    scrubber(kept.film, key="run")
    facts, save = st.columns([3, 1], vertical_alignment="center")
    facts.caption(
        f"{len(settings.labels)} images · {kept.evaluations} network evaluations"
        f"{' of both sides' if scale != 1 else ''} · {kept.seconds:.2f} s when it was computed"
    )
    save.download_button(
        "Save as GIF",
        lambda: gif(kept.film),
        file_name=f"digits-{sampler}-{steps}-steps-w{scale:g}-seed{seed}.gif",
        mime="image/gif",
        icon=":material/movie:",
        on_click="ignore",
        width="stretch",
    )
    if scale == 1:
        st.caption("Guidance is off at w = 1, so there is no unconditional prediction, and no difference to show.")

eta_option = f", eta={eta}" if sampler == "ddim" else ""
options = {"guidance_scale": scale}
if negative != NONE:
    options["negative_labels"] = f"[{negative}] * len(labels)"
if rescale:
    options["guidance_rescale"] = rescale
if clip:
    options["clip"] = 1.0
with st.expander("The same in Python", icon=":material/code:"):
    st.code(
        f"""from diffusion_explained import load_pretrained
from diffusion_explained.film import film_of, gif

model = load_pretrained("{model_name}")
labels = {list(settings.labels)}
denoise = model.denoiser(labels, {", ".join(f"{name}={value}" for name, value in options.items())})
steps = list(model.steps(denoise, len(labels), {steps}, sampler="{sampler}", seed={seed}{eta_option}))
open("digits.gif", "wb").write(gif(film_of(steps)))""",
        language="python",
    )
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- The **predicted $x_0$** is decided early and only sharpened later; $x_t$ follows it.\n"
        "- The **difference** of the two noises is the class itself: it is strong where the class decides, and small "
        "at the end.\n"
        "- Deterministic samplers (euler, heun, ddim with eta 0) turn one noise into one digit, with few steps or "
        "many. ddpm and euler_ancestral add fresh noise, and need more steps.\n"
        "- Choose a negative class: guidance then moves away from that digit."
    )
