"""Explore the space of latents: interpolate between two pictures, and change a single latent pixel.

z_mid = torch.lerp(z_a, z_b, 0.5)                      # interpolates between the latents of pictures
x_mid = slerp(x_a, x_b, 0.5)                           # interpolates between noises, which lie near a sphere
touched = reach(model, z, row=8, column=8)             # which pixels one latent pixel changes, and by how much
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, check_kind_of, float_data, number, same_shape, whole
from diffusion_explained.devices import to_float64
from diffusion_explained.stable_diffusion.model import StableDiffusion


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation, each of [B, ...] on its own great circle (Shoemake 1985; DDIM, App. D.5).

        sin((1 - share) angle) / sin(angle) a + sin(share angle) / sin(angle) b

    Between two independent noises, which are nearly orthogonal, the variance stays 1; with linear interpolation it
    falls to a half. Parallel tensors are interpolated linearly. Raises ValueError for shapes that differ, and for NaN.
    """
    same_shape("both ends", float_data("a", a), float_data("b", b))
    if a.ndim < 2 or len(a) == 0:
        raise ValueError(f"both ends must be [B, ...] with B of 1 or more; got {list(a.shape)}.")
    for end, what in ((a, "tensors at the first end"), (b, "tensors at the second end")):
        check_finite(end, what, "give finite numbers")
    share = number("share", share, "a number, 0 at the first end and 1 at the second")
    b = b.to(a.dtype)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b).clamp(-1, 1)
    angle = to_float64(cosine).acos().reshape(-1, *[1] * (a.ndim - 1)).to(dtype=a.dtype).to(a.device)
    sine = angle.sin()
    bent = sine > 1e-4
    around = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / sine.where(bent, 1.0)
    return torch.where(bent, around, torch.lerp(a, b, share))


@dataclass(frozen=True)
class Reach:
    """The effect of changing one latent pixel: pictures before and after [3, H, W], moved [H, W] = mean |change|.

    own: the 8 x 8 pixels that the latent pixel covers, as (top, bottom, left, right), without bottom and right.
    """

    before: Tensor
    after: Tensor
    moved: Tensor
    own: tuple[int, int, int, int]

    @property
    def inside(self) -> float:
        """The share of all change that lies within the latent pixel's own pixels."""
        top, bottom, left, right = self.own
        return float(self.moved[top:bottom, left:right].sum() / self.moved.sum().clamp(min=1e-12))

    def box(self, share: float = 0.95) -> tuple[int, int, int, int]:
        """The smallest square around `own`, cut at the edges, that contains `share` of all change; format as `own`."""
        share = number("share", share, "a share of the change, from 0 to 1", 0, 1)
        height, width = self.moved.shape
        top, bottom, left, right = self.own
        for margin in range(max(height, width) + 1):
            box = (
                max(0, top - margin),
                min(height, bottom + margin),
                max(0, left - margin),
                min(width, right + margin),
            )
            inside = self.moved[box[0] : box[1], box[2] : box[3]].sum()
            if inside >= share * self.moved.sum():
                return box
        return (0, height, 0, width)


def poke(latents: Tensor, row: int, column: int, channel: int | None = None, by: float = 1.0) -> Tensor:
    """Latents [B, C, h, w] with `by` added to one pixel, in one channel or in all.

    Raises ValueError for a pixel or channel outside the latents, and for latents or a `by` that are not finite.
    """
    if float_data("latents", latents).ndim != 4:
        raise ValueError(f"latents must be [B, C, h, w]; got {list(latents.shape)}.")
    check_finite(latents, "latents", "give finite numbers")
    _, channels, height, width = latents.shape
    row, column = (whole(what, value, 0) for what, value in (("row", row), ("column", column)))
    by = number("by", by, "a finite number, in standard deviations of latents")
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"latent pixel ({row}, {column}) is outside of {height} x {width}, counted from 0.")
    if channel is not None and whole("channel", channel, 0) >= channels:
        raise ValueError(f"channel {channel} is not one of the {channels} channels, counted from 0.")
    poked = latents.clone()
    poked[:, slice(None) if channel is None else channel, row, column] += by
    return poked


def reach(
    model: StableDiffusion, latents: Tensor, row: int, column: int, channel: int | None = None, by: float = 1.0
) -> Reach:
    """Decode one picture's latents [1, C, h, w], unchanged and with one pixel changed by `poke`, and compare them.

    Raises ValueError for more than one picture, or a pixel that does not exist.
    """
    check_kind_of("model", model, StableDiffusion)
    if float_data("latents", latents).ndim != 4 or len(latents) != 1:
        raise ValueError(f"latents must be of one picture, [1, C, h, w]; got {tuple(latents.shape)}.")
    before, after = model.decode(torch.cat([latents, poke(latents, row, column, channel, by)])).cpu()
    side = model.pixels
    own = (side * row, side * (row + 1), side * column, side * (column + 1))
    return Reach(before, after, (after - before).abs().mean(0), own)
