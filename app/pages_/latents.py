"""Latents: a picture as 48 times fewer numbers; look at them, change them, mix two pictures, see what they save."""

import hashlib

import streamlit as st
from explorer import address, controls, emoji, latent_views, page, programs, stable, stable_sections, tries
from explorer.latent_views import Encoded
from explorer.page_words import LATENTS
from explorer.scrubber import scrubber
from explorer.uploads import own_image
from torch import Tensor

from diffusion_explained.film import EPS_RANGE, pixels, png
from diffusion_explained.stable_diffusion.latent_space import Reach

ERROR_RANGE = 0.5  # the colour scale's limit, for pixel values in [-1, 1]
SEEN = 0.05  # the smallest change of a pixel that is visible
PIXEL, CHANNEL = "one latent pixel", "a whole channel"

page.head(
    "Latents: 48 times fewer numbers",
    "An **autoencoder** lets diffusion work on few numbers: its encoder $E$ compresses 8 × 8 pixels into 4 numbers, "
    "and its decoder $D$ turns them back into pixels. This page shows the autoencoder of our small model.",
    r"z = E(x_0)",
    r"\hat x_0 = D(z)\approx x_0",
    r"128\cdot 128\cdot 3 = 48\cdot(16\cdot 16\cdot 4)",
)
address.films("frame")
name, state = stable.embedded(), st.session_state
side = stable.usual(stable.MICRO).size[0]


def encode(key: str, x_0: Tensor) -> Encoded:
    with page.progress("Encoding") as tell:
        return latent_views.encoded(name, key, x_0, tell)


# -- the picture --------------------------------------------------------------------------------------------

choose, show = st.columns([1, 2.7], gap="large")
with choose:
    of_emoji = emoji.pick("Emoji", "emoji")
    upload = controls.upload("or your own picture", key="latents_upload", help=f"Scaled to {side} × {side} pixels.")
    key, x_0 = " ".join(of_emoji), emoji.emoji(*of_emoji)
    if upload is not None:
        said: tuple[str, ...] = ()
        try:
            x_0, said = own_image(upload.getvalue(), side, 3)
            key = hashlib.sha256(x_0.numpy().tobytes()).hexdigest()
            address.leaves_out("your own picture")
        except ValueError as error:
            words = f"This file cannot be used: {error} The {of_emoji[0]} is shown instead."
            st.error(page.literal(words), icon=":material/broken_image:")
        for sentence in said:
            st.caption(sentence)
    tries.tries("latents")
try:
    one = encode(key, x_0)
except (ValueError, OSError) as error:
    st.error(page.literal(str(error)), icon=":material/error:")
    page.end()
channels, height, width = one.latents.shape[1:]
with show:
    stable_sections.kind(one.label, one.model)
    z = one.latents[0]
    error = (one.decoded - one.x_0).mean(1)[0]
    what = key if key == " ".join(of_emoji) else "your own"
    words = "The decoded picture minus the original, the mean of red, green and blue"
    page.gallery(
        [
            ("the picture x₀", f"The picture: {what}", png(pixels(one.x_0)[0])),
            (f"decoded: {one.psnr:.1f} dB", "What the decoder makes of the latent", png(pixels(one.decoded)[0])),
            (f"its error, ±{ERROR_RANGE:g}", words, png(pixels(error[None, None], ERROR_RANGE)[0])),
        ]
    )
    fields = []
    for k, field in enumerate(z, start=1):
        low, high = f"{field.min():+.1f}", f"{field.max():+.1f}"
        alt = f"Channel {k} of the latent: {height} by {width} numbers from {low} to {high}"
        fields.append((f"channel {k}: {low} to {high}", alt, png(latent_views.enlarged(field, EPS_RANGE))))
    page.gallery(fields)
    page.colour_scale(EPS_RANGE, "Values of the latent")
    st.caption(
        f"{side} × {side} × 3 = {one.x_0.numel():,} numbers became {height} × {width} × {channels} = {z.numel():,}: "
        f"{one.x_0.numel() / z.numel():.0f} times fewer. The decibels (PSNR) measure how close the decoded picture is "
        "to the original: 10 log₁₀(2² / mean squared error). In the error, blue is too dark and red too bright."
    )

# -- poke ---------------------------------------------------------------------------------------------------


@page.fragment
def poke() -> None:
    st.header("Poke it", anchor=False)
    asking, result = st.columns([1, 2.7], gap="large")
    with asking:
        where = controls.segments(st, "Add to", (PIXEL, CHANNEL), PIXEL, key="poke_where")
        channel = controls.segments(st, "Channel", range(1, channels + 1), 1, key="poke_channel")
        amount = controls.slider(st, "Amount", -6.0, 6.0, 4.0, 0.5, key="poke_amount")
        place = None
        if where == PIXEL:
            left, right = st.columns(2)
            x = controls.slider(left, "x", 0, width - 1, width // 2, 1, key="poke_x", help="From left to right.")
            y = controls.slider(right, "y", 0, height - 1, height // 2, 1, key="poke_y", help="From top to bottom.")
            place = (y, x)
    changed = latent_views.poked(one.latents, channel - 1, amount, place)
    with page.progress("Decoding") as tell:
        after = latent_views.decode(name, changed, tell)
    change = after - one.decoded
    what = f"{amount:+g} in channel {channel} {'everywhere' if place is None else f'at x = {x}, y = {y}'}"
    note = (
        f"{what}: {float((change.abs().amax(1) > SEEN).float().mean()):.1%} of the pixels change by more than {SEEN}."
    )
    if place is not None and amount:
        times = side // width
        own = (times * y, times * (y + 1), times * x, times * (x + 1))
        inside = Reach(one.decoded[0], after[0], change.abs().mean(1)[0], own).inside
        note += f" {inside:.0%} of all change is on the {times} × {times} pixels that this latent pixel stands for."
    with result:
        page.gallery(
            [
                (
                    f"channel {channel}, poked",
                    f"Channel {channel} of the latent after {what}",
                    png(latent_views.enlarged(changed[0, channel - 1], EPS_RANGE)),
                ),
                ("decoded before", "The decoded picture before", png(pixels(one.decoded)[0])),
                ("decoded after", f"The decoded picture after {what}", png(pixels(after)[0])),
                (
                    f"the change, ±{ERROR_RANGE:g}",
                    "The picture after minus before, the mean of red, green and blue",
                    png(pixels(change.mean(1, keepdim=True), ERROR_RANGE)[0]),
                ),
            ],
            note=note,
        )


poke()

# -- mix ----------------------------------------------------------------------------------------------------

st.header("Mix two pictures", anchor=False)
choose, show = st.columns([1, 2.7], gap="large")
with choose:
    of_other = emoji.pick("With", "other", "rocket")
    tries.question("latents")
other = encode(" ".join(of_other), emoji.emoji(*of_other))
with show:
    with page.progress("Decoding") as tell:
        mixed = latent_views.mixed(name, one, other, tell)
    scrubber(mixed, key="mixed", frame=latent_views.MIXES // 2)

# -- the cost -----------------------------------------------------------------------------------------------

st.header("What it saves", anchor=False)
ours = "micro" if name == stable.MICRO else "the stand-in"
rows = [f"| **{what}** | {small} | {large} |" for what, small, large in latent_views.table(name)]
st.markdown("\n".join([f"| compared | {ours} | Stable Diffusion 1.5 |", "|---|---|---|", *rows]))
st.caption(
    "Sizes come from the configurations; the work per picture of one forward pass is counted from the shapes "
    "(convolutions and matrix products; a multiplication and an addition count as two). Nothing ran at full size. "
    f"{latent_views.others()}"
)

poke_place = (
    None if state.poke_where == CHANNEL else (state.get("poke_y", height // 2), state.get("poke_x", width // 2))
)
programs.show(
    programs.latents(
        name, of_emoji, of_other, side, latent_views.MIXES, own=key != " ".join(of_emoji),
        channel=state.poke_channel - 1, amount=state.poke_amount, place=poke_place,
    ),
    "mosaic(pixels(torch.cat([x_0, decoded, poked])))",
    lambda: {"x_0": one.x_0, "latent": one.latents, "decoded": one.decoded},
)  # fmt: skip
page.notes(LATENTS)
tries.next_page("latents")
