"""What the page The plane computes: its data, and the films of its views. Every number comes from the package."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from diffusion_explained.comparisons import one_shot
from diffusion_explained.data import toys
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.film import evenly_spaced
from diffusion_explained.noise import randn, stream
from diffusion_explained.plots.point_films import PlaneFilm, PlanePanel, caption, noised, plane_film, sampled
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Start as RunStart
from diffusion_explained.samplers import Step, run
from diffusion_explained.schedules import SCHEDULES, Level
from explorer.turns import Turn

POINTS = 2000  # that move
MOST_FRAMES = 49  # of a film
OF_DATA = 400  # Gaussians that make up a toy
WIDTH_OF_DATA = 0.06  # their standard deviation
OF_DRAWING = 300
DRAWN = "drawn"
MOST_STROKES = 1300  # characters of a drawing in the address
STROKES = re.compile(r"[0-9a-z]{4,}(-[0-9a-z]{4,})*", re.ASCII)
SIDE, DIGITS = 4.0, 36**2 - 1  # a coordinate from -SIDE to SIDE has two digits to the base 36
TOYS = {
    "moons": "Two moons",
    "eight_gaussians": "Eight clusters",
    "swiss_roll": "Swiss roll",
    "checkerboard": "Checkerboard",
    "spiral": "Two spirals",
    "ring": "Ring",
    "two_gaussians": "Two clusters",
}
RANDOM = ("ddpm", "euler_ancestral")  # samplers that add noise at each step


# -- data -----------------------------------------------------------------------------------------------------


def strokes_of(text: str) -> list[list[tuple[float, float]]]:
    """The strokes of a drawing, as the board writes them. Raises ValueError for anything else."""
    if len(text) > MOST_STROKES or not STROKES.fullmatch(text) or any(len(one) % 4 for one in text.split("-")):
        raise ValueError("These are no strokes: draw the data again.")
    strokes = []
    for stroke in text.split("-"):
        numbers = [int(stroke[k : k + 2], 36) for k in range(0, len(stroke), 2)]
        along = [round(2 * SIDE * number / DIGITS - SIDE, 3) for number in numbers]  # as the program prints them
        strokes.append(list(zip(along[::2], along[1::2], strict=True)))
    return strokes


class Strokes:
    """A drawing in the address: the strokes' points, four digits each."""

    def read(self, texts: list[str]) -> str:
        if len(texts) != 1 or not self.has(texts[0]):
            raise ValueError("Strokes, as the board writes them.")
        return texts[0]

    def write(self, value: str) -> list[str]:
        return [value]

    def has(self, value: object) -> bool:
        if value == "":
            return True
        try:
            Drawing(DRAWN, str(value)).points  # noqa: B018  # a drawing of a single place is no data
        except ValueError:
            return False
        return isinstance(value, str)


@dataclass(frozen=True)
class Drawing:
    """A toy by its name, or DRAWN with strokes."""

    toy: str
    strokes: str = ""

    @property
    def points(self) -> tuple[Tensor, Tensor]:
        """The centres [K, 2] of the data's Gaussians, and their labels [K]."""
        if self.toy == DRAWN:
            return toys.from_strokes(strokes_of(self.strokes), OF_DRAWING)
        return toys.toy(self.toy, OF_DATA)

    @property
    def mixture(self) -> GaussianMixture:
        """The data's distribution, a mixture whose denoiser is known in closed form. Callers only read it."""
        return _mixture(self)

    @property
    def modes(self) -> tuple[Tensor, float] | None:
        """The means [K, 2] and the standard deviation of data that consist of few clusters; None for others."""
        return toys.gaussian_modes(self.toy) if self.toy.endswith("gaussians") else None

    @property
    def num_classes(self) -> int:
        """How many classes the data have: moons, clusters, arms, strokes."""
        return int(self.mixture.classes.max()) + 1


@lru_cache(32)
def _mixture(data: Drawing) -> GaussianMixture:
    if data.modes is not None:
        means, std = data.modes
        return GaussianMixture(means, std, classes=range(len(means)))
    points, labels = data.points
    return GaussianMixture(points, WIDTH_OF_DATA, classes=labels)


@lru_cache(32)
def examples(data: Drawing) -> Tensor:
    """Points [OF_DATA, 2] of the data, to be shown."""
    return data.mixture.sample(OF_DATA, stream(1))[0]


# -- movement -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Movement:
    """All settings that determine how points move: data, schedule, sampler, noise, guidance."""

    data: Drawing
    schedule: str = "flow"
    sampler: str = "euler"
    steps: int = 32
    seed: int = 0
    label: int | None = None
    guidance_scale: float = 1.0
    points: int = POINTS

    def levels(self) -> list[Level]:
        """The levels that the sampler visits."""
        return SCHEDULES[self.schedule]().levels(self.steps)

    def start(self) -> RunStart:
        """The noise x_T [points, 2] at the first level, and the generator that a random sampler continues with."""
        schedule, generator = SCHEDULES[self.schedule](), stream(self.seed)
        x_T = schedule.init_noise_sigma * randn((self.points, 2), generator)
        return RunStart(x_T, self.levels(), generator)

    def exact(self, count: int) -> Denoiser:
        """The exact denoiser of this many points."""
        labels = None if self.label is None else torch.full((count,), self.label, dtype=torch.int64)
        return ExactDenoiser(self.data.mixture, labels, self.guidance_scale)

    def learned(self, model: Model, count: int) -> Denoiser:
        """A network as the denoiser of this many points, whatever schedule it was trained on."""
        labels = None if self.label is None else [self.label] * count
        denoise = model.denoiser(labels, self.guidance_scale)

        def at_any_level(x_t: Tensor, level: Level) -> Prediction:
            return one_shot(denoise, model.schedule, x_t, level)

        return at_any_level


def steps_of(movement: Movement, denoise: Denoiser, turn: Turn | None = None) -> list[Step]:
    """The steps of a run that a film shows, the last among them."""
    shown, steps = set(evenly_spaced(movement.steps, MOST_FRAMES)), []
    for step in run(movement.sampler, denoise, movement.start()):
        if turn is not None:
            turn((step.i + 1) / movement.steps, f"step {step.i + 1} of {movement.steps}")
        if step.i in shown:
            steps.append(step)
    return steps


def captions_of(steps: Sequence[Step]) -> list[str]:
    """One line per frame of a run."""
    return [*(caption(step.level) for step in steps), caption(steps[-1].next_level)]


def exact_panel(
    movement: Movement, title: str, turn: Turn, mixture: GaussianMixture | None = None
) -> tuple[PlanePanel, list[Step]]:
    """A run with the exact denoiser, as a panel; and its steps.

    mixture: for the density in the background; by default that of the data.
    """
    steps = steps_of(movement, movement.exact(movement.points), turn)
    background = mixture or movement.data.mixture
    return sampled(title, steps, movement.exact, background, examples(movement.data)), steps


def learned_panel(movement: Movement, model: Model, title: str, turn: Turn) -> tuple[PlanePanel, list[Step]]:
    """A run with a network, as a panel; and its steps. The density in the background is the exact one."""
    steps = steps_of(movement, movement.learned(model, movement.points), turn)
    panel = sampled(
        title, steps, lambda count: movement.learned(model, count), movement.data.mixture, examples(movement.data)
    )
    return panel, steps


def pairs_panel(
    movement: Movement,
    title: str,
    pairs: tuple[Tensor, Tensor],
    steps: Sequence[Step],
    mixture: GaussianMixture | None = None,
) -> PlanePanel:
    """Pairs (x_0, eps) as straight lines in x_0 and eps, at the levels of a run's frames.

    mixture: of x_0, for the density in the background; by default that of the data.
    """
    levels = [*(step.level for step in steps), steps[-1].next_level]
    return noised(title, *pairs, levels, mixture or movement.data.mixture, examples(movement.data))


def film_of_panels(movement: Movement, panels: Sequence[PlanePanel], steps: Sequence[Step]) -> PlaneFilm:
    """Panels of one run side by side."""
    return plane_film(panels, examples(movement.data), captions_of(steps))


def independent_pairs(movement: Movement) -> tuple[Tensor, Tensor]:
    """Pairs as training draws them: data x_0 and, independent of it, noise eps, [points, 2] each.

    The noise is that from which the run of the same settings starts.
    """
    eps = randn((movement.points, 2), stream(movement.seed))
    x_0, _ = movement.data.mixture.sample(movement.points, stream(movement.seed + 1))
    return x_0, eps


def faster(movement: Movement) -> Movement:
    """The same run with fewer points, for a network that is still in training."""
    return replace(movement, points=400, steps=min(movement.steps, 32))
