"""What the page on latents computes: a picture encoded and decoded, a latent changed, two pictures mixed, costs."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.film import Film, film, pixels
from diffusion_explained.micro.reconstruction import psnr
from diffusion_explained.stable_diffusion.compression import PUBLISHED, Compression, compression_of
from diffusion_explained.stable_diffusion.latent_space import poke
from explorer import stable
from explorer.cache import named_cache, quiet
from explorer.turns import HEAVY, Tell

MIXES = 13  # frames from one picture to the other
AT_ONCE = 4  # pictures decoded in one batch


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture x_0 [1, 3, H, W], its latents [1, C, h, w], and what the decoder gives back.

    key: identifies the picture; model, label: the name and label of the model that encoded it.
    """

    key: str
    model: str
    label: str
    x_0: Tensor
    latents: Tensor
    decoded: Tensor

    @property
    def psnr(self) -> float:
        """The reconstruction's peak signal-to-noise ratio, in dB."""
        return float(psnr(self.decoded, self.x_0))


def encoded(name: str, key: str, x_0: Tensor, tell: Tell) -> Encoded:
    """Encode and decode a picture with a model, which is loaded first if necessary."""

    def make(tell: Tell) -> Encoded:
        model = stable.load(stable.models(), name, tell).model
        with HEAVY.turn(tell):
            latents = model.encode(x_0).cpu()
            return Encoded(key, model.name, model.label, x_0, latents, model.decode(latents).cpu())

    return named_cache("encoded").get((name, key), make, tell)


def poked(latents: Tensor, channel: int, amount: float, place: tuple[int, int] | None) -> Tensor:
    """Latents [1, C, h, w] with `amount` added to one channel: at one place (row, column), or everywhere."""
    if place is not None:
        return poke(latents, *place, channel, amount)
    changed = latents.clone()
    changed[:, channel] += amount
    return changed


def decode(name: str, latents: Tensor, tell: Tell) -> Tensor:
    """Decode latents [B, C, h, w] to pictures on the CPU."""
    model = stable.load(stable.models(), name, tell).model
    pictures = []
    with HEAVY.turn(tell) as turn:
        for batch in latents.split(AT_ONCE):
            pictures.append(model.decode(batch).cpu())
            turn(sum(map(len, pictures)) / len(latents))
    return torch.cat(pictures)


def mixed(name: str, one: Encoded, other: Encoded, tell: Tell) -> Film:
    """A film from one picture to another: their pixels mixed, and their latents mixed and then decoded."""

    def make(tell: Tell) -> Film:
        shares = torch.linspace(0, 1, MIXES)[:, None, None, None]
        as_pixels = (1 - shares) * one.x_0 + shares * other.x_0
        as_latents = decode(name, (1 - shares) * one.latents + shares * other.latents, tell)
        captions = [f"{1 - share:.0%} of the first, {share:.0%} of the second" for share in shares.flatten().tolist()]
        panels = [
            ("mixed as pixels", "the weighted mean of the two pictures", list(pixels(as_pixels))),
            ("mixed as latents, decoded", "the decoded weighted mean of the two latents", list(pixels(as_latents))),
        ]
        return film(panels, captions)

    return named_cache("mixed").get((name, one.key, other.key), make, tell)


# -- the cost -----------------------------------------------------------------------------------------------


@st.cache_data(show_spinner="Counting the work of Stable Diffusion")
def published() -> dict[str, tuple[int, ...]]:
    """Part -> parameters and FLOP of Stable Diffusion 1.5, from its configuration."""
    from diffusion_explained.stable_diffusion.costs import published_parameters, published_work

    work, counted = published_work(), published_parameters()
    return {part: (counted.get(part, 0), work[part].total if part in work else 0) for part in {*counted, *work}}


@dataclass(frozen=True)
class Cost:
    """Sizes and work of a loaded model: its latents, tokens, parameters, and the FLOP of one pass of U-Net and "
    "decoder."""

    sizes: Compression
    tokens: int
    parameters: dict[str, int]
    unet: int
    decoder: int


@st.cache_resource(show_spinner="Counting the work of the model")
def cost_of(name: str) -> Cost:
    """The cost of a model, for one picture of its training size."""
    from diffusion_explained.stable_diffusion.costs import count_work

    model = stable.load(stable.models(), name, quiet).model
    text, z = model.encode_text(""), torch.zeros(1, *model.latent_shape())
    unet = count_work(lambda: model.network(z, torch.ones(1), text.embeds)).total
    decoder = count_work(lambda: model.pipe.vae.decode(z)).total
    return Cost(compression_of(model), len(text.tokens[0][0].ids), model.parameters(), unet, decoder)


def table(name: str) -> list[tuple[str, str, str]]:
    """Rows of (quantity, ours, Stable Diffusion 1.5): sizes from the configurations, work counted from the shapes."""
    ours, theirs, large = cost_of(name), published(), PUBLISHED[0]
    counted = ours.parameters

    def millions(count: float) -> str:
        return f"{count / 1e6:,.3g} M parameters"

    def work(flops: float) -> str:
        return f"{flops / 1e12:,.3g} TFLOP" if flops >= 1e12 else f"{flops / 1e9:,.3g} GFLOP"

    def both(of: Callable[[Compression], str]) -> tuple[str, str]:
        return of(ours.sizes), of(large)

    return [
        ("the picture", *both(lambda one: f"{one.side} × {one.side} × 3 = {one.picture_values:,} values")),
        ("its latent", *both(lambda one: f"{one.latent_side} × {one.latent_side} × {one.channels} = "
                                         f"{one.latent_values:,} values")),
        ("times fewer", *both(lambda one: f"**{one.times:.0f}**")),
        ("autoencoder", millions(counted["vae"]), millions(theirs["autoencoder"][0])),
        ("U-Net", millions(counted["unet"]), millions(theirs["U-Net"][0])),
        ("text encoder", f"{millions(counted['text_encoder'])}, {ours.tokens} tokens",
         f"{millions(theirs['text encoder'][0])}, 77 tokens"),
        ("one pass of the U-Net", work(ours.unet), work(theirs["U-Net"][1])),
        ("the same pass on pixels", "–", work(theirs["U-Net on pixels"][1])),
        ("decoding, once", work(ours.decoder), work(theirs["decoder"][1])),
    ]  # fmt: skip


def others() -> str:
    """The other published sizes, in one sentence each."""
    return " ".join(
        f"{one.name}: {one.side} × {one.side} pixels, {one.channels} channels, {one.times:.0f} times fewer."
        for one in PUBLISHED[1:]
    )
