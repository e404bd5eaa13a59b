"""What all plots share: a figure in one of the two themes, the style of its axes, its texts, and its PNG file.

If pyplot is imported, as in a notebook, a new figure is registered with pyplot, so that `plt.show()` shows it. Without
pyplot (as in the explorer's threads) the figure does not touch that global state, and `png(fig)` renders it.
"""

import io
import sys
import threading
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.messages import shortened
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.notebook import DescribedFigure

_drawing = threading.Lock()  # matplotlib's font and text caches are shared by all figures of a process


@typed_arguments
def figure(width: float, height: float, theme: str, **grid: Any) -> tuple[Figure, np.ndarray]:
    """An empty figure, width x height inches, with its axes [rows, columns] (`grid` as for Figure.subplots).

    Raises ValueError for a theme that is neither "light" nor "dark".
    """
    check_theme(theme)
    pyplot = sys.modules.get("matplotlib.pyplot")
    size: dict[str, Any] = {"figsize": (width, height), "layout": "constrained"}
    fig = pyplot.figure(FigureClass=DescribedFigure, **size) if pyplot else DescribedFigure(**size)
    fig.patch.set_facecolor(THEMES[theme].background)
    options: dict[str, Any] = {"nrows": 1, "ncols": 1, "squeeze": False, **grid}
    return fig, fig.subplots(**options)


def check_theme(theme: str) -> None:
    """Raise ValueError unless `theme` names one of the two themes."""
    if theme not in THEMES:
        raise ValueError(f"theme must be one of {', '.join(THEMES)}; got {shortened(theme)}.")


@typed_arguments
def dress(ax: Axes, theme: str, *, title: str = "", xlabel: str = "", ylabel: str = "", grid: bool = True) -> None:
    """Set title, axis labels, ticks, spines and legend text in the theme's colours, at 11 points and more."""
    check_theme(theme)
    colours = THEMES[theme]
    ax.set_facecolor("none")
    ax.set_title(labelled(title), loc="left", fontsize=12, fontweight="bold", color=colours.text)
    ax.set_xlabel(labelled(xlabel), fontsize=11, color=colours.text)
    ax.set_ylabel(labelled(ylabel), fontsize=11, color=colours.text)
    ax.tick_params(which="both", labelsize=11, colors=colours.muted, labelcolor=colours.text)
    for side, spine in ax.spines.items():
        spine.set_visible(grid and side in ("left", "bottom"))
        spine.set_color(colours.muted)
    ax.grid(visible=False)
    if grid:
        ax.grid(color=colours.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    if (box := ax.get_legend()) is not None:
        for text in box.get_texts():
            text.set_color(colours.text)


def literal(text: str) -> str:
    """Escape dollar signs in a text of the user (a token, a prompt, a class), which matplotlib reads as a formula."""
    return str(text).replace("$", r"\$")


def labelled(text: str) -> str:
    """A title or caption in which $...$ is a formula; if it is not a valid formula, the dollar signs are escaped."""
    if "$" not in text:
        return text
    try:
        with _drawing:
            MathTextParser("path").parse(text)
    except ValueError:
        return literal(text)
    return text


@typed_arguments
def legend(ax: Axes, **options: object) -> None:
    """A legend without a frame, where it covers least."""
    ax.legend(**{"fontsize": 11, "frameon": False, "handlelength": 1.6, "loc": "best", **options})


def legend_below(fig: Figure, theme: str) -> None:
    """A legend of all curves below the axes, for more curves than a legend inside has room for."""
    key = fig.legend(loc="outside lower center", ncols=3, fontsize=10.5, frameon=False, handlelength=1.6)
    for text in key.get_texts():
        text.set_color(THEMES[theme].text)


@typed_arguments
def alt_text(fig: Figure) -> str:
    """The figure's alt text: what it shows, in words."""
    return str(fig.get_label())


@typed_arguments
def png(fig: Figure, dpi: int = 180) -> bytes:
    """The figure as a PNG file with a transparent background; the figure is then closed in pyplot."""
    dpi, buffer = whole("dpi", dpi, 10, 1000), io.BytesIO()
    with _drawing:
        fig.savefig(buffer, format="png", dpi=dpi, transparent=True)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(fig)
    return buffer.getvalue()
