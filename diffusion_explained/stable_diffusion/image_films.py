"""The pictures of one image of a run: its predicted x_0 at each step, and heat maps over pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.palette import LIGHT, rgb
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.model import StableDiffusion

AT_ONCE = 4  # latents that are decoded in one batch
STRONGEST = 0.85  # how much of the picture the strongest attention covers


def decoded(
    model: StableDiffusion, steps: Sequence[Step], image: int, tell: Callable[[float], object] | None = None
) -> Tensor:
    """The predicted x_0 of one image at each step, as pictures [n, 3, H, W].

    tell: called with the share that is done, after each batch.
    """
    return decoded_latents(model, torch.stack([step.pred.x_0[image] for step in steps]), tell)


def decoded_latents(model: StableDiffusion, latents: Tensor, tell: Callable[[float], object] | None = None) -> Tensor:
    """Latents [n, C, h, w] as pictures [n, 3, H, W] on the CPU, a few at a time; tell: as for `decoded`."""
    pictures: list[Tensor] = []
    for batch in latents.split(AT_ONCE):
        pictures.append(model.decode(batch).cpu())
        if tell is not None:
            tell(AT_ONCE * len(pictures) / len(latents))
    return torch.cat(pictures)


def heat_over(heat: Tensor, pictures: Tensor) -> list[np.ndarray]:
    """Heat maps [n, h, w] in orange over pictures [n, 3, H, W] in grey: n of bytes [H, W, 4].

    The colour's strength goes from 0 to the largest value of all n maps.
    """
    grey = (pictures.mean(1).clamp(-1, 1) + 1) * 127.5
    colour = torch.tensor(rgb(LIGHT.noise), dtype=torch.float32, device="cpu")
    heat = F.interpolate(heat[:, None], tuple(pictures.shape[2:]), mode="bilinear", align_corners=False)[:, 0]
    cover = STRONGEST * (heat / heat.max().clamp_min(1e-9))[..., None]
    mixed = (1 - cover) * grey[..., None] + cover * colour
    opaque = torch.cat([mixed, torch.full_like(mixed[..., :1], 255)], dim=-1)
    return list(opaque.round().numpy().astype(np.uint8))
