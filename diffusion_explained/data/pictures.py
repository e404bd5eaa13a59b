"""A user's own picture as x_0: refused before it is decoded if it is too large, and fitted to the network's size."""

from __future__ import annotations

import io
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from diffusion_explained.data.images import to_float

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
PHONE = "MPO"  # Pillow's name, found by its JPEG reader, for a telephone's .jpg: the photograph, then a depth map
MAX_BYTES = 20 * 2**20
DARK = 64  # of 255: ink below this is not seen on black
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
MAX_SIDE = 10_000  # pixels
ENOUGH = 2048  # pixels a side: larger pictures are shrunk to at least this before they are converted
MAX_PIXELS = 40_000_000  # 160 MB as RGBA: what a telephone takes fits, a decompression bomb does not


def load_image(
    file: str | PathLike[str] | bytes | BinaryIO,
    size: int | tuple[int, int],
    channels: int,
    *,
    fit: Literal["crop", "pad"] = "crop",
    invert: bool = False,
    say: Callable[[str], object] | None = None,
) -> Tensor:
    """A picture as x_0, float32 [1, channels, H, W] in [-1, 1].

    Args:
        file: a path, the bytes of a file, or a file open for reading bytes.
        size: the height and width to fit it to, or one number for a square.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: "crop" keeps the middle, "pad" keeps everything and fills up with black.
        invert: swap black and white, as for ink on paper where the network knows white digits on black.
        say: called with one sentence for everything that was done to the picture besides scaling it.

    Raises ValueError, with a message for the person who chose the picture, for what is no picture, is cut short,
    is over MAX_BYTES, or declares more than MAX_SIDE or MAX_PIXELS pixels (which is read from its header,
    before anything is decoded); OSError where a path cannot be read.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1 or channels not in (1, 3) or fit not in ("crop", "pad"):
        raise ValueError(
            f"size must be 1 or more, channels 1 or 3, fit 'crop' or 'pad'; got {size}, {channels}, {fit!r}"
        )
    say = say or (lambda sentence: None)
    with _opened(_read(file)) as image:
        if getattr(image, "is_animated", False) and image.format != PHONE:
            say(f"The picture is animated ({getattr(image, 'n_frames', 1)} frames): its first frame was taken.")
        own = image.size if _orientation(image) < 5 else image.size[::-1]
        image = _flattened(_upright(_shrunk(image, height, width), say), say)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.width * height != image.height * width:
        image = _reshaped(image, own, height / width, fit, say)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    if invert:
        image = ImageOps.invert(image)
        say("Black and white were swapped.")
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).reshape(1, height, width, channels)
    return to_float(pixels.permute(0, 3, 1, 2).contiguous())


def picture_size(file: str | PathLike[str] | bytes | BinaryIO) -> tuple[int, int]:
    """A picture's own height and width, after the turn that its EXIF asks for. Raises as `load_image` does."""
    with _opened(_read(file)) as image:
        size = image.height, image.width
        return size[::-1] if _orientation(image) >= 5 else size


def _read(file: str | PathLike[str] | bytes | BinaryIO) -> bytes:
    """The file's bytes, at most one more than is allowed."""
    if isinstance(file, str | PathLike):
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    else:
        data = file if isinstance(file, bytes) else file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"The file is larger than the {MAX_BYTES // 2**20} MB that are allowed; make it smaller.")
    if not data:
        raise ValueError("The file is empty.")
    return data


def _opened(data: bytes) -> Image.Image:
    """The picture, checked and decoded."""
    allowed = f"Allowed are {', '.join(FORMATS)}; export any other as PNG or JPEG."
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except UnidentifiedImageError:
        raise ValueError(f"The file is not a picture that can be read. {allowed}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"The picture declares far too many pixels: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The picture's header is damaged: {error}. {allowed}") from error
    if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"The picture is {image.width:,} x {image.height:,} pixels; allowed are {MAX_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in all. Make it smaller: it is scaled down to the network's size anyway."
        )
    try:
        image.load()
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"The picture is cut short or damaged: {error}.") from error
    return image


def _upright(image: Image.Image, say: Callable[[str], object]) -> Image.Image:
    """The picture turned as its EXIF orientation says that the camera was held."""
    turn = TURNS.get(_orientation(image))
    if turn is None:
        return image
    say("The picture was turned upright, as its camera noted.")
    return image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (upright) to 8; 1 where the EXIF data is missing or damaged."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # a parser of foreign bytes: struct.error, SyntaxError, ... and the pixels are sound
        return 1
    return orientation if orientation in TURNS else 1


def _shrunk(image: Image.Image, height: int, width: int) -> Image.Image:
    """A large picture reduced by a whole factor, so that converting it does not take several times its memory."""
    factor = min(image.width, image.height) // max(ENOUGH, 2 * height, 2 * width)
    if factor < 2 or image.mode in ("1", "P", "PA") or image.mode.startswith("I;"):  # indices have no mean
        return image
    orientation, reduced = _orientation(image), image.reduce(factor)
    reduced.info.pop("exif", None)
    reduced.getexif()[0x0112] = orientation
    return reduced


def _flattened(image: Image.Image, say: Callable[[str], object]) -> Image.Image:
    """8 bits a channel, and no transparency: laid on black, or on white where black would hide what is visible."""
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        say("16 bits of grey were reduced to 8.")
        return Image.fromarray((np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB")
    visible = image.convert("L").histogram(alpha.point(lambda value: 255 * (value > 0)))
    dark = sum(visible) > 0 and sum(visible[DARK:]) <= 0.01 * sum(visible)
    background = "white" if dark else "black"
    say(f"Transparent parts were laid on {background}{', because what is visible is dark' if dark else ''}.")
    ground = Image.new("RGB", image.size, background)
    ground.paste(image.convert("RGB"), mask=alpha)
    return ground


def _reshaped(
    image: Image.Image, own: tuple[int, int], ratio: float, fit: Literal["crop", "pad"], say: Callable[[str], object]
) -> Image.Image:
    """The picture at height / width = ratio, its middle kept or its sides filled up with black."""
    was = f"The picture is {own[0]} x {own[1]}, another shape than the network's: "
    taller = image.height > ratio * image.width
    if taller == (fit == "crop"):  # the width stays
        target = (image.width, max(1, round(image.width * ratio)))
    else:
        target = (max(1, round(image.height / ratio)), image.height)
    if fit == "crop":
        say(was + "its middle was kept.")
        left, top = (image.width - target[0]) // 2, (image.height - target[1]) // 2
        return image.crop((left, top, left + target[0], top + target[1]))
    say(was + "it was filled up with black.")
    return ImageOps.pad(image, target, Image.Resampling.LANCZOS, color=0)
