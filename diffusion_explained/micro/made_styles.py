"""Styles that are made from emoji by a rule, so that no model has seen them: outlines, and blocks of one colour.

    pictures = MADE["ink"](on_white(emoji.images[:5]))          # to teach a LoRA (`micro.lora`)

Both take and return pictures [N, 3, H, W] in [-1, 1].
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments

BLOCKS = 16  # along a side of a mosaic


@typed_arguments
def ink(images: Tensor) -> Tensor:
    """Outlines: dark where a blurred picture's lightness changes, white elsewhere. [N, 3, H, W] to [N, 3, H, W].

    Raises ValueError for another shape.
    """
    grey = F.avg_pool2d(image_batch("images", images, 3).mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    lines = (4 * (dx.square() + dy.square()).sqrt()).clamp(0, 1)
    return (1 - 2 * lines).expand_as(images)


@typed_arguments
def mosaic(images: Tensor) -> Tensor:
    """16 x 16 blocks of one colour each. [N, 3, H, W] to [N, 3, H, W]. Raises ValueError for another shape."""
    blocks = F.adaptive_avg_pool2d(image_batch("images", images, 3), BLOCKS)
    return F.interpolate(blocks, images.shape[-2:], mode="nearest")


MADE: dict[str, Callable[[Tensor], Tensor]] = {"ink": ink, "mosaic": mosaic}
