"""Schedules: how fast an image becomes noise."""

from collections.abc import Callable
from functools import partial

import streamlit as st
from explorer import choices, controls, page, programs
from explorer.pictures import origin, picture, real_images

from diffusion_explained import plots
from diffusion_explained.film import shown
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn
from diffusion_explained.schedules import SCHEDULES, DDPMSchedule, Schedule

DEFAULT_BETAS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "sigmoid": (1e-4, 0.02)}
SHOWN = {"mnist": (8, 3), "cifar10": (7, 7)}  # the picture that is noised: its class, and its number within that class
VISIBLE_SNR = 1e-4  # above this, the last level still carries more than 1% of the image's amplitude

page.head(
    "Schedules: the pace of noising",
    "A schedule is two functions of time, α for the signal and σ for the noise. They decide at which noise "
    "levels the network works, and what sampling starts from.",
    r"\textstyle\bar\alpha_t = \prod_{s\le t}(1-\beta_s)",
    r"\alpha_t=\sqrt{\bar\alpha_t},\ \ \sigma_t=\sqrt{1-\bar\alpha_t}",
    r"\text{flow: }\alpha_t = 1-t,\ \ \sigma_t = t",
)
choice = choices.choose(network=False)
chosen = controls.many(
    st, "Schedules", tuple(SCHEDULES), ["linear", "scaled_linear", "cosine", "flow"], key="schedules"
)
with st.expander("Numbers: T, β, shift, terminal SNR", icon=":material/tune:"):
    first, second, third = st.columns(3)
    T = controls.number(first, "T, training timesteps", 10, 5000, 1000, step=10, key="T")
    shift = controls.number(first, "shift (flow)", 0.1, 20.0, 1.0, step=0.5, key="shift")
    own = controls.switch(second, "My own β range", key="own", help="For linear, scaled_linear and sigmoid.")
    zero = controls.switch(second, "Rescale to zero terminal SNR", key="zero")
    beta_start = controls.number(
        third, "β start", 1e-6, 0.5, 1e-4, step=1e-4, format="%.5f", key="beta_start", disabled=not own
    )
    beta_end = controls.number(
        third, "β end", 1e-6, 0.999, 0.02, step=1e-3, format="%.5f", key="beta_end", disabled=not own
    )


def call(name: str) -> tuple[Callable[..., Schedule], str, dict[str, object]]:
    """What makes a schedule: the callable, its name in a program, its options."""
    make = SCHEDULES[name]
    if name in ("flow", "edm"):
        return make, make.__qualname__, {"shift": shift} if name == "flow" else {}
    options: dict[str, object] = {"num_train_timesteps": T, "rescale_zero_terminal_snr": zero}
    if name in DEFAULT_BETAS:
        low, high = (beta_start, beta_end) if own else DEFAULT_BETAS[name]
        options |= {"beta_start": low, "beta_end": high}
    return make, make.__qualname__, options


if not chosen:
    st.info("Choose at least one schedule above.", icon=":material/touch_app:")
    page.end()
if own and beta_end < beta_start:
    st.warning("β end is below β start: the noise is added fastest at the beginning.", icon=":material/warning:")
calls = {name: call(name) for name in SCHEDULES if name in chosen}
schedules = {name: make(**options) for name, (make, _, options) in calls.items()}

for name, one in schedules.items():
    if isinstance(one, DDPMSchedule) and one.terminal_snr > VISIBLE_SNR:
        st.warning(
            f"**{name}** ends with a terminal SNR of {one.terminal_snr:.2g}: its last level still holds "
            f"{float(one.alpha(T - 1)):.1%} of the image. Sampling starts from pure noise, which the network "
            "never saw in training; the error is largest in overall brightness. Rescale to zero terminal SNR to remove "
            "it.",
            icon=":material/warning:",
        )

for pair in (("alphas_cumprod", "log_snr"), ("alpha", "sigma")):
    for column, quantity in zip(st.columns(2, gap="medium"), pair, strict=True):
        with column:
            drawn = (quantity, *((name, str(one.to_config())) for name, one in schedules.items()))
            page.show(drawn, partial(plots.schedule_curves, schedules, quantity))

st.subheader(f"The same {choice.noun} under each", anchor=False)
x_0 = picture(choice.data, *SHOWN[choice.data])
eps = randn(x_0.shape, generators(1, 0))
columns = 10
rows = {
    name: [shown(add_noise(x_0, eps, level), level)[0] for level in [one.clean, *reversed(one.levels(columns)[:-1])]]
    for name, one in schedules.items()
}
captions = ["clean", *(f"{(k + 1) / columns:.0%}" for k in range(columns))]
page.strip(rows, captions, "x_t from data to noise")
origin(choice.data)
if "edm" in schedules:
    st.caption("EDM's x_t grows with its noise, up to σ = 80; it is shown divided by its own standard deviation.")

made = {name: f"{spelt}({programs.arguments(options)})" for name, (_, spelt, options) in calls.items()}
data = choice.data if choice.data == "mnist" or real_images(choice.data) else "made"
programs.show(programs.schedules(made, data, SHOWN[choice.data]))
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- **linear** destroys the image early: the last quarter of its steps looks like noise already. "
        "**cosine** was made to spread the loss evenly (Nichol & Dhariwal 2021).\n"
        "- **scaled_linear** is Stable Diffusion's. Its terminal SNR is not 0, hence the warning.\n"
        "- **flow** is the straight line. A shift above 1 spends more time at high noise, which larger images need.\n"
        "- With few timesteps T and unchanged β, too little noise is added: try T = 100."
    )
