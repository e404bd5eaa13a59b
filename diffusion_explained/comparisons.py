"""Compare samplers from the same noise; branch a run; predict at any level of any schedule; time an evaluation."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, typed_arguments, whole
from diffusion_explained.denoisers import Denoiser, NetworkDenoiser, Prediction
from diffusion_explained.devices import to_float64
from diffusion_explained.forward import like
from diffusion_explained.noise import generators, randn
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Start, Step, final, run
from diffusion_explained.schedules import Level, Schedule, check_decreasing, levels_of_same_snr


class Counted:
    """A denoiser that counts its evaluations; a guided prediction counts once, although it runs both conditions.

    x_t is [B, ...].
    """

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise, self.evaluations = denoise, 0

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        self.evaluations += 1
        return self.denoise(x_t, level)


@typed_arguments
def rms_distance(a: Tensor, b: Tensor) -> float:
    """The root mean square difference of two batches, in pixel values (black to white is 2).

    a and b are [B, ...]. Raises ValueError for shapes that differ.
    """
    if float_data("a", a).shape != float_data("b", b).shape:
        raise ValueError(f"Only batches of the same shape can be compared; got {tuple(a.shape)} and {tuple(b.shape)}.")
    for batch in (a, b):
        check_finite(batch, "images")
    return float((to_float64(a) - to_float64(b)).square().mean().sqrt())


@dataclass(frozen=True)
class Finish:
    """The result of one sampler with one number of steps; `distance` is that to the reference, in pixel values."""

    sampler: str
    num_inference_steps: int
    evaluations: int
    distance: float
    x_0: Tensor


@typed_arguments
def race(
    model: Model,
    denoise: Denoiser,
    reference: Tensor,
    samplers: Sequence[str],
    steps: Sequence[int],
    *,
    seed: int = 0,
    spacing: str | Schedule | None = None,
) -> Iterator[Finish]:
    """Run every sampler with every number of steps from the same noise (the model's noise of `seed`).

    Yields one `Finish` per sampler and number of steps.

    reference: the images [B, C, H, W] at which an exact solver of the same ODE ends, such as Heun with very many steps.
    Samplers that add noise end at other images by design, so their distance does not go to zero.
    spacing: the spacing of the levels, as for `Model.levels`; None for the schedule's default.
    """
    for name in samplers:
        for count in steps:
            counted = Counted(denoise)
            x_0 = final(model.steps(counted, len(reference), count, sampler=name, spacing=spacing, seed=seed))
            yield Finish(name, count, counted.evaluations, rms_distance(x_0, reference), x_0)


@typed_arguments
def branch(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    i: int,
    *,
    sampler: str = "euler",
    seed: int = 0,
    **options: Any,
) -> Iterator[Step]:
    """Sample again from step i of a run on, with another denoiser (class, guidance), sampler or noise.

    Only the steps from i on are computed. A sampler that draws noise gets the noise that a whole run with this seed
    draws at the same steps: a branch in which nothing was changed ends where the run ends. DPM-Solver++ (2M) has no
    earlier prediction in its first step, which is therefore of first order.

    Args:
        x_t: the run's state before step i, [B, ...], as `steps[i].x_t`.
        levels: those of the whole run, decreasing in noise; i: from 0 to their number - 2.
        sampler, options: a name of `samplers.SAMPLERS`, and that sampler's options.
        seed: that of the first image, as for `Model.steps`.

    Yields `Step`s that are numbered as in the whole run: the first one has the number i.
    Raises ValueError for a step that the run does not have.
    """
    check_decreasing(levels)
    i = whole("i", i, 0, len(levels) - 2, " (the last step of the run)")
    streams = generators(len(float_data("x_t", x_t)), seed)
    for _ in range(i + 1):  # the run's x_T, and the noise of the steps before this one
        randn(x_t.shape, streams)
    steps = run(sampler, denoise, Start(x_t, list(levels[i:]), streams), **options)
    return (replace(step, i=step.i + i) for step in steps)


@dataclass(frozen=True)
class Timing:
    """The seconds of one network evaluation: the median, the lowest and the highest of `repeats` measurements.

    disturbed: whether the result is not reliable, because the measurements differ too much (highest over lowest above
    STEADY) or because other work is known to have run at the same time.
    """

    seconds: float
    low: float
    high: float
    repeats: int
    disturbed: bool = False


STEADY = 1.5


@typed_arguments
def time_evaluation(
    denoise: Denoiser,
    x_t: Tensor,
    level: Level,
    *,
    repeats: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time denoise(x_t, level): two evaluations to warm up, then the median of `repeats` measurements.

    A sampler's time is its number of network evaluations times this; the arithmetic between them is negligible.
    Raises ValueError for fewer than 3 repeats, which show no spread.

    x_t is [B, ...], at the level.
    """
    repeats = whole("repeats", repeats, 3)  # fewer measurements show no spread
    readings: list[float] = []
    for reading in range(-2, repeats):
        begin = clock()
        with torch.no_grad():
            denoise(x_t, level).x_0.flatten()[0].item()  # waits for a GPU
        if reading >= 0:
            readings.append(clock() - begin)
    low, high = min(readings), max(readings)
    return Timing(statistics.median(readings), low, high, repeats, disturbed=high > STEADY * low)


@typed_arguments
def level_of_same_snr(schedule: Schedule, level: Level) -> Level:
    """The level of `schedule` that is as noisy as `level`: see `levels_of_same_snr`."""
    return levels_of_same_snr(schedule, [level])[0]


@torch.no_grad()
@typed_arguments
def one_shot(denoise: Denoiser, schedule: Schedule, x_t: Tensor, level: Level) -> Prediction:
    """The prediction, in one evaluation, of a network trained on `schedule` for an x_t at a level of another schedule.

    x_t is scaled to the level of the same signal-to-noise ratio: by alpha' / alpha, or by sigma' / sigma where noise
    dominates; x_0 and eps mean the same on both paths.

    x_t and both predictions are [B, ...].
    """
    own = level_of_same_snr(schedule, level)
    return denoise(x_t * _scale(own, level), own)


@torch.no_grad()
@typed_arguments
def one_shots(denoise: NetworkDenoiser, schedule: Schedule, x_t: Tensor, levels: Sequence[Level]) -> Prediction:
    """`one_shot` of a batch x_t [B, ...] with one level per image: one network evaluation for all of them.

    Raises ValueError unless there is one level per image.
    """
    if len(levels) != len(x_t):
        raise ValueError(f"Give one level per image: got {len(levels)} levels for {len(x_t)} images.")
    own = levels_of_same_snr(schedule, levels)
    scales = torch.tensor(list(map(_scale, own, levels)), dtype=torch.float64, device="cpu")
    numbers: Any = torch.tensor(own, dtype=torch.float64, device="cpu")  # this level's numbers are [B], not floats
    return denoise(like(scales, x_t) * x_t, Level(*numbers.unbind(1)))


def _scale(own: Level, level: Level) -> float:
    return own.sigma / level.sigma if level.sigma > level.alpha else own.alpha / level.alpha
