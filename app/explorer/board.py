"""A board in the page on which a visitor paints over a picture: in colours, or a hole to be painted anew."""

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import streamlit as st
import torch
from PIL import Image
from torch import Tensor

from diffusion_explained.film import pixels, png
from diffusion_explained.micro.drawing import SHADES
from diffusion_explained.micro.words import COLOURS

# the colours that micro has words for, in the shades of its training pictures; white is pure white
PAINTS = {name: "#ffffff" if name == "white" else SHADES[name][1] for name in COLOURS}
PREFIX = "data:image/png;base64,"
MOST_BYTES = 4 * 2**20


@st.cache_resource(show_spinner=False)
def _sources() -> tuple[str, str]:
    here = Path(__file__)
    return here.with_suffix(".js").read_text("utf-8"), here.with_suffix(".css").read_text("utf-8")


def board(
    image: Tensor,
    *,
    key: str,
    hole: bool = False,
    paints: Mapping[str, str] = PAINTS,
    brush: int | None = None,
    words: str = "The picture: paint on it",
) -> Tensor | None:
    """Show a picture [1, 3, H, W] in [-1, 1] to paint on. Return what was painted, RGBA [4, H, W] in [0, 1], or None.

    paints: name -> colour; brush: its width at first, in pixels; words: what the board is, for a screen reader.
    Another picture gets a new, empty board; leaving the page and returning keeps what was painted.
    Raises ValueError for data that no board sends.
    """
    js, css = _sources()
    component = st.components.v2.component("diffusion_explained_board", js=js, css=css)
    ground, (height, width) = png(pixels(image)[0]), image.shape[-2:]
    number = _number(ground, hole)
    before = _kept(key, number)
    data = {
        "picture": base64.b64encode(ground).decode(),
        "painted": before,
        "width": width,
        "height": height,
        "hole": hole,
        "paints": list(paints.items()),
        "brush": brush,
        "words": "The picture: brush over what is to be painted anew" if hole else words,
    }
    sent = component(
        data=data, key=f"{key}-{number}", default={"painted": None}, on_painted_change=lambda: None
    ).painted
    url = before if sent is None else sent  # a new board has sent nothing yet
    painted = read(url, height, width) if url else None
    st.session_state[f"{key}_kept"] = (number, url)
    return painted


def kept(key: str, image: Tensor) -> Tensor | None:
    """What was painted on the board `key` over a picture [1, 3, H, W], though it is not shown now; as `board` does."""
    url = _kept(key, _number(png(pixels(image)[0]), hole=False))
    return read(url, *image.shape[-2:]) if url else None


def _kept(key: str, number: str) -> str:
    of, url = st.session_state.get(f"{key}_kept", ("", ""))
    return url if of == number else ""


def _number(ground: bytes, hole: bool) -> str:
    return hashlib.sha256(ground + bytes([hole])).hexdigest()[:16]


def read(url: str, height: int, width: int) -> Tensor:
    """Decode what a board sent to RGBA [4, H, W] in [0, 1]. Raises ValueError for anything but a PNG of that size."""
    if not isinstance(url, str) or not url.startswith(PREFIX) or len(url) > MOST_BYTES:
        raise ValueError(f"What was painted must come as a PNG of at most {MOST_BYTES // 2**20} MB.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(url[len(PREFIX) :], validate=True)), formats=["PNG"]) as picture:
            if picture.size != (width, height):
                raise ValueError(
                    f"What was painted has {picture.size} pixels, the picture {(width, height)}: paint again."
                )
            array = np.asarray(picture.convert("RGBA"))
    except (OSError, binascii.Error, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"What was painted cannot be read: {error}.") from error
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def over(painted: Tensor, image: Tensor) -> Tensor:
    """Put what was painted, RGBA [4, H, W] in [0, 1], over a picture [1, 3, H, W] in [-1, 1]."""
    colours, alpha = 2 * painted[None, :3] - 1, painted[None, 3:]
    return alpha * colours + (1 - alpha) * image
