"""Inpainting with a network that was not trained for it: the known region is restored at every level.

At each level the known region holds the picture, noised to that level with the noise that the run started from,

    x_t <- mask * x_t + (1 - mask) * (alpha * z + sigma * eps)      (RePaint's idea, Sec. 4.1, in latents; as diffusers)

and there the prediction is replaced by the known values. `KnownRegion` is a `Denoiser` that wraps a `Denoiser`, so
every sampler can inpaint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.forward import add_noise
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.latents import Known


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
