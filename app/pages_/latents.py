"""Latents: a picture as 48 times fewer numbers; look at them, change them, mix two pictures, see what they save."""

import hashlib

import streamlit as st
from explorer import address, controls, emoji, latent_views, page, programs, stable, stable_sections, tries
from explorer.cells import cells
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

page.top(LATENTS)
address.films("frame")
name, state = stable.embedded(), st.session_state
side = stable.usual(stable.MICRO).size[0]


def encode(key: str, x_0: Tensor) -> Encoded:
    with page.progress("Encoding") as tell:
        return latent_views.encoded(name, key, x_0, tell)


seen, beside, controlling = page.bench()
with beside:
    tries.tries("latents")
    tries.question("latents")

# -- the picture --------------------------------------------------------------------------------------------

with controlling:
    first, second = st.columns(2, gap="large")
    with first:
        of_emoji = emoji.pick("Emoji", "emoji")
    with second:
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
with seen:
    try:
        one = encode(key, x_0)
    except (ValueError, OSError) as error:
        st.error(page.literal(str(error)), icon=":material/error:")
        page.end()
channels, height, width = one.latents.shape[1:]

# -- touch --------------------------------------------------------------------------------------------------


def touched(channel: int, y: int, x: int) -> None:
    state.update(poke_channel=channel + 1, poke_y=y, poke_x=x)


named = key if key == " ".join(of_emoji) else "your own"
with seen:
    stable_sections.kind(one.label, one.model)
    st.markdown("**Touch a cell** of the latent, and pull: the decoded picture follows.")
    on_latent, result = st.container(), st.container()
    first, second, third = st.columns(3, gap="medium")
    where = controls.segments(first, "Add to", (PIXEL, CHANNEL), PIXEL, key="poke_where")
    amount = controls.slider(second, "Amount", -6.0, 6.0, 4.0, 0.5, key="poke_amount")
    channel = controls.segments(third, "Channel", range(1, channels + 1), 1, key="poke_channel")
    place = None
    if where == PIXEL:
        first, second, _ = st.columns(3, gap="medium")
        x = controls.slider(first, "x", 0, width - 1, width // 2, 1, key="poke_x", help="From left to right.")
        y = controls.slider(second, "y", 0, height - 1, height // 2, 1, key="poke_y", help="From top to bottom.")
        place = (y, x)
    with on_latent:
        cells(
            one.latents[0], key="cells", limit=EPS_RANGE, amount=amount, channel=channel - 1, place=place,
            on_touch=touched,
        )  # fmt: skip
    changed = latent_views.poked(one.latents, channel - 1, amount, place)
    with result, page.progress("Decoding") as tell:
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
    mean = "the mean of red, green and blue"
    with result:
        page.gallery(
            [
                (title, alt, png(pixels(shown, limit)[0]))
                for title, alt, shown, limit in (
                    ("the picture x₀", f"The picture: {named}", one.x_0, None),
                    (f"decoded: {one.psnr:.1f} dB", "What the decoder makes of the latent", one.decoded, None),
                    (
                        f"its error, ±{ERROR_RANGE:g}",
                        f"The decoded picture minus the original, {mean}",
                        (one.decoded - one.x_0).mean(1, keepdim=True),
                        ERROR_RANGE,
                    ),
                    ("decoded after the touch", f"The decoded picture after {what}", after, None),
                    (
                        f"the change, ±{ERROR_RANGE:g}",
                        f"The picture after the touch minus before, {mean}",
                        change.mean(1, keepdim=True),
                        ERROR_RANGE,
                    ),
                )
            ],
            note=note,
        )
    page.colour_scale(EPS_RANGE, "Values of the latent")
    st.caption(
        f"{side} × {side} × 3 = {one.x_0.numel():,} numbers became {height} × {width} × {channels} = "
        f"{one.latents.numel():,}: {one.x_0.numel() / one.latents.numel():.0f} times fewer. The decibels (PSNR) "
        "measure how close the decoded picture is to the original: 10 log₁₀(2² / mean squared error). In the error, "
        "blue is too dark and red too bright."
    )

# -- mix ----------------------------------------------------------------------------------------------------

st.header("Mix two pictures", anchor=False)
choose, show = st.columns([1, 2.7], gap="large")
with choose:
    of_other = emoji.pick("With", "other", "rocket")
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

page.below(LATENTS)
programs.show(
    programs.latents(
        name, of_emoji, of_other, side, latent_views.MIXES, own=key != " ".join(of_emoji),
        channel=channel - 1, amount=amount, place=place,
    ),
    "mosaic(pixels(torch.cat([x_0, decoded, poked])))",
    lambda: {"x_0": one.x_0, "latent": one.latents, "decoded": one.decoded, "poked": after},
)  # fmt: skip
tries.next_page("latents")
