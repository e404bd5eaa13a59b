"""Figures of measurements: quality against cost, guidance, the bias of a distance, cases side by side, neighbours.

As in `plots`, every function returns a Figure with its alt text. The rows are those of `measured.read_measured`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from torch import Tensor

from diffusion_explained.charts import curve_words, three_digits
from diffusion_explained.checks import check_some, typed_arguments
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.style import dress, figure, legend, legend_below
from diffusion_explained.plots.words import pairs_words, sentence

MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # different per curve, so that curves differ in a grey print too
PANELS = {
    "accuracy": "class accuracy",
    "frechet_distance": "Fréchet distance",
    "neighbour_coverage": "neighbour coverage",
    "diversity": "diversity (feature units)",
    "beyond": "share of pixels out of range",
    "contrast": "contrast (pixel std.)",
}


@typed_arguments
def quality_curves(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    floor: float | None = None,
    title: str = "Quality against cost",
    theme: str = "light",
) -> Figure:
    """Curves name -> measured rows: the Fréchet distance with its spread over network evaluations, on log axes.

    floor: the distance of unseen real images, drawn as a line; no sampler can be expected to go below it.
    """
    fig, axes = figure(7.4, 4.9, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    for k, (name, points) in enumerate(rows.items()):
        points = sorted(points, key=lambda row: row["evaluations"])
        x, y, spread = ([row[key] for row in points] for key in ("evaluations", "frechet_distance", "frechet_spread"))
        ax.errorbar(x, y, yerr=spread, **_line(k, theme), capsize=3, label=name)
    if floor is not None:
        ax.axhline(floor, color=colours.muted, linestyle="--", linewidth=1.4, label="unseen real images")
    ax.set(xscale="log", yscale="log")
    ticks = sorted({row["evaluations"] for points in rows.values() for row in points})
    ax.set_xticks([t for t in ticks if t in (1, 2, 4, 8, 18, 30, 50, 100, 1000)])
    ax.set_yticks([t for t in (1, 2, 5, 10, 20, 50, 100, 200) if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    dress(ax, theme, title=title, xlabel="network evaluations per image", ylabel="Fréchet distance (feature units²)")
    legend_below(fig, theme)
    parts = [_row_words(name, points, "evaluations", "frechet_distance") for name, points in rows.items()]
    if floor is not None:
        parts.append(f"dashed, unseen real images {three_digits(floor)}")
    fig.set_label(sentence(f"{title}, Fréchet distance over network evaluations", parts))
    return fig


@typed_arguments
def guidance_panels(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    real: Mapping[str, Any] | None = None,
    title: str = "Guidance, measured",
    theme: str = "light",
) -> Figure:
    """Curves name -> measured rows: six measures over the guidance scale, one per panel.

    real: the measures of real images, drawn as dashed lines.
    """
    fig, axes = figure(9.6, 5.6, theme, nrows=2, ncols=3, sharex=True)
    for ax, (key, words) in zip(axes.flat, PANELS.items(), strict=True):
        for k, (name, points) in enumerate(rows.items()):
            points = sorted(points, key=lambda row: row["guidance_scale"])
            ax.plot([row["guidance_scale"] for row in points], [row[key] for row in points], **_line(k, theme),
                    label=name if ax is axes[0, 0] else None)  # fmt: skip
        if real and key in real:
            label = "unseen real images" if ax is axes[0, 0] else None
            ax.axhline(real[key], color=THEMES[theme].muted, linestyle="--", linewidth=1.4, label=label)
        dress(ax, theme, title=words, xlabel="guidance scale w" if ax in axes[1] else "")
        ax.set_title(words, loc="left", fontsize=11, color=THEMES[theme].text)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)
    legend_below(fig, theme)
    parts = [
        _row_words(f"{words} of {name}", points, "guidance_scale", key)
        for key, words in PANELS.items() for name, points in rows.items()
    ]  # fmt: skip
    fig.set_label(sentence(f"{title}, over the guidance scale", parts))
    return fig


@typed_arguments
def extrapolation(
    distances: Mapping[str, Mapping[int, float]], *, title: str = "Distance against 1/n", theme: str = "light"
) -> Figure:
    """Distances name -> {n: distance} over 1/n, each with its fitted straight line down to 1/n = 0 (infinite n).

    Two panels: the whole range of 1/n, and its left fifth enlarged, where the lines meet the axis.
    """
    fig, axes = figure(8.6, 3.8, theme, ncols=2)
    check_some("distances", distances)
    largest = max(1 / n for by_n in distances.values() for n in by_n)
    for ax, part in zip(axes[0], (1.0, 0.2), strict=True):
        for k, (name, by_n) in enumerate(distances.items()):
            slope, intercept = line_of(by_n)
            x = np.array([1 / n for n in by_n])
            line = {**_line(k, theme), "linestyle": ""}
            ax.plot(x, list(by_n.values()), **line, label=name)
            ax.plot([0, largest], [intercept, intercept + slope * largest], color=line["color"], linewidth=1.4)
        inside = [d for by_n in distances.values() for n, d in by_n.items() if 1 / n <= part * largest]
        inside = inside or [min(by_n.values()) for by_n in distances.values()]  # if no n is large enough for this panel
        ax.locator_params(axis="x", nbins=4)
        ax.set(xlim=(0, 1.04 * part * largest), ylim=(min(0.0, 1.1 * min(inside)), 1.25 * max(inside)))
        if part == 1:  # before `dress`, which colours the legend's text
            legend(ax)
        ylabel = "Fréchet distance (feature units²)" if part == 1 else ""
        dress(ax, theme, title=title if part == 1 else "where n is large", xlabel="1/n", ylabel=ylabel)
    meets = ", ".join(f"{name} {line_of(by_n)[1]:.2f}" for name, by_n in distances.items())
    fig.set_label(f"{title}: points over 1/n and straight lines, which meet n = infinity at: {meets}")
    return fig


@typed_arguments
def line_of(distances: Mapping[int, float]) -> tuple[float, float]:
    """The slope and the intercept of distance = slope / n + intercept, fitted to {n: distance} by least squares.

    The intercept is the distance at n -> infinity, without the bias (Chong & Forsyth 2020, Section 4).
    Raises ValueError for fewer than two n, and for an n below 1.
    """
    if len(distances) < 2 or min(distances) < 1:
        raise ValueError(f"distances must be of two or more n, each 1 or more; got {dict(distances)}.")
    slope, intercept = np.polyfit([1 / n for n in distances], list(distances.values()), 1)
    return float(slope), float(intercept)


@typed_arguments
def case_panels(
    cases: Mapping[str, Mapping[str, float]], *, title: str = "", best: str = "", theme: str = "light"
) -> Figure:
    """Cases name -> {measure: value}: one panel of bars per measure; a dashed line marks the value of case `best`.

    Raises ValueError for no cases, and for a `best` that is none of them.
    """
    check_some("cases", cases)
    if best and best not in cases:
        raise ValueError(f"best must be one of {', '.join(cases)}; got {best!r}.")
    measures, colours = list(next(iter(cases.values()))), THEMES[theme]
    fig, axes = figure(1.55 * len(measures) + 1.6, 0.36 * len(cases) + 1.3, theme, ncols=len(measures), sharey=True)
    names = list(cases)
    for ax, measure in zip(axes[0], measures, strict=True):
        values = [cases[name][measure] for name in names]
        tint = [colours.noise if name == best else colours.data for name in names]
        ax.barh(range(len(names)), values, height=0.62, color=tint)
        if best:
            ax.axvline(cases[best][measure], color=colours.noise, linestyle="--", linewidth=1.3)
        dress(ax, theme)
        ax.set_title(measure, loc="left", fontsize=10.5, color=colours.text)
        ax.set_yticks(range(len(names)), names)
        ax.locator_params(axis="x", nbins=3)
    axes[0, 0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=colours.text)
    fig.set_label(sentence(title or "Cases", (f"{name}: {pairs_words(cases[name])}" for name in names)))
    return fig


@typed_arguments
def neighbour_curves(
    distances: Mapping[str, Tensor],
    *,
    title: str = "How far is the nearest training image?",
    xlabel: str = "distance to the nearest training image",
    theme: str = "light",
) -> Figure:
    """name -> distances [N]: the share of images whose nearest training image is at most that far away."""
    fig, axes = figure(7.0, 3.6, theme)
    ax = axes[0, 0]
    for k, (name, values) in enumerate(distances.items()):
        ordered = np.sort(np.asarray(values, float))
        line = {key: value for key, value in _line(k, theme).items() if not key.startswith("marker")}
        ax.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", **line, label=name)
    ax.set(ylim=(-0.02, 1.02), xlim=(-0.15, None))
    legend(ax)
    dress(ax, theme, title=title, xlabel=xlabel, ylabel="share of images")
    medians = {name: float(np.median(np.asarray(values, float))) for name, values in distances.items()}
    fig.set_label(f"{title}: cumulative shares over the {xlabel}; medians: {pairs_words(medians)}")
    return fig


@typed_arguments
def scaling_panels(
    families: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    title: str = "Does size help?",
    theme: str = "light",
) -> Figure:
    """name -> measured rows, one per size: test loss and Fréchet distance over training compute, on log axes."""
    fig, axes = figure(9.2, 3.9, theme, ncols=2)
    labels = {"test_loss": "test loss (mean squared error)", "frechet_distance": PANELS["frechet_distance"]}
    for ax, (key, label) in zip(axes[0], labels.items(), strict=True):
        for k, (name, rows) in enumerate(families.items()):
            rows = sorted(rows, key=lambda row: row["training_flops"])
            x = [row["training_flops"] / 1e15 for row in rows]
            ax.plot(x, [row[key] for row in rows], **_line(k, theme), label=name if ax is axes[0, 0] else None)
            above = {"xytext": (6, 5), "ha": "left"} if k % 2 == 0 else {"xytext": (-6, -13), "ha": "right"}
            for row, work in zip(rows, x, strict=True):
                ax.annotate(
                    f"{row['parameters'] / 1e6:.1f} M",
                    (work, row[key]),
                    textcoords="offset points",
                    fontsize=9,
                    color=THEMES[theme].series[k],
                    **above,
                )
        ax.set(xscale="log", yscale="log", xticks=[0.5, 1, 2, 4])
        ax.margins(x=0.18, y=0.2)
        low, high = ax.get_ylim()
        ax.set_yticks([t for t in (0.2, 0.22, 0.24, 0.26, 0.28, 80, 100, 120, 150, 180) if low <= t <= high])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        dress(ax, theme, title=label, xlabel="training compute (PFLOP)", ylabel="")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)
    legend_below(fig, theme)
    parts = [
        _row_words(f"{label} of {name}", rows, "training_flops", key, 1e15)
        for key, label in labels.items() for name, rows in families.items()
    ]  # fmt: skip
    fig.set_label(sentence(f"{title}, over training compute in PFLOP", parts))
    return fig


@typed_arguments
def exponent(rows: Sequence[Mapping[str, Any]], measure: str) -> float:
    """The exponent a of the power law measure ~ compute^(-a), fitted to rows by least squares of the logarithms.

    Raises ValueError for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(f"A power law is fitted to two or more rows; got {len(rows)}.")
    compute, values = (np.log([row[key] for row in rows]) for key in ("training_flops", measure))
    return -float(np.polyfit(compute, values, 1)[0])


def _row_words(name: str, rows: Sequence[Mapping[str, Any]], over: str, key: str, unit: float = 1.0) -> str:
    points = sorted((row[over] / unit, row[key]) for row in rows)
    return curve_words(name, [x for x, _ in points], [y for _, y in points])


def _line(k: int, theme: str) -> dict[str, Any]:
    series = THEMES[theme].series
    styles = ("-", "--", "-.", ":")
    return {
        "color": series[k % len(series)],
        "marker": MARKERS[k % len(MARKERS)],
        "markersize": 5.5,
        "linestyle": styles[k % len(styles)] if k >= len(series) else "-",
        "linewidth": 2.0,
    }
