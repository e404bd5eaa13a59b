"""A run in the plane as a film of points, which `plane.js` draws on a canvas in notebooks and in the explorer.

All frames are computed once and sent once, as bytes; between two frames the browser moves each point along a straight
line. A film has one panel, or several side by side that one slider moves: an exact and a learned denoiser, straight
pairs and the flow that their mean is.

    steps = list(samplers.euler(ExactDenoiser(mixture), x_T, levels))
    panel = sampled("exact denoiser", steps, lambda n: ExactDenoiser(mixture), mixture)
    film = plane_film([panel], mixture.means.float(), [caption(step.level) for step in steps] + ["data"])
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import all_of, check_finite, float_data, same_shape, typed_arguments
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.film import shown
from diffusion_explained.forward import add_noise
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.points import plane
from diffusion_explained.predictions import target
from diffusion_explained.samplers import Step, euler
from diffusion_explained.schedules import Level

LAYERS = ("data", "density", "paths", "arrows", "score", "predicted")  # of the picture, beside the points
REACH = 8.0  # coordinates are sent as 16-bit numbers from -REACH to REACH
FIELD = 4.5  # the half side of the square on which density and arrows are computed
BINS, ARROWS = 56, 19  # squares of the density and arrows along each side of it
PREDICTED = 64  # points whose predicted x_0 is shown
ON_DATA = 0.15  # a point at most this far from a data point counts as being on the data

DenoiserOf = Callable[[int], Denoiser]  # called with a number of points n; returns a denoiser for x_t [n, 2]


@dataclass(frozen=True)
class PlanePanel:
    """A panel of a film: the same points in every frame, and fields in the background.

    points: [F, N, 2], as they are drawn: divided by the level's standard deviation where that exceeds 1 (`film.shown`).
    alts: one sentence per frame, for readers who do not see the points.
    density: [F, BINS, BINS] in [0, 1], the rows from the bottom; arrows, score: [F, ARROWS^2, 2], the 95th percentile
        of whose lengths in each frame is 1; predicted: [F, P, 2], the predicted x_0 of the first P points. None for a
        layer that the panel does not have.
    """

    title: str
    points: Tensor
    alts: tuple[str, ...]
    density: Tensor | None = None
    arrows: Tensor | None = None
    score: Tensor | None = None
    predicted: Tensor | None = None

    def to_message(self) -> dict[str, Any]:
        """The panel for plane.js, as plain JSON; numbers are bytes in base64."""
        message: dict[str, Any] = {"title": self.title, "alts": list(self.alts), "points": _places(self.points)}
        if self.density is not None:
            message["density"] = _bytes(self.density.mul(255).round().to(torch.uint8))
        for name, vectors in (("arrows", self.arrows), ("score", self.score)):
            if vectors is not None:
                message[name] = _bytes(vectors.float().mul(80).round().to(torch.int8))
        if self.predicted is not None:
            message["predicted"] = _places(self.predicted)
        return message


@dataclass(frozen=True)
class PlaneFilm:
    """Panels side by side, with as many frames as there are captions, over data points [K, 2].

    ends: the names of the slider's two ends. The tensors are those of `PlanePanel`.
    """

    panels: tuple[PlanePanel, ...]
    captions: tuple[str, ...]
    data: Tensor
    ends: tuple[str, str] = ("noise", "data")
    _message: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def to_message(self) -> dict[str, Any]:
        """The message for plane.js, as plain JSON; numbers are bytes in base64. Its key is a digest of the content."""
        if not self._message:
            message: dict[str, Any] = {
                "panels": [panel.to_message() for panel in self.panels],
                "captions": list(self.captions),
                "ends": list(self.ends),
                "data": _places(self.data),
                "reach": REACH,
                "field": FIELD,
                "bins": BINS,
                "arrows": ARROWS,
                "colours": {name: {"data": one.data, "noise": one.noise} for name, one in THEMES.items()},
            }
            message["key"] = hashlib.sha256(json.dumps(message).encode()).hexdigest()[:16]
            self._message.update(message)
        return self._message

    @property
    def key(self) -> str:
        """A digest of the film's content, by which a browser recognizes a film that it already has."""
        return str(self.to_message()["key"])


@typed_arguments
def plane_film(
    panels: Sequence[PlanePanel], data: Tensor, captions: Sequence[str], *, ends: tuple[str, str] = ("noise", "data")
) -> PlaneFilm:
    """A film of panels over data points [K, 2]; captions: one line per frame.

    Raises ValueError for no panel, for panels of other numbers of frames, and for data of another shape.
    """
    panels = all_of("panels", panels, PlanePanel)
    if not panels or not captions:
        raise ValueError("A film has at least one panel and one frame.")
    for panel in panels:
        if len(panel.points) != len(captions) or len(panel.alts) != len(captions):
            raise ValueError(
                f"Panel {panel.title!r} has {len(panel.points)} frames, but there are {len(captions)} captions."
            )
    return PlaneFilm(tuple(panels), tuple(captions), _points("data", data), ends)


@typed_arguments
def sampled(
    title: str,
    steps: Sequence[Step],
    denoiser_of: DenoiserOf | None = None,
    mixture: GaussianMixture | None = None,
    data: Tensor | None = None,
) -> PlanePanel:
    """A sampler's steps as a panel: x_t [N, 2] at the level of each step, and the end.

    Args:
        denoiser_of: of the run; gives the arrows, x_next - x_t of an Euler step at each place of a grid, and the score.
        mixture: the data's distribution, for the density of x_t in the background.
        data: points [K, 2]; the text alternatives say how many of the points are on them.

    Raises ValueError for no steps, and for points that are not finite [N, 2].
    """
    steps = all_of("steps", steps, Step)
    if not steps:
        raise ValueError("There are no steps to show: a sampler yields at least one.")
    levels = [*(step.level for step in steps), steps[-1].next_level]
    points = torch.stack(
        [
            shown(_points("x_t", x), level)
            for x, level in zip([*(s.x_t for s in steps), steps[-1].x_next], levels, strict=True)
        ]
    )
    predicted = torch.stack([step.pred.x_0[:PREDICTED] for step in [*steps, steps[-1]]])
    arrows = score = None
    if denoiser_of is not None:
        arrows, score = _fields(steps, denoiser_of)
    return PlanePanel(title, points, _alts(points, levels, data), _densities(levels, mixture), arrows, score, predicted)


@typed_arguments
def noised(
    title: str,
    x_0: Tensor,
    eps: Tensor,
    levels: Sequence[Level],
    mixture: GaussianMixture | None = None,
    data: Tensor | None = None,
) -> PlanePanel:
    """Pairs of data and noise as a panel: x_t = alpha * x_0 + sigma * eps at each level, a straight line for a flow.

    x_0, eps: [N, 2]; the other arguments are those of `sampled`. Raises ValueError for other shapes.
    """
    same_shape("x_0 and eps", _points("x_0", x_0), _points("eps", eps))
    points = torch.stack([shown(add_noise(x_0, eps, level), level) for level in levels])
    predicted = x_0[:PREDICTED].expand(len(levels), -1, -1)
    return PlanePanel(title, points, _alts(points, levels, data), _densities(levels, mixture), predicted=predicted)


def caption(level: Level) -> str:
    """A level in one line: its time, alpha and sigma."""
    if level.sigma == 0:
        return "data · α = 1 · σ = 0"
    t = f"{level.t:.0f}" if level.t >= 10 else f"{level.t:.2f}"
    return f"t = {t} · α = {level.alpha:.2f} · σ = {level.sigma:.2f}"


def _points(what: str, x: Tensor) -> Tensor:
    if float_data(what, x).ndim != 2 or x.shape[1] != 2 or len(x) == 0:
        raise ValueError(f"{what} must be points [N, 2], N of 1 or more; got {list(x.shape)}.")
    check_finite(x, what)
    return x.detach().cpu().float()


def _grid(bins: int, level: Level) -> Tensor:
    """The places [bins^2, 2] at which a field is computed, in the coordinates of x_t at the level."""
    return plane(FIELD, bins) / _scale(level)


def _scale(level: Level) -> float:
    """The factor from x_t to where it is drawn (`film.shown`)."""
    return float(shown(torch.ones(1, 1, dtype=torch.float32, device="cpu"), level))


def _fields(steps: Sequence[Step], denoiser_of: DenoiserOf) -> tuple[Tensor, Tensor]:
    """The arrows and the score [F, ARROWS^2, 2] at each step's level; the clean level at the end has none."""
    denoise, arrows, scores = denoiser_of(ARROWS**2), [], []
    for step in steps:
        moved = next(euler(denoise, _grid(ARROWS, step.level), [step.level, step.next_level]))
        pred: Prediction = moved.pred
        arrows.append(shown(moved.x_next, step.next_level) - shown(moved.x_t, step.level))
        scores.append(target("score", pred.x_0, pred.eps, step.level.alpha, step.level.sigma))
    arrows.append(arrows[-1])
    scores.append(scores[-1])
    return _scaled(torch.stack(arrows)), _scaled(torch.stack(scores))


def _scaled(vectors: Tensor) -> Tensor:
    """Vectors [F, G, 2], in each frame divided by the 95th percentile of their lengths, and at most 1.5 long."""
    lengths = vectors.norm(dim=-1)
    usual = lengths.quantile(0.95, dim=1).clamp(min=1e-9)
    scaled = vectors / usual[:, None, None]
    return scaled * (1.5 / (lengths / usual[:, None]).clamp(min=1.5))[..., None]


def _densities(levels: Sequence[Level], mixture: GaussianMixture | None) -> Tensor | None:
    """The density [F, BINS, BINS] of x_t at each level, in each frame divided by its maximum.

    A Gaussian is a product of one in x and one in y, so a mixture on a grid is a product of two matrices.
    """
    if mixture is None:
        return None
    means, frames = mixture.means.cpu(), []  # [K, 2]
    along = plane(FIELD, BINS).reshape(BINS, BINS, 2)[0, :, 0].to(means)
    for level in levels:
        variance = (level.alpha * mixture.std.cpu()) ** 2 + level.sigma**2  # [K]
        x, y = (
            (-((along[:, None] / _scale(level) - level.alpha * of_axis) ** 2) / (2 * variance)).exp()
            for of_axis in means.unbind(1)
        )  # [BINS, K] each
        density = (y * (mixture.weights.cpu() / variance)) @ x.T
        frames.append((density / density.max()).float())
    return torch.stack(frames)


def _alts(points: Tensor, levels: Sequence[Level], data: Tensor | None) -> tuple[str, ...]:
    """A sentence per frame of points [F, N, 2]: how far they spread, and how many of them are on the data."""
    words = []
    for x, level in zip(points, levels, strict=True):
        text = f"{caption(level)}: {len(x):,} points, standard deviation {float(x.std(dim=0, correction=0).mean()):.2f}"
        if data is not None:
            near = torch.cdist(x[:400], data.float()).amin(dim=1) <= ON_DATA
            text += f", {float(near.float().mean()):.0%} of them on the data"
        words.append(text)
    return tuple(words)


def _bytes(numbers: Tensor) -> str:
    return base64.b64encode(numbers.contiguous().numpy().tobytes()).decode()


def _places(x: Tensor) -> str:
    """Coordinates [..., 2] as little-endian 16-bit numbers."""
    return _bytes((x.float() / REACH).clamp(-1, 1).mul(32767).round().to(torch.int16))
