"""Masks for inpainting, [H, W], 1 where to paint anew: from a rectangle, or from a picture that is white there."""

from __future__ import annotations

import numpy as np
import torch
from PIL import ImageChops, ImageOps
from torch import Tensor

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.data.pictures import File, Say, decode, fitted, picture_size

MOST_SIDE = 16_384  # pixels
COLOURED = 64  # of 255: a pixel whose largest and smallest channel differ by more is coloured
GREYS = (64, 191)  # of 255: a value in between, on a transparent ground, is neither black nor white
FEW = 0.01  # the share of visible pixels that may be coloured: JPEG colours edges
SOFT = 0.1  # the share of visible pixels that may be grey beside transparent ones: the soft rim of a brush


@typed_arguments
def rectangle_mask(height: int, width: int, across: tuple[float, float], down: tuple[float, float]) -> Tensor:
    """A mask [height, width], 1 from across[0] to across[1] of the width and down[0] to down[1] of the height.

    Raises ValueError for shares that do not rise within 0 to 1, and for a rectangle without a pixel.
    """
    height, width = whole("height", height, 1, MOST_SIDE), whole("width", width, 1, MOST_SIDE)
    for name, (first, last) in (("across", across), ("down", down)):
        if not 0 <= first < last <= 1:
            raise ValueError(f"{name} must be two shares of the side, 0 <= first < last <= 1; got {first} and {last}.")
    mask = torch.zeros(height, width, dtype=torch.float32, device="cpu")
    top, bottom = (round(share * height) for share in down)
    left, right = (round(share * width) for share in across)
    mask[top:bottom, left:right] = 1
    if not bool(mask.any()):
        raise ValueError(f"The rectangle holds no pixel of {width} x {height}: make it larger.")
    return mask


@typed_arguments
def load_mask(
    file: File, image: File, height: int, width: int, *, invert: bool = False, say: Say | None = None
) -> Tensor:
    """Read a mask [height, width] in [0, 1] from a picture file: 1 where the file is white, which is painted anew.

    Black parts are kept, and so are transparent parts: white on transparent means the same as white on black. Grey
    counts as white from 0.5 on. Programs differ in this (some paint transparent parts anew), so a mask whose visible
    part is neither black nor white is refused, and so is a mask without any white.

    Args:
        file: the mask, with the shape of the picture or of the run; it is fitted to height and width like the picture.
        image: the file of the picture to inpaint.
        invert: the mask is black where to paint anew. Transparent parts are still kept.
        say: called with one sentence for each change to the mask, and for the share that is painted anew.

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
            f"Nothing of the mask is {marked}, so nothing would be painted anew. {marks} A mask with the opposite "
            "meaning can be inverted."
        )
    ground = " Its transparent parts are kept." if np.asarray(alpha).min() < 128 else ""
    say(f"{_percent(share)} of the picture is painted anew, where the mask is {marked}.{ground}")
    return values


def _check(mask: np.ndarray, grey: np.ndarray, marks: str) -> None:
    """Raise ValueError for a mask [H, W, 4] that is coloured, or that has transparent parts and greys."""
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
