"""Regional prompts: each part of the picture follows its own prompt, at every step.

    start = model.prepare(seed=0)
    denoise = regional(model, ["a cat on the left", "a dog on the right"], [left, right], start=start)
    model.sample(denoise, seed=0)

All prompts are denoised at the same x_t, and the predictions are mixed by masks M_k (MultiDiffusion, Bar-Tal et al.
2023, Eq. 5, whose windows are here the whole picture):

    D(x_t) = sum_k M_k D_k(x_t) / sum_k M_k

One prompt with two things may exchange their colours and places; of two prompts, neither can reach into the other's
region, and the attention of each still sees the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import all_of, check_finite, float_data, typed_arguments
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.inpainting import KnownRegion
from diffusion_explained.stable_diffusion.latents import Start
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.text import Text


@dataclass(frozen=True)
class RegionalDenoiser:
    """Several denoisers as one, each in its region.

    parts: K denoisers; shares: [K, 1, 1, h, w], which sum to 1 over K; of any shape that broadcasts to [K, B, ...].
    """

    parts: tuple[Denoiser, ...]
    shares: Tensor

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The mixed prediction at x_t [B, ...]: x_0 and eps of every side, sum_k share_k * part_k."""
        return self.mixed([part(x_t, level) for part in self.parts])

    def mixed(self, predictions: Sequence[Prediction]) -> Prediction:
        """Mix the predictions of all parts at one x_t [B, ...]."""

        def mix(of: Callable[[Prediction], Tensor]) -> Tensor:
            stacked = torch.stack([of(each) for each in predictions])
            return (self.shares.to(stacked) * stacked).sum(0)

        guided = all(each.eps_uncond is not None for each in predictions)
        return Prediction(
            mix(lambda each: each.x_0),
            mix(lambda each: each.eps),
            mix(lambda each: each.eps_cond),
            mix(lambda each: each.eps_uncond) if guided else None,  # type: ignore[arg-type, return-value]
        )


@typed_arguments
def regional(
    model: StableDiffusion,
    prompts: Sequence[str | Text],
    masks: Sequence[Tensor] | Tensor,
    guidance_scale: float | None = None,
    *,
    start: Start,
    negative: str | None = None,
    **options: Any,
) -> Denoiser:
    """The model as a `Denoiser` that follows a prompt of its own in each region, for `model.steps` and `model.sample`.

    Args:
        prompts: K of them: each a prompt for all images, or an encoded `Text` with one per image.
        masks: K of them, [H, W] as large as the picture (or [h, w] as its latents), from 0 to 1 where that prompt
            holds. They are averaged to the size of the latents and divided by their sum, so they may overlap.
        guidance_scale, options: of `StableDiffusion.denoiser`, for all regions.
        start: from `prepare`; the run needs the same seeds, picture and mask.
        negative: for all prompts that are not encoded yet.

    Raises ValueError for another number of masks, one of another size, and a place that no mask covers.
    """
    texts = [each if isinstance(each, Text) else model.encode_text(each, negative) for each in prompts]
    given = list(masks)
    if len(texts) < 1 or len(given) != len(texts):
        raise ValueError(f"There are {len(texts)} prompts and {len(given)} masks: give one mask per prompt.")
    height, width = start.x_t.shape[-2:]
    shares = torch.stack([_in_latents(mask, height, width, model.pixels) for mask in all_of("masks", given, Tensor)])
    total = shares.sum(0)
    if not bool((total > 0).all()):
        raise ValueError(
            f"No mask covers {float((total == 0).float().mean()):.0%} of the picture: give a prompt for it, such as "
            "one for the background with a mask that is 1 everywhere."
        )
    free = replace(start, known=None)  # the known region is restored once, after the mixture
    parts = tuple(model.denoiser(text, guidance_scale, start=free, **options) for text in texts)
    denoise = RegionalDenoiser(parts, (shares / total)[:, None, None].to(start.x_t.device))
    return denoise if start.known is None else KnownRegion(denoise, start.known)


def _in_latents(mask: Tensor, height: int, width: int, pixels: int) -> Tensor:
    """A mask [H, W] at the size of the latents [h, w]. Raises ValueError for another size and values outside 0 to 1."""
    mask = float_data("a mask", mask).detach().float().cpu()
    check_finite(mask, "masks", "give masks with values from 0 to 1")
    if tuple(mask.shape) not in ((height, width), (height * pixels, width * pixels)):
        raise ValueError(
            f"A mask must be as large as the picture, [{height * pixels}, {width * pixels}]; got {list(mask.shape)}."
        )
    if float(mask.min()) < 0 or float(mask.max()) > 1:
        raise ValueError(f"A mask has values from 0 to 1; got {float(mask.min()):.3g} to {float(mask.max()):.3g}.")
    return mask if tuple(mask.shape) == (height, width) else F.avg_pool2d(mask[None, None], pixels)[0, 0]
