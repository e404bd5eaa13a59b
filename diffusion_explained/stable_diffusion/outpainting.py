"""Outpainting: zoom out of a picture, and let the model paint what lies around it.

    outpaint(model, "a castle", picture, zoom=2.0, seed=0)      # [1, 3, H, W]: the picture at half its size, in more

The picture is scaled down to 1 / zoom of its sides and set in the middle of a canvas of the old size; inpainting paints
the rest. Around the known part the canvas continues its edge, because the encoder sees a little beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import check_image_range, image_batch, number, typed_arguments, whole
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.text import Text

MOST = 8.0  # the largest zoom


@typed_arguments
def zoomed_out(image: Tensor, zoom: float = 2.0, multiple: int = 8) -> tuple[Tensor, Tensor]:
    """The canvas [B, 3, H, W] with the smaller picture in its middle, and the mask [H, W], 1 around it.

    Args:
        image: [B, 3, H, W] or [3, H, W] in [-1, 1].
        zoom: H and W over the sides of the smaller picture, above 1 and at most 8.
        multiple: pixels per latent pixel; the smaller picture's sides and its place are multiples of it, so that the
            mask is exact in latents. Its sides are rounded to them.

    Raises ValueError for a zoom out of range, or one at which nothing remains of the picture, or nothing is painted.
    """
    image = image_batch("image", image[None] if image.ndim == 3 else image, 3)
    check_image_range(image, "image")
    number("zoom", zoom, f"a number above 1 and at most {MOST:g}", 1, MOST)
    multiple = whole("multiple", multiple, 1)
    height, width = image.shape[-2:]
    down, across = (multiple * round(side / zoom / multiple) for side in (height, width))
    if min(down, across) < multiple or height - down < 2 * multiple or width - across < 2 * multiple:
        raise ValueError(
            f"At zoom {zoom:g} the picture of {height} x {width} pixels becomes one of {down} x {across}: at least "
            f"{multiple} pixels of it, and of the margin on each side, must remain. Give another zoom, such as 2."
        )
    small = F.interpolate(image, size=(down, across), mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = ((whole_ - part) // (2 * multiple) * multiple for whole_, part in ((height, down), (width, across)))
    canvas = F.pad(small, (left, width - across - left, top, height - down - top), mode="replicate")
    mask = torch.ones(height, width, dtype=torch.float32, device="cpu")
    mask[top : top + down, left : left + across] = 0
    return canvas, mask


@typed_arguments
def outpaint(
    model: StableDiffusion,
    prompt: str | Sequence[str] | Text,
    image: Tensor,
    zoom: float = 2.0,
    **options: Any,
) -> Tensor:
    """Zoom out of a picture: it becomes 1 / zoom as large, and the model paints its surroundings; [B, 3, H, W].

    Args:
        prompt: of the whole picture.
        image, zoom: as for `zoomed_out`.
        options: of `StableDiffusion.sample`, such as seed, guidance_scale and resamplings.

    Raises ValueError as `zoomed_out` and `StableDiffusion.sample` do.
    """
    canvas, mask = zoomed_out(image, zoom, model.pixels)
    return model.sample(prompt, image=canvas, mask=mask, **options)
