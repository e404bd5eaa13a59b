"""Figures of two-dimensional diffusion: points, paths, densities and vector fields.

As in `plots`, every function returns a Figure with its alt text. Points are [N, 2].
"""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.checks import check_finite, check_some, float_data, number, typed_arguments, whole
from diffusion_explained.palette import SEQUENTIAL, THEMES, diverging
from diffusion_explained.plots.style import dress, figure, legend
from diffusion_explained.plots.words import place_words, sentence


def _square(ax: Axes, theme: str, title: str, limit: float | None, grid: bool = True) -> None:
    ax.set_aspect("equal")
    if limit := _limit(limit):
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    dress(ax, theme, title=title, xlabel="x", ylabel="y", grid=grid)


def _limit(limit: float | None) -> float | None:
    return None if limit is None else number("limit", limit, "a number above 0, or None for the points' own", 1e-12)


def plane_points(points: Tensor, name: str) -> np.ndarray:
    """Points [..., 2] as an array; raises ValueError, naming them, for another shape, for none, and for NaN."""
    if float_data(name, points).ndim < 2 or points.shape[-1] != 2 or not points.numel():
        raise ValueError(f"{name} must be 2-D points [..., 2], got a tensor of shape {tuple(points.shape)}.")
    check_finite(points, f"{name} (2-D points)")
    return points.detach().float().cpu().numpy()


def _draw_paths(ax: Axes, paths: Tensor, data: Tensor | None, theme: str) -> np.ndarray:
    array, colours = plane_points(paths, "paths"), THEMES[theme]
    if array.ndim != 3:
        raise ValueError(f"paths must be [n + 1, N, 2], got {tuple(array.shape)}.")
    if data is not None:
        x, y = plane_points(data, "data").T
        ax.scatter(x, y, s=4, color=colours.grid, label="data", zorder=1)
    ax.plot(array[..., 0], array[..., 1], color=colours.muted, linewidth=0.7, alpha=0.6, zorder=2)
    (x_0, y_0), (x_1, y_1) = array[0].T, array[-1].T
    ax.scatter(x_0, y_0, s=22, facecolors="none", edgecolors=colours.noise, linewidths=1.2, label="start", zorder=3)
    ax.scatter(x_1, y_1, s=22, color=colours.data, label="end", zorder=4)
    return array


def _path_words(name: str, array: np.ndarray) -> str:
    """Paths [n + 1, N, 2] by their number, and by where they start and end."""
    count, steps = array.shape[1], len(array) - 1
    return f"{name}{count} paths of {steps} steps, from {place_words(array[0])}, to {place_words(array[-1])}"


def _headline(fig: Figure, title: str, theme: str) -> None:
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)


@typed_arguments
def trajectories(
    paths: Tensor,
    *,
    data: Tensor | None = None,
    title: str = "Paths from noise to data",
    limit: float | None = None,
    theme: str = "light",
) -> Figure:
    """Paths [n + 1, N, 2] of N points through n steps, over the data; hollow circles are starts, full ones are ends."""
    fig, axes = figure(5.0, 5.0, theme)
    array = _draw_paths(axes[0, 0], paths, data, theme)
    legend(axes[0, 0])
    _square(axes[0, 0], theme, title, limit)
    fig.set_label(sentence(title, [_path_words("", array)]))
    return fig


@typed_arguments
def trajectory_panels(
    runs: Mapping[str, Tensor],
    *,
    data: Tensor | None = None,
    title: str = "",
    limit: float | None = None,
    theme: str = "light",
) -> Figure:
    """Several `trajectories` side by side on equal axes: name -> paths [n + 1, N, 2]; the first has the legend."""
    check_some("runs", runs)
    fig, axes = figure(3.5 * len(runs), 4.3, theme, ncols=len(runs), sharex=True, sharey=True)
    parts = []
    for ax, (name, paths) in zip(axes[0], runs.items(), strict=True):
        parts.append(_path_words(f"{name}, ", _draw_paths(ax, paths, data, theme)))
        _square(ax, theme, name, limit)
    legend(axes[0, 0], loc="upper left")
    dress(axes[0, 0], theme, title=next(iter(runs)), xlabel="x", ylabel="y")  # again, for the legend's colours
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    _headline(fig, title, theme)
    fig.set_label(sentence(title or "Paths", parts))
    return fig


@typed_arguments
def density(
    points: Tensor, *, title: str = "Density", limit: float | None = None, bins: int = 80, theme: str = "light"
) -> Figure:
    """The density of points [N, 2] in the plane, as a histogram over squares: probability per unit area.

    Raises ValueError for points that are not finite [N, 2].
    """
    array = plane_points(points, "points")
    if array.ndim != 2:
        raise ValueError(f"points must be [N, 2]; got {list(array.shape)}.")
    bins = whole("bins", bins, 1, 2000)
    limit = _limit(limit) or float(np.abs(array).max()) * 1.05 or 1.0
    counts, edges, _ = np.histogram2d(array[:, 0], array[:, 1], bins=bins, range=[[-limit, limit]] * 2)
    values = counts.T / len(array) / (edges[1] - edges[0]) ** 2
    fig, axes = figure(5.4, 4.8, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    shown = np.ma.masked_equal(values, 0)  # empty squares keep the background colour
    image = ax.imshow(shown, origin="lower", extent=(-limit, limit) * 2, cmap=SEQUENTIAL, interpolation="nearest")
    bar = fig.colorbar(image, ax=ax, shrink=0.85)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=11, colors=colours.muted, labelcolor=colours.text)
    bar.set_label("probability per unit area", fontsize=11, color=colours.text)
    _square(ax, theme, title, limit, grid=False)
    fig.set_label(f"{title}: {len(array)} points on {bins} x {bins} squares within ±{limit:.3g}")
    return fig


@typed_arguments
def vector_field(
    points: Tensor,
    vectors: Tensor,
    *,
    data: Tensor | None = None,
    title: str = "Vector field",
    limit: float | None = None,
    theme: str = "light",
) -> Figure:
    """Vectors [N, 2] as arrows at points [N, 2], drawn to a common scale, over the data.

    Raises ValueError for other shapes.
    """
    places, arrows = plane_points(points, "points"), plane_points(vectors, "vectors")
    if places.shape != arrows.shape or places.ndim != 2:
        raise ValueError(f"points and vectors must both be [N, 2], got {places.shape} and {arrows.shape}.")
    fig, axes = figure(5.0, 5.0, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    if data is not None:
        x, y = plane_points(data, "data").T
        ax.scatter(x, y, s=4, color=colours.noise, alpha=0.35, label="data", zorder=1)
        legend(ax, frameon=True, framealpha=0.9, facecolor=colours.background, edgecolor="none", markerscale=3)
    ax.quiver(*places.T, *arrows.T, color=colours.data, angles="xy", width=0.004, zorder=2)
    _square(ax, theme, title, limit)
    fig.set_label(f"{title}: {len(places)} arrows, the longest {np.linalg.norm(arrows, axis=1).max():.3g}")
    return fig


@typed_arguments
def plane(limit: float, bins: int = 120) -> Tensor:
    """The centres [bins * bins, 2] of the squares of a grid over (-limit, limit)^2, row by row from the bottom."""
    bins, limit = whole("bins", bins, 1, 2000), number("limit", limit, "a number above 0", 1e-12)
    along = (torch.arange(bins, dtype=torch.float32, device="cpu") + 0.5) / bins * 2 * limit - limit
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


@typed_arguments
def density_panels(
    panels: Mapping[str, Tensor],
    limit: float,
    *,
    points: Mapping[str, Tensor] | None = None,
    signed: bool = False,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """Densities side by side, each with its own scale: name -> values [bins * bins] at the points of `plane(limit)`.

    points: name -> samples [N, 2] to draw over a panel.
    signed: whether the values are changes: blue below 0, red above, on one scale for all panels.

    Raises ValueError for a panel whose number of values is not a square.
    """
    check_some("panels", panels)
    most = max(float(values.abs().max()) for values in panels.values() if values.numel())
    fig, axes = figure(3.5 * len(panels), 4.3, theme, ncols=len(panels), sharey=True)
    parts = []
    for ax, (name, values) in zip(axes[0], panels.items(), strict=True):
        bins = round(len(values) ** 0.5)
        if bins**2 != len(values):
            raise ValueError(f"Panel {name!r} has {len(values)} values: give one per point of plane(limit, bins).")
        check_finite(float_data(f"panel {name!r}", values), f"values of panel {name!r}")
        square = values.detach().float().cpu().numpy().reshape(bins, bins)
        shown = diverging(square / (most or 1.0)) if signed else square
        ax.imshow(shown, origin="lower", extent=(-limit, limit) * 2, cmap=SEQUENTIAL, interpolation="nearest")
        if points and name in points:
            ax.scatter(*plane_points(points[name], "points").T, s=3, color="white", alpha=0.6, linewidths=0)
        _square(ax, theme, name, limit)
        ax.grid(False)
        y, x = ((np.array(np.unravel_index(square.argmax(), square.shape)) + 0.5) / bins * 2 - 1) * limit
        parts.append(f"{name}, highest at ({x:.1f}, {y:.1f})")
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    _headline(fig, title, theme)
    fig.set_label(sentence(title or "Densities", parts))
    return fig
