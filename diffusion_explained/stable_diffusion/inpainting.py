"""Inpainting with a network that was not trained for it: by replacement, or by resampling (RePaint).

Replacement: at each level the known region holds the picture, noised to it with the noise that the run started from,

    x_t <- mask * x_t + (1 - mask) * (alpha * z + sigma * eps)      (RePaint's idea, Sec. 4.1, in latents; as diffusers)

and there the prediction is replaced by the known values. `KnownRegion` is a `Denoiser` that wraps a `Denoiser`, so
every sampler can inpaint. Resampling goes back and denoises each level several times, so that the two parts can fit
each other: `repainted`, by `inverse.repaint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import check_options
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.forward import add_noise
from diffusion_explained.inverse import repaint
from diffusion_explained.messages import shortened
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.latents import Known, Start


@dataclass(frozen=True)
class KnownRegion:
    """A denoiser whose prediction is the known picture where the mask is 0, and the network's where it is 1.

    x_t and the predictions are [B, C, h, w].
    """

    denoise: Denoiser
    known: Known

    @torch.no_grad()
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        known = self.known
        if level != known.first:  # the first x_t comes from `start`; at full strength it is pure noise everywhere
            x_t = paste(x_t, add_noise(known.image_latents, known.eps, level), known.mask)
        pred = self.denoise(x_t, level)
        return replace(
            pred, x_0=paste(pred.x_0, known.image_latents, known.mask), eps=paste(pred.eps, known.eps, known.mask)
        )


def paste(painted: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """`painted` where the mask is 1, `kept` where it is 0: both [B, C, h, w], the mask [B, 1, h, w]."""
    return mask * painted + (1 - mask) * kept


SAMPLER = "ddpm"  # whose levels and steps RePaint takes


def repaints_with(sampler: str | None) -> str:
    """The sampler of a run with resamplings. Raises ValueError for another one, given by the user."""
    if sampler not in (None, SAMPLER):
        raise ValueError(
            f"resamplings are RePaint's, which takes the steps of DDPM: leave sampler out, or give "
            f"sampler={SAMPLER!r}; got {shortened(sampler)}."
        )
    return SAMPLER


def repainted(denoise: Denoiser, begun: Start, resamplings: int, **options: Any) -> Iterator[Step]:
    """RePaint from a start with a known region: each of its steps is taken `resamplings` times (`inverse.repaint`).

    Each time the known region is noised anew; between two times x_t goes back by a step of the forward process
    (Lugmayr et al. 2022, Algorithm 1). A step costs `resamplings` network evaluations, the last step one.

    Raises ValueError for a start without a known region, for options of another sampler, and for less than one time.
    """
    check_options("a run with resamplings", options, ())
    if begun.known is None:
        raise ValueError(
            "resamplings need a picture with a known part, image= and mask=, and a network that was not trained to "
            "inpaint: leave resamplings out."
        )
    plain = denoise.denoise if isinstance(denoise, KnownRegion) else denoise
    return repaint(
        plain, begun.x_t, begun.levels, known=begun.known.image_latents, mask=begun.known.mask,
        resamplings=resamplings, generator=begun.streams,
    )  # fmt: skip
