"""Forward: how an image becomes noise, and what a network predicts at each time."""

import streamlit as st
from explorer import address, choices, controls, page, programs
from explorer.pictures import origin, per_class, picture, pictures, real_images
from explorer.runs import PATHS, class_names, noising
from explorer.scrubber import scrubber
from explorer.uploads import digest, own_image

from diffusion_explained.film import evenly_spaced

CLEAR = {"mnist": 7, "cifar10": 16}  # which three, and which horse: ones that are easy to recognise

page.head(
    "Forward: from image to noise",
    "Adding noise is fixed, not learned, and takes one line at any time $t$. It makes the training pairs: the noisy "
    "image, and the noise that was added. **Drag the slider**: everything below follows.",
    r"x_t = \alpha_t\,x_0 + \sigma_t\,\varepsilon",
    r"\varepsilon\sim\mathcal N(0, I)",
    r"\mathrm{SNR} = \alpha_t^2/\sigma_t^2",
)
address.films("frame")
choice = choices.choose()
names, (channels, size, _) = class_names(choice.data), pictures(choice.data).image_shape
colours = "grey" if channels == 1 else "coloured"
image, settings = st.columns([1, 1], gap="medium")
with image:
    if choice.data == "mnist":
        label = controls.pills(st, "Digit", range(10), 3, key="digit")
    else:
        label = names.index(controls.pills(st, "Class", names, "horse", key="picture"))
    upload = controls.upload(
        "or your own image",
        key="upload",
        help=f"PNG, JPEG, WebP, AVIF, GIF or BMP; scaled to {size} × {size} {colours} pixels.",
    )
with settings:
    left, right = st.columns(2)
    schedule = controls.choice(left, "Schedule", PATHS, "cosine", key="schedule")
    with right:
        choices.pick_network(choice, "Network that predicts")
    most = per_class(choice.data) - 1
    usual = choice.default("number", min(CLEAR[choice.data], most))
    number = controls.number(left, f"Which {choice.noun} of that class", 0, most, usual, key="number")
    seed = controls.number(right, "Seed of the noise", 0, 9999, 0, key="seed")
    invert = controls.switch(st, "My image is dark ink on white paper", key="invert") if upload else False

x_0, known = picture(choice.data, label, number), label
key = (choice.data, pictures(choice.data).split, label, number)
if upload is not None:
    said: tuple[str, ...] = ()
    try:
        file = upload.getvalue()
        x_0, said = own_image(file, size, channels, invert=invert)
        key, known = ("upload", digest(file), invert), None
        address.leaves_out("your own image")
    except ValueError as error:
        st.error(
            page.literal(f"This file cannot be used: {error} The {names[label]} above is shown instead."),
            icon=":material/broken_image:",
        )
    for sentence in said:
        st.caption(sentence)
if known is not None:
    origin(choice.data)

with page.progress("Asking the network") as tell:
    kept = noising(key, x_0, known, schedule, choice.model, seed, tell)
scrubber(kept.film, key="noising", frame=len(kept.levels) // 2, keep=True)
page.colour_notice(choice.data)

st.subheader("The same, as a filmstrip", anchor=False)
places = evenly_spaced(len(kept.levels), 11)
captions = ["clean", *(f"{place / 50:.0%}" for place in places[1:])]
page.strip({"xₜ": kept.x_t[places]}, captions, f"x_t on its way into noise, {schedule} schedule")

data = choice.data if choice.data == "mnist" or real_images(choice.data) else "made"
programs.show(
    programs.noising(
        data,
        label,
        number,
        schedule,
        choice.model,
        seed,
        own=(channels, size) if known is None else None,
        invert=invert,
    )
)
with st.expander("What to look for", icon=":material/lightbulb:"):
    st.markdown(
        "- At the far right the histogram is that of N(0, 1), and nothing of the image is left: the SNR is close to "
        "0.\n"
        "- The network's prediction of $x_0$ is the *mean* of all images that fit the noisy one: sharp on the left, "
        "blurred on the right. This blur is why sampling takes many small steps.\n"
        "- The two predictions are one: $x_0$ and $\\varepsilon$ together must give back $x_t$.\n"
        "- For an image of your own, the network predicts the most similar image of the kind that it was trained on.\n"
        "- The network was trained on its own schedule. It can also denoise the $x_t$ of any other, because "
        "Gaussian paths at the same SNR differ only by a factor."
    )
