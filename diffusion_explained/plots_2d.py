"""Pictures of two-dimensional diffusion: points, paths, densities and vector fields.

As in `plots`, every function returns a Figure with its alt text. Points are [N, 2].
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.figures import dress, figure, legend
from diffusion_explained.palette import SEQUENTIAL, THEMES


def _square(ax: Axes, theme: str, title: str, limit: float | None, grid: bool = True) -> None:
    ax.set_aspect("equal")
    if limit:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    dress(ax, theme, title=title, xlabel="x", ylabel="y", grid=grid)


def _points(points: Tensor, name: str) -> np.ndarray:
    if points.ndim < 2 or points.shape[-1] != 2:
        raise ValueError(f"{name} must be 2-D points [..., 2], got a tensor of shape {tuple(points.shape)}.")
    return points.detach().float().cpu().numpy()


def trajectories(
    paths: Tensor,
    *,
    data: Tensor | None = None,
    title: str = "Paths from noise to data",
    limit: float | None = None,
    theme: str = "light",
) -> Figure:
    """Paths [n + 1, N, 2] of N points through n steps: hollow where they start, full where they end, over the data."""
    array = _points(paths, "paths")
    if array.ndim != 3:
        raise ValueError(f"paths must be [n + 1, N, 2], got {tuple(array.shape)}.")
    fig, axes = figure(5.0, 5.0, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    if data is not None:
        ax.scatter(*_points(data, "data").T, s=4, color=colours.grid, label="data", zorder=1)
    ax.plot(array[..., 0], array[..., 1], color=colours.muted, linewidth=0.7, alpha=0.6, zorder=2)
    ax.scatter(*array[0].T, s=22, facecolors="none", edgecolors=colours.noise, linewidths=1.2, label="start", zorder=3)
    ax.scatter(*array[-1].T, s=22, color=colours.data, label="end", zorder=4)
    legend(ax)
    _square(ax, theme, title, limit)
    fig.set_label(f"{title}: {array.shape[1]} points through {len(array) - 1} steps")
    return fig


def density(
    points: Tensor, *, title: str = "Density", limit: float | None = None, bins: int = 80, theme: str = "light"
) -> Figure:
    """How densely points [N, 2] lie in the plane, as a histogram over squares: probability per unit area."""
    array = _points(points, "points")
    limit = limit or float(np.abs(array).max()) * 1.05
    counts, edges, _ = np.histogram2d(*array.T, bins=bins, range=[[-limit, limit]] * 2)
    values = counts.T / len(array) / (edges[1] - edges[0]) ** 2
    fig, axes = figure(5.4, 4.8, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    shown = np.ma.masked_equal(values, 0)  # empty squares stay the paper's colour
    image = ax.imshow(shown, origin="lower", extent=(-limit, limit) * 2, cmap=SEQUENTIAL, interpolation="nearest")
    bar = fig.colorbar(image, ax=ax, shrink=0.85)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=11, colors=colours.muted, labelcolor=colours.text)
    bar.set_label("probability per unit area", fontsize=11, color=colours.text)
    _square(ax, theme, title, limit, grid=False)
    fig.set_label(f"{title}: {len(array)} points on {bins} x {bins} squares within ±{limit:.3g}")
    return fig


def vector_field(
    points: Tensor,
    vectors: Tensor,
    *,
    data: Tensor | None = None,
    title: str = "Vector field",
    limit: float | None = None,
    theme: str = "light",
) -> Figure:
    """Arrows vectors [N, 2] at points [N, 2], drawn to a common scale, over the data."""
    places, arrows = _points(points, "points"), _points(vectors, "vectors")
    if places.shape != arrows.shape or places.ndim != 2:
        raise ValueError(f"points and vectors must both be [N, 2], got {places.shape} and {arrows.shape}.")
    fig, axes = figure(5.0, 5.0, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    if data is not None:
        ax.scatter(*_points(data, "data").T, s=4, color=colours.noise, alpha=0.35, label="data", zorder=1)
        legend(ax)
    ax.quiver(*places.T, *arrows.T, color=colours.data, angles="xy", width=0.004, zorder=2)
    _square(ax, theme, title, limit)
    fig.set_label(f"{title}: {len(places)} arrows, the longest {np.linalg.norm(arrows, axis=1).max():.3g}")
    return fig
