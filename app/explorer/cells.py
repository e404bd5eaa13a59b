"""The channels of a latent in the page, touched on their cells."""

import re
from collections.abc import Callable
from pathlib import Path

import streamlit as st
from torch import Tensor

from diffusion_explained.palette import DIVERGING

PLACE = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}", re.ASCII)


def cells(
    latents: Tensor, *, key: str, limit: float, amount: float, channel: int, place: tuple[int, int] | None,
    on_touch: Callable[[int, int, int], None],
) -> None:  # fmt: skip
    """Show latents [C, h, w], to one channel of which `amount` is added: at a place (row, column), or everywhere.

    limit: of the colour map; on_touch(channel, row, column): called before the page runs again after a touch.
    """
    here, (channels, height, width) = Path(__file__), latents.shape
    component = st.components.v2.component(
        "diffusion_explained_cells", js=here.with_suffix(".js").read_text("utf-8"),
        css=here.with_suffix(".css").read_text("utf-8"),
    )  # fmt: skip
    y, x = place or (height // 2, width // 2)
    data = {
        "channels": [[round(value, 3) for value in field.flatten().tolist()] for field in latents],
        "names": [f"channel {k}: {field.min():+.1f} to {field.max():+.1f}" for k, field in enumerate(latents, 1)],
        "width": width,
        "height": height,
        "limit": limit,
        "colours": DIVERGING,
        "amount": amount,
        "whole": place is None,
        "channel": channel,
        "x": x,
        "y": y,
    }

    def chosen() -> None:
        found = touched(getattr(st.session_state[key], "touched", None), channels, height, width)
        if found is not None:
            on_touch(*found)

    component(data=data, key=key, on_touched_change=chosen)


def touched(sent: object, channels: int, height: int, width: int) -> tuple[int, int, int] | None:
    """The channel, row and column of a touch "channel.x.y"; None for anything else: a client can send that."""
    if not isinstance(sent, str) or not PLACE.fullmatch(sent):
        return None
    channel, x, y = map(int, sent.split("."))
    return (channel, y, x) if channel < channels and y < height and x < width else None
