"""The visitor's own schedule: a curve of log SNR that is dragged by handles, the small pictures following.

While a handle moves, everything is drawn in the browser; when it rests, the page takes the schedule.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

import streamlit as st
from torch import Tensor

from diffusion_explained.charts import Chart
from diffusion_explained.film import script, style
from explorer import address
from explorer.setting_types import one

LOW, HIGH, GAP = -12.0, 12.0, 0.5  # of log SNR; neighbouring handles stay at least GAP apart
USUAL = (9.0, 1.0, -1.0, -3.0, -9.0)  # at five times, evenly spaced from data to noise
KEY, KEPT = "curve", "own_curve"  # in the address and the session's state, for all pages
VISIBLE_SNR = 1e-4  # above this, the last level still carries more than 1% of the image's amplitude
COLUMNS = 10  # of the small pictures, without the clean one
WRITTEN = re.compile(r"-?[0-9]{1,2}\.[0-9]{2}", re.ASCII)


@dataclass(frozen=True)
class Falling:
    """The values of the handles, each at least GAP below the one before: "9.00_1.00_-1.00_-3.00_-9.00"."""

    def read(self, texts: list[str]) -> tuple[float, ...]:
        parts = one(texts).split("_")
        if not all(map(WRITTEN.fullmatch, parts)) or not self.has(values := tuple(map(float, parts))):
            raise ValueError(f"{len(USUAL)} numbers from {HIGH:g} to {LOW:g}, each at least {GAP:g} below the last.")
        return values

    def write(self, value: tuple[float, ...]) -> list[str]:
        return ["_".join(f"{number:.2f}" for number in value)]

    def has(self, value: object) -> bool:
        return (
            isinstance(value, tuple | list)
            and len(value) == len(USUAL)
            and all(isinstance(number, float) and LOW <= number <= HIGH for number in value)
            and all(a - b >= GAP - 1e-9 for a, b in pairwise(value))
        )


def values() -> tuple[float, ...]:
    """The handles' values: as the visitor left them, on whatever page, or as the address gives them."""
    state = st.session_state
    if KEY not in state:  # which the address removes when the page is left
        state[KEY] = state.get(KEPT, USUAL)
    state[KEPT] = tuple(address.hidden(KEY, Falling(), USUAL))
    return state[KEPT]


def editor(chart: Chart, role: str, x_0: Tensor, eps: Tensor) -> None:
    """Show the curve to drag among those of a chart, and x_t of a picture x_0 [1, C, H, W] along it."""
    component = st.components.v2.component("diffusion_explained_curve", js=script("curve"), css=style("scrubber"))
    channels, height, width = x_0.shape[1:]
    picture: Mapping[str, object] = {
        "width": width,
        "height": height,
        "channels": channels,
        **{name: [round(float(value), 3) for value in field.flatten()] for name, field in (("x_0", x_0), ("eps", eps))},
    }

    def dragged() -> None:
        sent = getattr(st.session_state[f"{KEY}_board"], "handles", None)
        if isinstance(sent, str):  # a client can send anything
            try:
                st.session_state[KEY] = Falling().read([sent])
            except ValueError:
                return

    data = {
        "values": list(values()),
        "low": LOW,
        "high": HIGH,
        "gap": GAP,
        "chart": asdict(chart),
        "role": role,
        "name": "Yours",
        "picture": picture,
        "columns": COLUMNS,
    }
    component(data=data, key=f"{KEY}_board", on_handles_change=dragged)
