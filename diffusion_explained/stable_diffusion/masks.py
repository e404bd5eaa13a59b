"""Masks for inpainting, [H, W], 1 where to paint anew: a rectangle, or a picture that is white there."""

from __future__ import annotations

import numpy as np
import torch
from PIL import ImageChops, ImageOps
from torch import Tensor

from diffusion_explained.data.pictures import File, Say, decode, fitted, picture_size

COLOURED = 64  # of 255 between the largest and the smallest channel: a mask has no colours
GREYS = (64, 191)  # of 255: in between, ink on a transparent ground is neither black nor white
FEW = 0.01  # of the visible pixels, that may be coloured: what JPEG does at edges
SOFT = 0.1  # of the visible pixels, that may be grey beside transparent ones: the rim of a brush


def rectangle_mask(height: int, width: int, across: tuple[float, float], down: tuple[float, float]) -> Tensor:
    """1 within the rectangle from across[0] to across[1] of the width and down[0] to down[1] of the height."""
    mask = torch.zeros(height, width, dtype=torch.float32, device="cpu")
    top, bottom = (round(share * height) for share in down)
    left, right = (round(share * width) for share in across)
    mask[top:bottom, left:right] = 1
    return mask


def load_mask(
    file: File, image: File, height: int, width: int, *, invert: bool = False, say: Say | None = None
) -> Tensor:
    """A mask [height, width] in [0, 1] from a picture file: 1 where it is white, which is to be painted anew.

    What is black is kept, and so is what is transparent: white ink on a transparent ground is as good as white ink on
    black. Grey counts as white from a half on. Programs differ here (to some, what is transparent is to be painted
    anew), so a mask whose visible part is neither black nor white is refused, and so is one without anything white.

    Args:
        file: the mask, of the picture's shape or the run's; it is fitted to height and width as the picture is.
        image: the file of the picture to paint in.
        invert: the mask is black where to paint anew. What is transparent is kept all the same.
        say: called with one sentence for everything that was done to the mask, and for how much is painted anew.

    Raises ValueError for a mask of another shape, a coloured one, one that marks nothing, and as
    `data.pictures.load_image` does; OSError where a path cannot be read.
    """
    say = say or (lambda sentence: None)
    mask, own = decode(file, max(height, width), lambda sentence: say(sentence.replace("The picture", "The mask")))
    down, across = picture_size(image)
    if own[0] * down != own[1] * across and own != (width, height):
        raise ValueError(
            f"The mask must be as large as the picture, {across} x {down} pixels, or of its shape; it is "
            f"{own[0]} x {own[1]}. Draw it on a copy of the picture."
        )
    marked = "black" if invert else "white"
    marks = f"Give a mask without colours, {marked} where to paint anew and {'white' if invert else 'black'} elsewhere."
    mask = mask.convert("RGBA")
    grey, alpha = mask.convert("L"), mask.getchannel("A")
    _check(np.asarray(mask), np.asarray(grey), marks)
    painted = ImageChops.multiply(ImageOps.invert(grey) if invert else grey, alpha)
    values = torch.from_numpy(np.array(fitted(painted, own, height, width), dtype=np.float32) / 255)
    share = float((values >= 0.5).float().mean())
    if share == 0:
        raise ValueError(
            f"Nothing of the mask is {marked}, so nothing would be painted anew. {marks} A mask that means "
            "it the other way round can be inverted."
        )
    ground = " Its transparent parts are kept." if np.asarray(alpha).min() < 128 else ""
    say(f"{_percent(share)} of the picture is painted anew, where the mask is {marked}.{ground}")
    return values


def _check(mask: np.ndarray, grey: np.ndarray, marks: str) -> None:
    """ValueError for a mask [H, W, 4] that is coloured, or has holes and shades, as a photograph has."""
    visible = mask[mask[..., 3] >= 128]
    if not len(visible):
        raise ValueError(f"The mask is transparent everywhere. {marks}")
    coloured = float((np.ptp(visible[:, :3], axis=1) > COLOURED).mean())
    if coloured > FEW:
        raise ValueError(f"The mask is coloured: {_percent(coloured)} of what is visible of it. {marks}")
    shades = grey[mask[..., 3] >= 128]
    soft = float(((shades > GREYS[0]) & (shades < GREYS[1])).mean())
    if len(visible) < mask[..., 3].size and soft > SOFT:
        raise ValueError(
            f"The mask is transparent in parts and grey in others ({_percent(soft)} of what is visible): "
            f"it is not clear which of the two is to be painted anew. {marks}"
        )


def _percent(share: float) -> str:
    return "less than 1%" if 0 < share < 0.01 else f"{share:.0%}"
