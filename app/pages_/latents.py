"""Latents: a picture as 48 times fewer numbers; look at them, change them, mix two pictures, see what they save."""

import hashlib

import streamlit as st
from explorer import address, controls, emoji, labels, latent_views, page, programs, stable, stable_sections, tries
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
    with page.progress(labels.Latents.encoding) as tell:
        return latent_views.encoded(name, key, x_0, tell)


seen, beside, controlling = page.bench()
with beside:
    tries.tries("latents")
    tries.question("latents")

# -- the picture --------------------------------------------------------------------------------------------

with controlling:
    first, second = st.columns(2, gap="large")
    with first:
        of_emoji = emoji.pick(labels.Latents.emoji, "emoji")
    with second:
        upload = controls.upload(
            labels.Latents.upload, key="latents_upload", help=labels.Latents.scaled.format(side=side)
        )
        key, x_0 = " ".join(of_emoji), emoji.emoji(*of_emoji)
        if upload is not None:
            said: tuple[str, ...] = ()
            try:
                x_0, said = own_image(upload.getvalue(), side, 3)
                key = hashlib.sha256(x_0.numpy().tobytes()).hexdigest()
                address.leaves_out(labels.Latents.left_out)
            except ValueError as error:
                words = labels.Latents.refused.format(error=error, emoji=of_emoji[0])
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


named = key if key == " ".join(of_emoji) else labels.Latents.your_own
with seen:
    stable_sections.kind(one.label, one.model)
    st.markdown(labels.Latents.touch)
    on_latent, result = st.container(), st.container()
    first, second, third = st.columns(3, gap="medium")
    where = controls.segments(first, labels.Latents.add_to, (PIXEL, CHANNEL), PIXEL, key="poke_where")
    amount = controls.slider(second, labels.Latents.amount, -6.0, 6.0, 4.0, 0.5, key="poke_amount")
    channel = controls.segments(third, labels.Latents.channel, range(1, channels + 1), 1, key="poke_channel")
    place = None
    if where == PIXEL:
        first, second, _ = st.columns(3, gap="medium")
        x = controls.slider(first, "x", 0, width - 1, width // 2, 1, key="poke_x", help=labels.Latents.across)
        y = controls.slider(second, "y", 0, height - 1, height // 2, 1, key="poke_y", help=labels.Latents.down)
        place = (y, x)
    with on_latent:
        cells(
            one.latents[0], key="cells", limit=EPS_RANGE, amount=amount, channel=channel - 1, place=place,
            on_touch=touched,
        )  # fmt: skip
    changed = latent_views.poked(one.latents, channel - 1, amount, place)
    with result, page.progress(labels.DECODING) as tell:
        after = latent_views.decode(name, changed, tell)
    change = after - one.decoded
    at = labels.Latents.everywhere if place is None else labels.Latents.at.format(x=x, y=y)
    what = labels.Latents.what.format(amount=amount, channel=channel, at=at)
    note = labels.Latents.changed.format(
        what=what, share=float((change.abs().amax(1) > SEEN).float().mean()), seen=SEEN
    )
    if place is not None and amount:
        times = side // width
        own = (times * y, times * (y + 1), times * x, times * (x + 1))
        inside = Reach(one.decoded[0], after[0], change.abs().mean(1)[0], own).inside
        note += f" {labels.Latents.inside.format(inside=inside, times=times)}"
    with result:
        page.gallery(
            [
                (title, alt, png(pixels(shown, limit)[0]))
                for title, alt, shown, limit in (
                    (labels.Latents.picture, labels.Latents.picture_alt.format(named=named), one.x_0, None),
                    (labels.Latents.decoded.format(psnr=one.psnr), labels.Latents.decoded_alt, one.decoded, None),
                    (
                        labels.Latents.error.format(error_range=ERROR_RANGE),
                        labels.Latents.error_alt,
                        (one.decoded - one.x_0).mean(1, keepdim=True),
                        ERROR_RANGE,
                    ),
                    (labels.Latents.after, labels.Latents.after_alt.format(what=what), after, None),
                    (
                        labels.Latents.change.format(error_range=ERROR_RANGE),
                        labels.Latents.change_alt,
                        change.mean(1, keepdim=True),
                        ERROR_RANGE,
                    ),
                )
            ],
            note=note,
        )
    page.colour_scale(EPS_RANGE, labels.Latents.values)
    st.caption(
        labels.Latents.sizes.format(
            side=side,
            values=one.x_0.numel(),
            height=height,
            width=width,
            channels=channels,
            latent_values=one.latents.numel(),
            times=one.x_0.numel() / one.latents.numel(),
        )
    )

# -- mix ----------------------------------------------------------------------------------------------------

st.header(labels.Latents.mix, anchor=False)
choose, show = st.columns([1, 2.7], gap="large")
with choose:
    of_other = emoji.pick(labels.Latents.other, "other", "rocket")
other = encode(" ".join(of_other), emoji.emoji(*of_other))
with show:
    with page.progress(labels.DECODING) as tell:
        mixed = latent_views.mixed(name, one, other, tell)
    scrubber(mixed, key="mixed", frame=latent_views.MIXES // 2)

# -- the cost -----------------------------------------------------------------------------------------------

st.header(labels.Latents.saves, anchor=False)
ours = labels.Latents.micro if name == stable.MICRO else labels.Latents.stand_in
rows = [f"| **{what}** | {small} | {large} |" for what, small, large in latent_views.table(name)]
st.markdown("\n".join([labels.Latents.head.format(ours=ours), "|---|---|---|", *rows]))
st.caption(labels.Latents.counted.format(others=latent_views.others()))

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
