"""Further figures for the course: curves of any quantity, and panels of 2-D points.

As in `plots`, every function returns a Figure with its alt text.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.charts import curve_words, three_digits
from diffusion_explained.checks import check_some, number, typed_arguments
from diffusion_explained.messages import shortened
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.points import plane_points
from diffusion_explained.plots.style import dress, figure, legend
from diffusion_explained.plots.words import place_words, sentence

Series = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]


@typed_arguments
def curves(
    series: Mapping[str, Series],
    *,
    title: str,
    xlabel: str,
    ylabel: str = "",
    reference: tuple[str, float] | None = None,
    log: str = "",
    theme: str = "light",
) -> Figure:
    """Curves name -> (x, y) on one pair of axes; x and y are sequences or tensors [N].

    reference: a value to compare the curves with, as (name, y), drawn as a dashed line.
    log: the axes to draw logarithmically: "", "x", "y" or "xy".
    Raises ValueError for a curve with another number of x than of y, and for another `log`.
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy"; got {shortened(log)}.')
    for name, (x, y) in series.items():
        if len(x) != len(y):
            raise ValueError(f"Curve {name!r} needs one y per x; got {len(x)} x and {len(y)} y.")
    fig, axes = figure(7.0, 3.4, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    for k, (name, (x, y)) in enumerate(series.items()):
        marker = "o" if len(x) <= 30 else ""
        ax.plot(x, y, marker=marker, color=colours.series[k % len(colours.series)], linewidth=2.2, label=name)
    if reference is not None:
        ax.axhline(reference[1], color=colours.muted, linestyle="--", linewidth=1.4, label=reference[0])
    for axis in log:
        getattr(ax, f"set_{axis}scale")("log")
    if len(series) + (reference is not None) > 1:
        legend(ax)
    dress(ax, theme, title=title, xlabel=xlabel, ylabel=ylabel)
    parts = [curve_words(name, x, y) for name, (x, y) in series.items()]
    if reference is not None:
        parts.append(f"dashed, {reference[0]} {three_digits(reference[1])}")
    fig.set_label(sentence(f"{title}, over {xlabel}", parts))
    return fig


@typed_arguments
def point_panels(
    panels: Mapping[str, Tensor],
    *,
    data: Tensor | None = None,
    title: str = "",
    limit: float = 2.6,
    theme: str = "light",
) -> Figure:
    """Panels name -> points [N, 2] side by side, each drawn over the data [M, 2].

    Raises ValueError for no panels, and for points that are not finite [N, 2].
    """
    check_some("panels", panels)
    if not (limit := number("limit", limit, "a number above 0", 0)):
        raise ValueError(f"limit must be a number above 0; got {shortened(limit)}.")
    drawn = {name: plane_points(points, name) for name, points in panels.items()}
    behind = None if data is None else plane_points(data, "data")
    fig, axes = figure(3.1 * len(panels), 3.9, theme, ncols=len(panels), sharey=True)
    colours = THEMES[theme]
    for ax, (name, points) in zip(axes[0], drawn.items(), strict=True):
        if behind is not None:
            ax.scatter(*behind.T, s=4, color=colours.grid, zorder=1)
        ax.scatter(*points.T, s=5, color=colours.data, alpha=0.55, linewidths=0, zorder=2)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        dress(ax, theme, title=name)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=colours.text)
    parts = (f"{name}, {len(points)} points {place_words(points)}" for name, points in drawn.items())
    fig.set_label(sentence(title or "Points", parts))
    return fig
