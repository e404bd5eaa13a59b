"""Classifier-free guidance: combine a network's conditional and unconditional outputs into one output.

`denoisers.NetworkDenoiser` evaluates the network for both and calls `guide`; `exact` does so with its closed forms.
"""

import math

import torch
from torch import Tensor

from diffusion_explained.checks import float_data, number, same_shape
from diffusion_explained.messages import shortened

MAX_GUIDANCE_SCALE = 100.0  # far beyond any use: images are oversaturated from 10 or 20 on
MIDDLE = (0.2, 3.0)  # middle noise levels in sigma/alpha: the guidance_interval that benchmarks/quality.py measures


def guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, uncond + w * (cond - uncond).

    w = 1 turns guidance off and w = 0 is unconditional: the convention of Imagen, Eq. 2, and of Stable Diffusion. (The
    first paper, Ho & Salimans, Eq. 6, writes (1 + w') * cond - w' * uncond, so its w' is w - 1.)

    cond and uncond are outputs [B, ...] of the same shape. NaN in them carries over to the result: a sampler refuses
    it after the step. Raises ValueError for other shapes, and for a guidance scale out of range.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    check_guidance(guidance_scale)
    return uncond + guidance_scale * (cond - uncond)


def rescale_guided(guided: Tensor, cond: Tensor, guidance_rescale: float) -> Tensor:
    """Rescale the guided output towards the contrast of the conditional output (Lin et al. 2023, Eq. 15-16).

        guided * (1 - phi + phi * std(cond) / std(guided)),   with the standard deviations per image

    phi = guidance_rescale: 0 is off, 0.7 is the paper's choice. A constant output (std 0) is returned unchanged.
    Raises ValueError for images of a single number, which have no standard deviation.

    guided and cond are [B, ...]; NaN in them carries over to the result, as for `guide`.
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
    """Raise ValueError for a guidance scale, interval or rescale out of range."""
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
                f"guidance_interval must be (low, high) in sigma/alpha with 0 <= low < high; got {shortened(interval)}."
            )
    number("guidance_rescale", rescale, "from 0 (off) to 1", 0.0, 1.0)
