"""Reverse: noise becomes an image, step by step."""

import streamlit as st
from explorer import address, choices, controls, page, programs, sharing, spacings
from explorer.runs import Settings, class_names, model, rectified, run, seconds_of
from explorer.scrubber import scrubber

from diffusion_explained.film import gif
from diffusion_explained.guidance import MIDDLE
from diffusion_explained.samplers import SAMPLERS

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 250, 500, 1000)
USUAL = {"digits": 10, "pictures": 8, "slow": 6}  # steps
MOST = {"digits": 1000, "pictures": 100, "slow": 100}
ALL = "one of each"
NONE = "none"

page.head(
    "Reverse: from noise to image",
    "Start from pure noise. At every step the network predicts the noise, and with it the clean image; the "
    "sampler combines the two at the next, less noisy level.",
    r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
    r"\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}}-\varepsilon_{\text{uncond}})",
)
address.films("frame")
choice = choices.choose()
names = class_names(choice.data)
with st.container(key="workbench"):  # on a phone the result stands above its controls
    asking, result = st.columns([1, 2.7], gap="large")
with asking:
    choices.pick_network(choice)
    unguided = rectified(choice.model)
    sampler = controls.choice(st, "Sampler", list(SAMPLERS), "euler", key="sampler")
    possible = sharing.up_to((count for count in STEPS if count <= MOST[choice.pace]), sharing.STEPS)
    usual = choice.default("steps", USUAL[choice.pace])
    steps = controls.steps(st, "Steps", possible, usual, key="steps")
    spacing = spacings.choose(st, spacings.of_network(choice.model, steps), key="spacing")
    sharing.say(f"a run has at most {sharing.STEPS} steps")
    scale = choices.guidance_slider(choice, "w", 10.0, model(choice.model).default_guidance_scale, rectified=unguided)
    eta = 0.0
    if sampler == "ddim":
        eta = controls.slider(st, "eta", 0.0, 1.0, 0.0, 0.05, key="eta", help="0: deterministic, 1: DDPM's noise.")
    label = controls.choice(st, "Class", [ALL, *names], ALL, key="class")
    seed = controls.number(st, "Seed", 0, 99999, 0, key="seed")
    with st.expander("More", icon=":material/tune:"):
        negative = controls.choice(
            st, "Negative class", [NONE, *names], NONE, key="negative", disabled=unguided,
            help="Replaces the unconditional side: guidance moves away from this class.",
        )  # fmt: skip
        rescale = controls.slider(st, "Guidance rescale φ", 0.0, 1.0, 0.0, 0.1, key="rescale", disabled=unguided)
        middle = controls.switch(
            st, f"Guide only where {MIDDLE[0]:g} ≤ σ/α ≤ {MIDDLE[1]:g}", key="middle", disabled=unguided,
            help="Guides at middle noise levels only. Keeps more variety, with less contrast.",
        )  # fmt: skip
        clip = controls.switch(st, "Clip predicted x₀ to [−1, 1]", True, key="clip")

settings = Settings(
    model=choice.model,
    sampler=sampler,
    num_inference_steps=steps,
    labels=tuple(range(10)) if label == ALL else (names.index(label),) * 8,
    guidance_scale=scale,
    seed=seed,
    eta=eta,
    negative=None if unguided or negative == NONE else names.index(negative),
    guidance_rescale=0.0 if unguided else rescale,
    guidance_interval=MIDDLE if middle and not unguided else None,
    clip=clip,
    spacing=spacing,
)
with result:
    if not page.may_begin(seconds_of(settings), settings):
        page.end()
    with page.progress("Sampling") as tell:
        kept = run(settings, tell)
    scrubber(kept.film, key="run")
    if label == ALL and choice.data != "mnist":  # a digit is its own label
        st.caption(f"Row by row: {', '.join(names)}.")
    page.colour_notice(choice.data)
    sides = " of both sides" if scale != 1 else ""
    if sides and settings.guidance_interval:
        sides += ", where guided"
        st.caption("Where guidance is off, the network is not evaluated without the class, and two panels are blank.")
    facts, save = st.columns([3, 1], vertical_alignment="center")
    facts.caption(
        f"{len(settings.labels)} images · {kept.evaluations} network evaluation{'' if kept.evaluations == 1 else 's'}"
        f"{sides}"
    )
    save.download_button(
        "Save as GIF",
        lambda: gif(kept.film),
        file_name=f"{choice.noun}s-{sampler}-{steps}-steps-w{scale:g}-seed{seed}.gif",
        mime="image/gif",
        icon=":material/movie:",
        on_click="ignore",
        width="stretch",
    )
    if scale == 1 and not unguided:
        st.caption("Guidance is off at w = 1, so there is no unconditional prediction, and no difference to show.")

programs.show(programs.animated(settings, choice.noun))
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- The **predicted $x_0$** is decided early and only sharpened later; $x_t$ follows it.\n"
        "- The **difference** of the two noises is what the class adds: it is large where the class decides, and small "
        "at the end.\n"
        "- Deterministic samplers (euler, heun, ddim with eta 0) map the same noise to nearly the same image, with few "
        "or many steps. ddpm and euler_ancestral add fresh noise, and need more steps.\n"
        "- Choose a negative class: guidance then moves away from that class."
    )
