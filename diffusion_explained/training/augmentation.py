"""Random augmentations that keep an image's class, drawn for each image of a batch and applied on its device.

The random numbers are drawn on the CPU, so that a seed gives the same augmentations on every device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments, whole

PADDINGS = ("black", "reflect")


@typed_arguments
def shift_randomly(x: Tensor, max_shift: int, generator: torch.Generator, padding: str = "black") -> Tensor:
    """Shift each image [B, C, H, W] by a random whole number of pixels, at most max_shift in each direction.

    The uncovered edges are filled with black (-1), or with padding "reflect" by reflecting the image.
    Raises ValueError for another padding, and for a max_shift that the image is too small for.
    """
    batch_size, _, height, width = image_batch("x", x).shape
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}; got {padding!r}.")
    max_shift = whole("max_shift", max_shift, 0, min(height, width) - 1)
    if max_shift == 0:
        return x
    margins = [max_shift] * 4
    padded = F.pad(x, margins, mode="reflect") if padding == "reflect" else F.pad(x, margins, value=-1.0)
    top, left = torch.randint(
        2 * max_shift + 1, (2, batch_size), generator=generator, device="cpu", dtype=torch.int64
    ).to(x.device)
    rows = (top[:, None] + torch.arange(height, device=x.device, dtype=torch.int64))[:, :, None]  # [B, H, 1]
    columns = (left[:, None] + torch.arange(width, device=x.device, dtype=torch.int64))[:, None, :]  # [B, 1, W]
    images = torch.arange(batch_size, device=x.device, dtype=torch.int64)[:, None, None]  # [B, 1, 1]
    return padded.permute(0, 2, 3, 1)[images, rows, columns].permute(0, 3, 1, 2).contiguous()


@typed_arguments
def flip_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image [B, C, H, W] left to right with probability 1/2."""
    image_batch("x", x)
    flipped = (torch.rand(len(x), generator=generator, device="cpu", dtype=torch.float32) < 0.5).to(x.device)
    return torch.where(flipped[:, None, None, None], x.flip(-1), x)


@typed_arguments
def cut_out_randomly(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cover each image [B, C, H, W] with a grey (0) square of size x size pixels at a random place; size 0: none.

    Cutout (DeVries & Taylor 2017), so that a classifier does not rely on one part of an object alone.

    Raises ValueError for a size larger than the image.
    """
    batch_size, _, height, width = image_batch("x", x).shape
    size = whole("size, a cutout's side in pixels,", size, 0, min(height, width))
    if size == 0:
        return x
    top = torch.randint(height - size + 1, (batch_size, 1), generator=generator, device="cpu", dtype=torch.int64).to(
        x.device
    )
    left = torch.randint(width - size + 1, (batch_size, 1), generator=generator, device="cpu", dtype=torch.int64).to(
        x.device
    )
    rows, columns = (
        torch.arange(height, device=x.device, dtype=torch.int64),
        torch.arange(width, device=x.device, dtype=torch.int64),
    )
    in_rows = (rows >= top) & (rows < top + size)  # [B, H]
    in_columns = (columns >= left) & (columns < left + size)  # [B, W]
    return x.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
