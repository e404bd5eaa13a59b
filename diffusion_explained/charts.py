"""Small plots below the scrubber: the browser draws them, from numbers that are computed once for all frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from diffusion_explained.checks import check_finite, check_some, float_data, typed_arguments, whole
from diffusion_explained.messages import shortened
from diffusion_explained.schedules import Level

Numbers = Sequence[float] | Tensor | np.ndarray

HISTOGRAM_RANGE = (-3.0, 3.0)
MOST_VALUES = 8  # a list of more values is described by its ends and its extremes
DECIMALS = 6  # smaller values are zero for a reader


@dataclass(frozen=True)
class Curve:
    """A line of a chart, and its name.

    role: its colour, "data" or "noise" of the palette, "muted", or "series-0" to "series-6"; the name of a curve of the
    series stands beside it. dots: draw a dot at each point, of another shape in each series.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    role: str = "data"
    name: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """A small plot below the panels that follows the slider: curves, with a marker or a histogram for each frame.

    x, y: the ranges of the axes; markers: one (x, y) per frame; bars: one list of heights per frame, over the x range.
    cursor: one x per frame, of a line across all curves; log: the axes with a logarithmic scale, "x", "y" or "xy".
    """

    title: str
    alt: str
    x_label: str
    x: tuple[float, float]
    y: tuple[float, float]
    curves: tuple[Curve, ...] = ()
    markers: tuple[tuple[float, float], ...] | None = None
    bars: tuple[tuple[float, ...], ...] | None = None
    cursor: tuple[float, ...] | None = None
    log: str = ""


@dataclass(frozen=True)
class Triangle:
    """The predictions eps_uncond, eps_cond and the guided one as arrows from one origin, drawn to measure.

    scales: w, one per frame. sides: per frame and image (length of eps_uncond, and of eps_cond - eps_uncond the part
    along it and the part across it), as root mean squares over all pixels, from `guidance.sides`.
    """

    title: str
    alt: str
    scales: tuple[float, ...]
    sides: tuple[tuple[tuple[float, float, float], ...], ...]


@typed_arguments
def histogram_chart(frames: Sequence[Tensor], bins: int = 48) -> Chart:
    """A histogram of the pixel values of each frame [..., C, H, W], with the density of N(0, 1).

    The channels of colour images are counted together. Values outside the range are counted in the outermost bars.
    """
    low, high = HISTOGRAM_RANGE
    check_some("frames", frames)
    bins, bars = whole("bins", bins, 1, 1000), []
    for x_t in frames:
        check_finite(float_data("each frame", x_t), "frames")
        values = np.clip(x_t.detach().float().cpu().flatten().numpy(), low, high)
        heights, _ = np.histogram(values, bins=bins, range=(low, high), density=True)
        bars.append(tuple(round(float(height), 4) for height in heights))
    grid = np.linspace(low, high, 121)
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    normal = Curve(_numbers(grid), _numbers(density), "noise", "N(0, 1)")
    alt = "the histogram of the pixel values of x_t at this frame, with the density of the standard normal over it"
    # a clean image has nearly all pixels at two values: these spikes are cut off, so that noise stays visible
    what = "pixel value" if frames[0].shape[-3] == 1 else "value of red, green or blue"
    return Chart("pixels of xₜ", alt, what, (low, high), (0.0, 1.0), (normal,), bars=tuple(bars))


@typed_arguments
def level_chart(title: str, alt: str, levels: Sequence[Level], values: Sequence[float]) -> Chart:
    """A quantity of each level, from data (0) to noise (1), with one marker per frame at the frame's level.

    The frames' levels are evenly spaced along the schedule's path. Infinite values are not drawn, and their markers
    stand at the end of the curve.

    Raises ValueError unless there is one value per level, and for fewer than two levels.
    """
    if len(levels) != len(values) or len(levels) < 2:
        raise ValueError(f"Give one value per level, at least two; got {len(levels)} levels, {len(values)} values.")
    places = np.linspace(0, 1, len(levels))
    array = np.asarray(values, float)
    finite = np.isfinite(array)
    low, high = float(array[finite].min()), float(array[finite].max())
    margin = 0.06 * (high - low) or 0.5
    curve = Curve(_numbers(places[finite]), _numbers(array[finite]))
    markers = tuple(zip(_numbers(places), _numbers(np.clip(array, low, high)), strict=True))
    y = (low - margin, high + margin)
    return Chart(title, alt, "from data (0) to noise (1)", (0.0, 1.0), y, (curve,), markers=markers)


@typed_arguments
def curves_chart(
    title: str,
    curves: Sequence[Curve],
    x_label: str,
    *,
    cursor: Sequence[float] | None = None,
    log: str = "",
) -> Chart:
    """A chart of several named curves; its alt text says where each begins and ends, and its extremes.

    Values that are not finite, or not positive on a logarithmic axis, are not drawn.
    cursor, log: as for `Chart`. Raises ValueError if nothing is left to draw, and for another `log`.
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy"; got {shortened(log)}.')
    drawn, words = [], []
    for curve in curves:
        x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
        some = np.isfinite(x) & np.isfinite(y) & ((x > 0) | ("x" not in log)) & ((y > 0) | ("y" not in log))
        drawn.append(replace(curve, x=_numbers(x[some]), y=_numbers(y[some])))
        words.append(curve_words(curve.name, x[some], y[some]))
    if not any(curve.x for curve in drawn):
        raise ValueError(f"The chart {title!r} has no value that can be drawn.")
    across = (
        (min(cursor), max(cursor)) if cursor else _range([one for curve in drawn for one in curve.x], "x" in log, 0.04)
    )
    upward = _range([value for curve in drawn for value in curve.y], "y" in log, 0.06)
    places = None if cursor is None else tuple(cursor)
    return Chart(title, "; ".join(words), x_label, across, upward, tuple(drawn), cursor=places, log=log)


def _range(values: Sequence[float], log: bool, margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        part = (high / low) ** margin if high > low else 1.5
        return low / part, high * part
    part = margin * (high - low) if high > low else 0.5
    return low - part, high + part


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


def three_digits(value: float) -> str:
    """A number with three digits; rounding errors about zero are 0."""
    rounded = round(float(value), DECIMALS) + 0.0
    return f"{rounded if abs(value) < 1 else float(value):.3g}"


def curve_words(name: str, x: Numbers, y: Numbers) -> str:
    """A curve by its ends, and by its highest and lowest point where they lie between: "loss 0.9 at 1, 0.1 at 500"."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if not len(y):
        return f"{name} without values"
    if len(y) <= MOST_VALUES:
        return f"{name} " + ", ".join(f"{three_digits(b)} at {three_digits(a)}" for a, b in zip(x, y, strict=True))
    first, last = (f"{three_digits(y[k])} at {three_digits(x[k])}" for k in (0, -1))
    words = f"{name} from {first} to {last}"
    inner = []
    for what, k, end in (("highest", int(y.argmax()), y[[0, -1]].max()), ("lowest", int(y.argmin()), y[[0, -1]].min())):
        if three_digits(y[k]) != three_digits(end):
            inner.append(f"{what} {three_digits(y[k])} at {three_digits(x[k])}")
    return ", ".join([words, *inner])
