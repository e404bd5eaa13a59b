"""Visitors' own pictures and masks: each file is decoded once, however often the page runs, and one at a time."""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor

from diffusion_explained.data import load_image
from diffusion_explained.data.pictures import Say
from diffusion_explained.stable_diffusion.masks import load_mask
from explorer import page
from explorer.cache import named_cache
from explorer.turns import LIGHT, Tell


@dataclass(frozen=True, eq=False)
class Upload:
    """A decoded file: its tensor and sentences about what was done to it, or the reason why it cannot be used."""

    tensor: Tensor | None
    said: tuple[str, ...]
    complaint: str = ""


def own_image(
    file: bytes, size: int | tuple[int, int], channels: int, *, invert: bool = False
) -> tuple[Tensor, tuple[str, ...]]:
    """The result of `load_image`, and what it said. Raises ValueError where `load_image` does."""
    asked = ("image", digest(file), size, channels, invert)
    return _once(asked, lambda say: load_image(file, size, channels, invert=invert, say=say))


def own_mask(
    file: bytes, image: bytes, height: int, width: int, *, invert: bool = False
) -> tuple[Tensor, tuple[str, ...]]:
    """The result of `load_mask`, and what it said. Raises ValueError where `load_mask` does."""
    asked = ("mask", digest(file), digest(image), height, width, invert)
    return _once(asked, lambda say: load_mask(file, image, height, width, invert=invert, say=say))


def digest(file: bytes) -> str:
    """The SHA-256 of a file's content, its key in the cache."""
    return hashlib.sha256(file).hexdigest()


def _once(asked: Hashable, read: Callable[[Say], Tensor]) -> tuple[Tensor, tuple[str, ...]]:
    def make(tell: Tell) -> Upload:
        said: list[str] = []
        try:
            with LIGHT.turn(tell):  # so that the pictures of a whole class are not in memory at once
                return Upload(read(said.append), tuple(said))
        except ValueError as error:
            return Upload(None, (), str(error))

    with page.progress("Reading the picture") as tell:
        upload = named_cache("uploads", 64).get(asked, make, tell)
    if upload.tensor is None:
        raise ValueError(upload.complaint)
    return upload.tensor, upload.said
