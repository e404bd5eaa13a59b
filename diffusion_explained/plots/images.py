"""Grids and film strips of images, and curves of schedules, losses, samplers and guidance scales."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.charts import curve_words, three_digits
from diffusion_explained.checks import check_finite, check_some, float_data, number, typed_arguments, whole
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.film import evenly_spaced, mosaic, pixels, step_fields
from diffusion_explained.messages import shortened
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.style import dress, figure, labelled, legend, legend_below
from diffusion_explained.plots.words import sentence
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level, Schedule

QUANTITIES = {
    "alpha": "signal  α",
    "sigma": "noise  σ",
    "alphas_cumprod": "signal power  ᾱ = α²",
    "log_snr": "log SNR = 2 log(α/σ)",
}


def _sheet(ax: Axes, sheet: np.ndarray, theme: str) -> None:
    ax.imshow(sheet, interpolation="nearest")
    dress(ax, theme, grid=False)
    ax.tick_params(length=0)


@typed_arguments
def image_grid(
    images: Tensor,
    *,
    captions: Sequence[str] = (),
    columns: int | None = None,
    tile: float = 1.0,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """Images [B, C, H, W] in [-1, 1] as a grid, each with its caption (of one or more lines) above it.

    tile: the width of an image in inches; it is reduced so that all columns together are at most 8 inches wide.
    Raises ValueError for more captions than images, and where `film.pixels` raises it.
    """
    tiles = pixels(images)
    count, height, width = tiles.shape[:3]
    columns = min(8 if columns is None else whole("columns", columns, 1), count)
    if len(captions) > count:
        raise ValueError(f"Give at most one caption per image; got {len(captions)} captions for {count} images.")
    tile = number("tile", tile, "a width in inches, from 0.1 to 8", 0.1, 8)
    rows = -(-count // columns)
    tile = min(tile, 8 / columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    words = min(0.6, 0.17 * lines / tile)  # the captions' share of a tile; a line is 0.17 inches high
    gap = max(10, round(width * words / (1 - words))) if captions else 2
    sheet = mosaic(tiles, columns, gap)
    fig, axes = figure(columns * tile + 0.2, rows * tile * (height + gap) / (width + gap) + 0.3 + 0.17 * lines, theme)
    ax = axes[0, 0]
    _sheet(ax, sheet, theme)
    ax.set(xticks=[], yticks=[], anchor="S")  # the remaining space is for the title
    for k, caption in enumerate(captions):
        x, y = k % columns * (width + gap) + width / 2, k // columns * (height + gap) - 1.5
        ax.text(x, y, labelled(caption), ha="center", va="bottom", fontsize=11, color=THEMES[theme].text)
    ax.set_title(
        labelled(title), loc="left", fontsize=12, fontweight="bold", color=THEMES[theme].text, pad=6 + 13 * lines
    )
    fig.set_label(
        f"{title or 'Images'}: {count} images in {rows} row{'s' * (rows > 1)}"
        + (f" ({', '.join(captions)})".replace("\n", " ") * bool(captions))
    )
    return fig


@typed_arguments
def filmstrip(
    rows: Mapping[str, Tensor | Sequence[Tensor]],
    *,
    captions: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """Rows of images over time: name -> images [N, C, H, W] (or N of [C, H, W]), one column each.

    limits: name -> the largest value of the diverging colour map, for rows that are signed fields instead of images.

    Raises ValueError for rows of different lengths, for images of different shapes, and where `film.pixels` raises it.
    """
    limits = limits or {}
    check_some("rows", rows)
    stacks = {name: stacked(name, images) for name, images in rows.items()}
    counts = {name: len(images) for name, images in stacks.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"All rows of a filmstrip need the same number of images, got {counts}.")
    count, gap = next(iter(counts.values())), 2
    if len(shapes := {tuple(images.shape[2:]) for images in stacks.values()}) != 1:
        raise ValueError(f"All images of a filmstrip need the same height and width; got {sorted(shapes)}.")
    if len(captions) > count:
        raise ValueError(f"Give at most one caption per column; got {len(captions)} captions for {count} columns.")
    tiles = np.concatenate([pixels(images, limits.get(name)) for name, images in stacks.items()])
    sheet, (height, width) = mosaic(tiles, count, gap), tiles.shape[1:3]
    tile = min(1.0, 9 / count)
    names = max((len(line) for name in stacks for line in name.split("\n")), default=0)  # a character is 0.09 inches
    wide = max(1.4, 0.2 + 0.09 * names) + max(count * tile, 0.105 * len(title))
    fig, axes = figure(wide, len(stacks) * tile + 0.6, theme)
    ax = axes[0, 0]
    ax.set_anchor("W")  # leaves room on the right for a long title
    _sheet(ax, sheet, theme)
    ax.set_xticks([k * (width + gap) + width / 2 for k in range(len(captions))], [labelled(one) for one in captions])
    ax.set_yticks([k * (height + gap) + height / 2 for k in range(len(stacks))], [labelled(one) for one in stacks])
    ax.tick_params(labelbottom=False, labeltop=True)
    ax.set_title(labelled(title), loc="left", fontsize=12, fontweight="bold", color=THEMES[theme].text)
    columns = f" ({', '.join(captions)})" if captions else ""
    fig.set_label(f"{title or 'Filmstrip'}: {', '.join(filter(None, stacks))}, {count} images each{columns}")
    return fig


def stacked(name: str, images: Tensor | Sequence[Tensor]) -> Tensor:
    """One row's images [C, H, W] as one tensor [N, C, H, W]; raises ValueError for none, and for different shapes."""
    if not len(images) or len({image.shape for image in images}) != 1:
        raise ValueError(f"Row {name!r} must hold images [C, H, W] of one shape, at least one.")
    return torch.stack(list(images))


@typed_arguments
def step_table(
    steps: Sequence[Step], *, image: int = 0, columns: int = 8, title: str = "", theme: str = "light"
) -> Figure:
    """One image of a sampling run at up to `columns` of its steps: x_t, predicted x_0, and predicted noise.

    Raises ValueError for an empty list of steps.
    """
    steps = list(steps)
    if not steps:
        raise ValueError("There are no steps to show: a sampler yields at least one.")
    columns = whole("columns", columns, 1)
    kept = [steps[k] for k in evenly_spaced(len(steps), columns)]
    fields, image = step_fields(steps), whole("image", image, 0, len(steps[0].x_t) - 1)
    rows = {name: [field(step)[image] for step in kept] for name, _, field, _ in fields}
    limits = {name: limit for name, _, _, limit in fields if limit is not None}
    captions = [f"t = {step.level.t:.3g}" for step in kept]
    return filmstrip(rows, captions=captions, limits=limits, title=title or "One run, step by step", theme=theme)


@typed_arguments
def path_levels(schedule: Schedule, most: int = 200) -> tuple[np.ndarray, list[Level]]:
    """Levels along a schedule's sampling path, from data (0) to noise (1): their positions in (0, 1] and the levels."""
    most = whole("most", most, 1)
    count = min(most, getattr(schedule, "num_train_timesteps", most))
    return np.arange(1, count + 1) / count, schedule.levels(count)[count - 1 :: -1]


def _quantity(level: Level, quantity: str) -> float:
    if quantity == "alphas_cumprod":
        return level.alpha**2
    return float(getattr(level, quantity))


@typed_arguments
def schedule_curves(
    schedules: Mapping[str, Schedule],
    quantity: str = "alphas_cumprod",
    *,
    marker: tuple[float, float] | None = None,
    theme: str = "light",
) -> Figure:
    """One quantity (alpha, sigma, alphas_cumprod or log_snr) of several schedules, from data (0) to noise (1).

    marker: a point (position, value) to mark on the curves. A sigma beyond 2 (EDM) gets a log axis.

    Raises ValueError for another quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}; got {shortened(quantity)}.")
    check_some("schedules", schedules)
    many = len(schedules) > 3
    fig, axes = figure(5.2, 3.9 if many else 3.4, theme)
    ax, colours, largest, parts = axes[0, 0], THEMES[theme], 0.0, []
    for k, (name, schedule) in enumerate(schedules.items()):
        positions, levels = path_levels(schedule)
        values = np.array([_quantity(level, quantity) for level in levels])
        values[~np.isfinite(values)] = np.nan
        largest = max(largest, float(np.nanmax(values)))
        parts.append(curve_words(name, positions, values))
        style = ("-", "--", "-.", ":")[k // len(colours.series) % 4]
        ax.plot(positions, values, style, color=colours.series[k % len(colours.series)], linewidth=2.2, label=name)
    if quantity == "sigma" and largest > 2:
        ax.set_yscale("log")
    if marker is not None:
        ax.axvline(marker[0], color=colours.muted, linewidth=1)
        ax.plot(*marker, "o", color=colours.noise, markersize=9, markeredgecolor=colours.background, zorder=5)
        parts.append(f"a mark at {three_digits(marker[0])}, {three_digits(marker[1])}")
    if many:
        legend_below(fig, theme)
    elif len(schedules) > 1:
        legend(ax)
    dress(ax, theme, title=QUANTITIES[quantity], xlabel="from data (0) to noise (1)")
    fig.set_label(sentence(f"{QUANTITIES[quantity]}, from data (0) to noise (1)", parts))
    return fig


@typed_arguments
def pixel_histogram(x_t: Tensor, *, title: str = "Pixels of xₜ", theme: str = "light") -> Figure:
    """A histogram of the values of x_t, with the density of N(0, 1). x_t [B, C, H, W], or of any shape.

    Raises ValueError for NaN, for integers and for no values.
    """
    check_finite(float_data("x_t", x_t), "images")
    if not x_t.numel():
        raise ValueError("x_t must have at least one value; got none.")
    values = x_t.detach().float().cpu().flatten().numpy()
    mean, std = float(values.mean()), float(values.std())
    fig, axes = figure(4.6, 3.3, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    grid = np.linspace(-4, 4, 201)
    ax.hist(
        np.clip(values, -4, 4), bins=64, range=(-4, 4), density=True, color=colours.data, alpha=0.75, label="pixels"
    )
    ax.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=colours.noise, linewidth=2.2, label="N(0, 1)")
    ax.set_ylim(
        0, 1.2
    )  # fixed, so that histograms at several t can be compared; the spikes of clean images are cut off
    legend(ax)
    dress(ax, theme, title=title, xlabel=f"pixel value (mean {mean:.2f}, std {std:.2f})", ylabel="density")
    fig.set_label(f"{title}: histogram with mean {mean:.2f} and standard deviation {std:.2f} against N(0, 1)")
    return fig


@typed_arguments
def loss_curve(
    steps: Sequence[float], losses: Sequence[float], *, title: str = "Training loss", theme: str = "light"
) -> Figure:
    """The loss of each step, and its running mean over about a fiftieth of all steps.

    Raises ValueError if steps and losses differ in length or are empty.
    """
    x, y = (float64_on_cpu(what, values).numpy() for what, values in (("steps", steps), ("losses", losses)))
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"Give one loss per step, at least one; got shapes {list(x.shape)} and {list(y.shape)}.")
    window = max(1, len(y) // 50)
    means = np.convolve(y, np.ones(window) / window, mode="valid")
    fig, axes = figure(7.0, 3.3, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    ax.plot(x, y, color=colours.data, alpha=0.4, linewidth=0.8, label="each step")
    ax.plot(x[window - 1 :], means, color=colours.data, linewidth=2.2, label=f"mean of {window}")
    ax.set_yscale("log")
    legend(ax)
    dress(ax, theme, title=title, xlabel="optimizer step", ylabel="mean squared error")
    fig.set_label(f"{title}: from {y[0]:.3g} to {means[-1]:.3g} over {len(y)} steps")
    return fig


@typed_arguments
def sampler_race(
    results: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str = "Distance to the reference",
    xlabel: str = "network evaluations",
    ylabel: str = "root mean square difference",
    theme: str = "light",
) -> Figure:
    """name -> (cost, distance) pairs in the order of their steps, on log axes; xlabel and ylabel name the two."""
    check_some("results", results)
    fig, axes = figure(5.2, 4.4, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    for k, (name, points) in enumerate(results.items()):
        costs, distances = zip(*points, strict=True) if points else ((), ())
        colour = colours.series[k % len(colours.series)]
        ax.loglog(costs, distances, "osD^vPX"[k % 7] + "-", color=colour, linewidth=2.2, markersize=6, label=name)
    for axis, index in ((ax.xaxis, 0), (ax.yaxis, 1)):
        values = [point[index] for points in results.values() for point in points if point[index] > 0]
        places = [digit * 10.0**power for power in range(-12, 8) for digit in (1, 2, 5)]
        kept = [place for place in places if values and min(values) / 1.2 <= place <= 1.2 * max(values)]
        axis.set_ticks(kept, [f"{place:.12g}" for place in kept])
        axis.set_ticks([], minor=True)
    legend_below(fig, theme)
    dress(ax, theme, title=title, xlabel=xlabel, ylabel=ylabel)
    parts = [curve_words(name, *zip(*points, strict=True)) for name, points in results.items() if points]
    fig.set_label(sentence(f"{title} against {xlabel}", parts))
    return fig


@typed_arguments
def guidance_sweep(
    scales: Sequence[float],
    accuracy: Sequence[float],
    diversity: Sequence[float],
    *,
    real_diversity: float | None = None,
    theme: str = "light",
) -> Figure:
    """Class accuracy (a fraction) and diversity (its own unit) over the guidance scale, in two panels.

    real_diversity: the diversity of the same number of real images, drawn as a dashed line.
    Raises ValueError unless there is one accuracy and one diversity per scale.
    """
    if not len(scales) or not len(scales) == len(accuracy) == len(diversity):
        raise ValueError(
            f"Give one accuracy and one diversity per guidance scale, at least one; got {len(scales)} scales, "
            f"{len(accuracy)} accuracies and {len(diversity)} diversities."
        )
    fig, axes = figure(5.6, 4.6, theme, nrows=2, sharex=True)
    for k, (values, name) in enumerate(((accuracy, "class accuracy"), (diversity, "diversity"))):
        ax = axes[k, 0]
        ax.plot(scales, values, "os"[k] + "-", color=THEMES[theme].series[k], linewidth=2.2, markersize=6)
        top = max([*values, real_diversity or 0], default=0) or 1
        ax.set_ylim((0, 1.05) if k == 0 else (0, 1.15 * top))
        if k == 1 and real_diversity is not None:
            ax.axhline(real_diversity, color=THEMES[theme].muted, linestyle="--", linewidth=1.6, label="real images")
            legend(ax, loc="lower left")
        if k == 0:
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        dress(ax, theme, title=name, xlabel="guidance scale w" if k else "")
    fig.set_label(
        "Over the guidance scale: "
        + "; ".join(
            f"w = {w:g}: accuracy {a:.0%}, diversity {d:.3g}"
            for w, a, d in zip(scales, accuracy, diversity, strict=True)
        )
    )
    return fig
