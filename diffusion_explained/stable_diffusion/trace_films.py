"""Films of traces for the scrubber: one run with its norms, or one beside a run of one of our small models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.checks import typed_arguments
from diffusion_explained.film import Film, evenly_spaced, film, level_caption, mosaic, pixels, shown
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.families import MICRO, MICRO_TITLE
from diffusion_explained.stable_diffusion.traces import Trace

LATENTS = ("latents xₜ", "the noisy latents in colours of a linear preview")
DECODED = ("predicted x₀, decoded", "the picture that the network predicts, decoded")


@typed_arguments
def film_of_trace(trace: Trace, most: int = 60) -> Film:
    """A film of the latents and the decoded predicted x_0 at each step and at the end, with the norms of both noises.

    Of a run with more than `most` steps, `most` evenly spread steps are shown.
    """
    count = len(trace.rows)
    kept = evenly_spaced(count, most)
    levels = levels_of_rows(trace.rows)
    captions = [level_caption(k, levels[k], count) for k in kept]
    panels = [(*LATENTS, mosaics(trace.latents[[*kept, count]])), (*DECODED, mosaics(trace.x_0[[*kept, count - 1]]))]
    return film(panels, [*captions, ending(count)], charts=norm_charts(trace.rows, kept))


def norm_charts(rows: Sequence[dict[str, Any]], kept: Sequence[int]) -> list[Chart]:
    """Charts of the norms of the two predicted noises and of their difference at each step, averaged over the images.

    kept: the steps that have a frame; one more frame follows, for the end.
    """
    cond = [_mean(row["cond_norm"]) for row in rows]
    guided = all(row["difference_norm"] is not None for row in rows)
    uncond = [_mean(row["uncond_norm"]) for row in rows] if guided else []
    curves = [step_curve(cond, "data", "with the prompt")]
    curves += [step_curve(uncond, "noise", "without")] if guided else []
    alt = "the norm of the noise predicted with the prompt, and without it, at each step"
    charts = [step_chart("norm of the predicted noise ‖ε‖", alt, curves, kept)]
    if guided:
        difference = [_mean(row["difference_norm"]) for row in rows]
        alt = "the norm of the difference of the two predicted noises at each step"
        charts.append(step_chart("norm of their difference", alt, [step_curve(difference, "data", "")], kept))
    return charts


@typed_arguments
def side_by_side(steps: Sequence[Step], trace: Trace, ours: str) -> Film:
    """A film of a run of our model (named `ours`, in pixels) beside the trace's first image, at the same steps.

    Raises ValueError when the two runs have different numbers of steps.
    """
    if len(steps) != len(trace.rows):
        raise ValueError(f"{ours} took {len(steps)} steps and the trace {len(trace.rows)}: give runs of equal length.")
    size = trace.x_0.shape[2:4]

    def enlarged(images: Any) -> np.ndarray:
        first = Image.fromarray(pixels(images)[0])
        return np.asarray(first.resize(size[::-1], Image.Resampling.NEAREST))

    count, theirs = len(steps), short_name(trace)
    x_t = [enlarged(shown(step.x_t, step.level)) for step in steps]
    x_0 = [enlarged(step.pred.x_0) for step in steps]
    panels = [
        (f"{ours}: xₜ", "the noisy image of our model", [*x_t, enlarged(steps[-1].x_next)]),
        (f"{ours}: predicted x₀", "the clean image that our network predicts", [*x_0, x_0[-1]]),
        (f"{theirs}: {LATENTS[0]}", LATENTS[1], mosaics(trace.latents[:, :1])),
        (f"{theirs}: {DECODED[0]}", DECODED[1], mosaics(trace.x_0[[*range(count), count - 1], :1])),
    ]
    curves = [
        step_curve([step.level.log_snr for step in steps], "noise", ours),
        step_curve([level.log_snr for level in levels_of_rows(trace.rows)], "data", theirs),
    ]
    alt = "log signal-to-noise ratio of both runs at each step"
    chart = step_chart("how clear the signal is: log SNR", alt, curves, range(count))
    captions = [f"step {k + 1} of {count}" for k in range(count)]
    return film(panels, [*captions, ending(count)], rows=(4,), charts=[chart])


def short_name(trace: Trace) -> str:
    """A short name for the model of a trace."""
    return MICRO if trace.settings["model"] == MICRO_TITLE else "Stable Diffusion"


def levels_of_rows(rows: Sequence[dict[str, Any]]) -> list[Level]:
    """The levels that a trace's run visited."""
    return [Level(row["t"], row["alpha"], row["sigma"]) for row in rows]


def ending(count: int) -> str:
    """The caption of the last frame, which shows the result after all steps."""
    return f"after {count} step{'s' if count > 1 else ''}"


def mosaics(images: np.ndarray) -> list[np.ndarray]:
    """Bytes [n, B, h, w, 3] as one mosaic per frame."""
    opaque = np.concatenate([images, np.full((*images.shape[:-1], 1), 255, np.uint8)], axis=-1)
    return [mosaic(frame) for frame in opaque]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def step_curve(values: Sequence[float], role: str, name: str) -> Curve:
    """A curve of values over the steps; values that are not finite (pure noise: log SNR -inf) are left out."""
    kept = [(k + 1, round(value, 4)) for k, value in enumerate(values) if np.isfinite(value)]
    return Curve(tuple(float(k) for k, _ in kept), tuple(value for _, value in kept), role, name)


def step_chart(title: str, alt: str, curves: Sequence[Curve], kept: Sequence[int]) -> Chart:
    """Chart curves over the steps, with a marker on the last curve for each frame: the kept steps, then the end."""
    values = [y for curve in curves for y in curve.y]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.12 * (high - low) or max(0.05 * abs(high), 0.05)
    marked = curves[-1]
    count = int(max((x for curve in curves for x in curve.x), default=1))
    places = [*(k + 1 for k in kept), count]
    markers = [(float(k), float(np.interp(k, marked.x, marked.y)) if marked.x else low) for k in places]
    x = (1.0, float(max(count, 2)))
    return Chart(title, alt, "step", x, (low - margin, high + margin), tuple(curves), markers=tuple(markers))
