"""Classifier-free guidance: a network's conditional and unconditional outputs become one output.

`denoisers.NetworkDenoiser` asks the network twice and calls `guide`; `exact` does the same with its closed forms.
"""

import math

import torch
from torch import Tensor

from diffusion_explained.checks import float_data, number, same_shape

MAX_GUIDANCE_SCALE = 100.0  # far beyond any use: pictures burn out from 10 or 20 on
MIDDLE = (0.2, 3.0)  # of the noise, in sigma/alpha: the guidance_interval that is measured in benchmarks/quality.py


def guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, uncond + w * (cond - uncond).

    w = 1 is off and w = 0 unconditional: the convention of Imagen, Eq. 2, and of Stable Diffusion. (The first paper,
    Ho & Salimans, Eq. 6, writes (1 + w') * cond - w' * uncond, so its w' is w - 1.)

    cond and uncond are outputs [B, ...] of one shape; ValueError for others, and for a scale that means nothing.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    check_guidance(guidance_scale)
    return uncond + guidance_scale * (cond - uncond)


def rescale_guided(guided: Tensor, cond: Tensor, guidance_rescale: float) -> Tensor:
    """Give the guided output back the contrast of the conditional one (Lin et al. 2023, Eq. 15-16).

        guided * (1 - phi + phi * std(cond) / std(guided)),   the standard deviations per image

    phi = guidance_rescale: 0 is off, 0.7 is the paper's choice. A flat output (std 0) has no contrast and is left as
    it is. Raises ValueError for images of a single number, which have no standard deviation.

    guided and cond are [B, ...].
    """
    same_shape("guided and cond", float_data("guided", guided), float_data("cond", cond))
    phi = number("guidance_rescale", guidance_rescale, "from 0 (off) to 1", 0, 1)
    if len(guided) == 0 or guided[0].numel() < 2:
        raise ValueError("guidance_rescale compares the contrasts of images, and an image of one number has none.")
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdim=True)
    flat = spread < 1e-12
    ratio = torch.where(flat, 1.0, cond.std(axes, keepdim=True) / torch.where(flat, 1.0, spread))
    return guided * (phi * ratio + (1 - phi))


def check_guidance(scale: float, interval: tuple[float, float] | None = None, rescale: float = 0.0) -> None:
    """Raise ValueError for a guidance scale, interval or rescale that means nothing."""
    number(
        "guidance_scale", scale, f"a finite number from 0 to {MAX_GUIDANCE_SCALE:g} (1 is off)", 0.0, MAX_GUIDANCE_SCALE
    )
    if interval is not None:
        try:
            low, high = (float(end) for end in interval)
        except (TypeError, ValueError):
            low = high = math.nan
        if not 0 <= low < high:
            raise ValueError(
                f"guidance_interval must be (low, high) in sigma/alpha with 0 <= low < high; got {interval!r}."
            )
    number("guidance_rescale", rescale, "from 0 (off) to 1", 0.0, 1.0)
