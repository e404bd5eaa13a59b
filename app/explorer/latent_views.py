"""What the page on latents computes: a picture encoded and decoded, a latent poked, two pictures mixed, the bill."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.film import Film, film, pixels
from diffusion_explained.micro.reconstruction import psnr
from explorer import stable
from explorer.jobs import Tell
from explorer.shelf import shelf

MIXES = 13  # frames from one picture to the other
AT_ONCE = 4  # pictures decoded in one batch


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture x_0 [1, 3, H, W], its latents [1, C, h, w], and what the decoder gives back.

    key: what tells it from others; model, label: whose latents they are.
    """

    key: str
    model: str
    label: str
    x_0: Tensor
    latents: Tensor
    decoded: Tensor

    @property
    def psnr(self) -> float:
        """How near the reconstruction is to the picture, in dB."""
        return float(psnr(self.decoded, self.x_0))


def encoded(name: str, key: str, x_0: Tensor, tell: Tell) -> Encoded:
    """A picture through the encoder and the decoder of a model, loaded if it is not yet."""

    def make() -> Encoded:
        model = stable.load(stable.models(), name, tell).model
        latents = model.encode(x_0).cpu()
        return Encoded(key, model.name, model.label, x_0, latents, model.decode(latents).cpu())

    return shelf("encoded", 32).get((name, key), make)


def poked(latents: Tensor, channel: int, amount: float, place: tuple[int, int] | None) -> Tensor:
    """Latents [1, C, h, w] with `amount` added to one channel: at one place (x, y), or everywhere."""
    changed = latents.clone()
    if place is None:
        changed[:, channel] += amount
    else:
        x, y = place
        changed[:, channel, y, x] += amount
    return changed


def decode(name: str, latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] as pictures on the CPU."""
    model = stable.load(stable.models(), name, lambda part, doing: None).model
    return torch.cat([model.decode(batch).cpu() for batch in latents.split(AT_ONCE)])


def mixed(name: str, one: Encoded, other: Encoded) -> Film:
    """From one picture to another: their pixels mixed, and their latents mixed and then decoded."""

    def make() -> Film:
        shares = torch.linspace(0, 1, MIXES)[:, None, None, None]
        as_pixels = (1 - shares) * one.x_0 + shares * other.x_0
        as_latents = decode(name, (1 - shares) * one.latents + shares * other.latents)
        captions = [f"{1 - share:.0%} of the first, {share:.0%} of the second" for share in shares.flatten().tolist()]
        panels = [
            ("mixed as pixels", "the weighted mean of the two pictures", list(pixels(as_pixels))),
            ("mixed as latents, decoded", "the decoded weighted mean of the two latents", list(pixels(as_latents))),
        ]
        return film(panels, captions)

    return shelf("mixed", 16).get((name, one.key, other.key), make)


def enlarged(field: Tensor, limit: float, times: int = 8) -> np.ndarray:
    """A signed field [h, w] as bytes [times h, times w, 4] on the diverging map."""
    return pixels(F.interpolate(field[None, None], scale_factor=times, mode="nearest"), limit)[0]


# -- the bill -----------------------------------------------------------------------------------------------


@st.cache_data(show_spinner="Counting what Stable Diffusion would do")
def published() -> dict[str, tuple[int, ...]]:
    """Parameters and FLOPs of Stable Diffusion 1.5 by part, from its configuration."""
    from diffusion_explained.stable_diffusion.costs import published_parameters, published_work

    work, counted = published_work(), published_parameters()
    return {part: (counted.get(part, 0), work[part].total if part in work else 0) for part in {*counted, *work}}


@st.cache_data(show_spinner="Counting what micro does")
def of_model(name: str) -> dict[str, object]:
    """The same of a model that is loaded here, and its sizes."""
    from diffusion_explained.stable_diffusion.costs import count_work

    model = stable.load(stable.models(), name, lambda part, doing: None).model
    side = stable.usual(stable.MICRO).side
    channels, height, width = model.latent_shape(side, side)
    text = model.encode_text("")
    z, t = torch.zeros(1, channels, height, width), torch.ones(1)
    return {
        "side": side,
        "latent": (channels, height, width),
        "tokens": len(text.tokens[0][0].ids),
        "parameters": model.parameters(),
        "U-Net": count_work(lambda: model.network(z, t, text.embeds)).total,
        "decoder": count_work(lambda: model.pipe.vae.decode(z)).total,
    }


def table(name: str) -> list[tuple[str, str, str]]:
    """(what, ours, Stable Diffusion 1.5): sizes from the configurations, work counted from the shapes."""
    ours, theirs = of_model(name), published()
    side, (channels, height, width) = ours["side"], ours["latent"]
    picture, latent = 3 * side * side, channels * height * width
    counted = ours["parameters"]

    def millions(count: float) -> str:
        return f"{count / 1e6:,.3g} M"

    def work(flops: float) -> str:
        return f"{flops / 1e12:,.3g} TFLOP" if flops >= 1e12 else f"{flops / 1e9:,.3g} GFLOP"

    return [
        ("the picture", f"{side} × {side} × 3 = {picture:,} values", "512 × 512 × 3 = 786,432 values"),
        ("its latent", f"{height} × {width} × {channels} = {latent:,} values", "64 × 64 × 4 = 16,384 values"),
        ("times fewer", f"**{picture / latent:.0f}**", "**48**"),
        ("autoencoder", f"{millions(counted['vae'])} parameters", f"{millions(theirs['autoencoder'][0])} parameters"),
        ("U-Net", f"{millions(counted['unet'])} parameters", f"{millions(theirs['U-Net'][0])} parameters"),
        ("text encoder", f"{millions(counted['text_encoder'])} parameters, {ours['tokens']} tokens",
         f"{millions(theirs['text encoder'][0])} parameters, 77 tokens"),
        ("one look of the U-Net", work(ours["U-Net"]), work(theirs["U-Net"][1])),
        ("the same look at pixels", "–", work(theirs["U-Net on pixels"][1])),
        ("decoding, once", work(ours["decoder"]), work(theirs["decoder"][1])),
    ]  # fmt: skip
