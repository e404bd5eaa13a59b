"""Masks for inpainting, [H, W], 1 where to paint anew: a rectangle, or a picture that is white there."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_explained.data.pictures import load_image, picture_size


def rectangle_mask(height: int, width: int, across: tuple[float, float], down: tuple[float, float]) -> Tensor:
    """1 within the rectangle from across[0] to across[1] of the width and down[0] to down[1] of the height."""
    mask = torch.zeros(height, width, dtype=torch.float32, device="cpu")
    top, bottom = (round(share * height) for share in down)
    left, right = (round(share * width) for share in across)
    mask[top:bottom, left:right] = 1
    return mask


def load_mask(file: bytes, image: bytes, height: int, width: int) -> Tensor:
    """A mask from a picture file that is white where to paint anew, for the picture `image`.

    One that is as large as that file is fitted to (height, width) in the same way; any other keeps its own size, and
    `prepare` refuses it where that is not the picture's. Raises ValueError as `data.pictures.load_image` does.
    """
    size = picture_size(file)
    if size == picture_size(image):
        size = (height, width)
    return (load_image(file, size, 1)[0, 0] + 1) / 2
