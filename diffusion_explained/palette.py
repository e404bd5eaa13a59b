"""The palette of notebooks and explorer: colour-blind safe, with a light and a dark shade of each colour.

In figures with both, blue is data and vermilion is noise: alpha and x_0 are blue, sigma and eps are vermilion.
The series follow Okabe and Ito (2008), darkened for white paper and lightened for a dark screen.
"""

from typing import NamedTuple

import numpy as np


class Theme(NamedTuple):
    """The colours of a theme, as hex strings; `series` are the colours of curves, in order."""

    text: str
    muted: str
    grid: str
    background: str
    series: tuple[str, ...]

    @property
    def data(self) -> str:
        """The colour of data: x_0, alpha."""
        return self.series[0]

    @property
    def noise(self) -> str:
        """The colour of noise: eps, sigma."""
        return self.series[1]


LIGHT = Theme(
    text="#1d2530",
    muted="#5d6876",
    grid="#dfe3e8",
    background="#ffffff",
    series=("#0068a8", "#c94f00", "#00805d", "#a8457e", "#8a6a00", "#3d3f8f", "#4f5b66"),
)
DARK = Theme(
    text="#e8ecf1",
    muted="#a3adba",
    grid="#333c48",
    background="#10151c",
    series=("#58b3ec", "#f7894a", "#35c79a", "#e597c3", "#e8c14d", "#a5a8ff", "#b9c3ce"),
)
THEMES = {"light": LIGHT, "dark": DARK}

# Negative is blue, zero is white, positive is red; equally dark at both ends, so that a grey print stays symmetric.
DIVERGING = ("#15456f", "#4b8fc4", "#b9d6ea", "#f7f7f5", "#f3c3a5", "#d7643c", "#7f1d10")
SEQUENTIAL = "cividis"


def rgb(colour: str) -> tuple[int, int, int]:
    """The three bytes of a hex colour such as "#0068a8"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def diverging(values: np.ndarray) -> np.ndarray:
    """Map values [...], clipped to [-1, 1], to colours of the diverging map, uint8 [..., 3]."""
    anchors = np.array([rgb(colour) for colour in DIVERGING], dtype=np.float32)
    place = (np.clip(values, -1, 1) + 1) / 2
    stops = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(place, stops, anchors[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)
