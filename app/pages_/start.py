"""Start: images emerge from noise at once; links lead to the other pages."""

import streamlit as st
from explorer import address, choices, page, sharing
from explorer.setting_types import Whole

MOST_SEED = 99_999
STEPS = {"digits": 20, "pictures": 8, "slow": 4}

page.head(
    "Diffusion, explained",
    "A network is given pure noise and predicts the picture in it; a sampler uses that prediction to remove a little "
    "noise, and asks again. **Nothing here is a recording**: the images below were just drawn on this machine, by a "
    "network that was trained on MNIST's digits, or on CIFAR-10's small photographs.",
)
sharing.say("no folder of its machine can be opened, nothing is downloaded, and the size of files and runs is limited")
address.films("frame")
choice = choices.choose()
seed = address.hidden("start_seed", Whole(0, MOST_SEED), 0)

with st.spinner("Loading the network"):  # importing torch takes seconds; the visitor already has something to read
    from explorer import programs
    from explorer.runs import Settings, class_names, model, run
    from explorer.scrubber import scrubber

network = model(choice.model)
settings = Settings(
    choice.model,
    network.default_sampler,
    STEPS[choice.pace],
    tuple(range(10)),
    network.default_guidance_scale,
    seed=seed,
)
with page.progress("Drawing") as tell:
    kept = run(settings, tell, overview=True)
scrubber(kept.film, key="start", frame=0, autoplay=True)


def other_noise() -> None:
    st.session_state.start_seed = (seed + 1) % (MOST_SEED + 1)


st.button("From other noise", on_click=other_noise, icon=":material/casino:")
st.caption(
    f"One image of each class ({', '.join(class_names(choice.data))}) by {choices.NETWORKS[choice.model]}, "
    f"in {settings.num_inference_steps} steps with guidance {settings.guidance_scale:g}. "
    "Drag the slider, or press play."
)

st.subheader("Look inside", anchor=False)
WAYS = [
    (
        "plane",
        ":material/scatter_plot:",
        "The plane",
        "Two dimensions: every point on its way from noise. Draw, train.",
    ),
    ("forward", ":material/blur_on:", "Forward", "How an image becomes noise, and what the network predicts from it."),
    ("schedules", ":material/show_chart:", "Schedules", "How fast noise is added: α, σ and the signal-to-noise ratio."),
    ("reverse", ":material/auto_awesome:", "Reverse", "Noise becomes an image: every step, every prediction."),
    ("guidance", ":material/tune:", "Guidance", "Follow the class more closely, and lose diversity."),
    ("samplers", ":material/speed:", "Samplers", "A race from the same noise: which needs the fewest evaluations?"),
    ("text_to_image", ":material/draw:", "Text to image", "Type words, and a small model draws them. Paint, refine."),
    ("latents", ":material/compress:", "Latents", "A picture as 48 times fewer numbers: look, change, mix."),
    ("stable_diffusion", ":material/imagesmode:", "Stable Diffusion", "From words to a picture, in four stages."),
    ("compare", ":material/compare:", "Compare", "Our model and Stable Diffusion, at the same step."),
]
columns = [column for _ in range(-(-len(WAYS) // 3)) for column in st.columns(3)]
for column, (name, icon, title, text) in zip(columns, WAYS, strict=False):
    with column.container(border=True, height="stretch"):
        st.page_link(f"pages_/{name}.py", label=f"**{title}**", icon=icon)
        st.caption(text)
programs.show(programs.sampling(settings))
