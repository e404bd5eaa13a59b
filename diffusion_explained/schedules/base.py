"""`Level`, and `Schedule`, the interface of all schedules that training and samplers use."""

import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_explained.checks import check_kind_of, check_options, typed_arguments, whole
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.messages import shortened

MOST_STEPS = 100_000  # of a sampling run or a schedule: a mistyped, far larger number would exhaust the memory


class Level(NamedTuple):
    """A noise level: at time t, a noisy sample is x_t = alpha * x_0 + sigma * eps."""

    t: float
    alpha: float
    sigma: float

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio alpha^2 / sigma^2 (VDM, Eq. 2); +inf when clean, 0 in pure noise."""
        return math.inf if self.sigma == 0 else (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> float:
        """2 * log(alpha / sigma), the log of the signal-to-noise power ratio; +inf when clean, -inf in pure noise."""
        if self.sigma == 0:
            return math.inf
        return 2 * math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


class Schedule(ABC):
    """The interface of all schedules; a subclass defines alpha, sigma, the training times and the sampling times."""

    init_noise_sigma: float = 1.0  # standard deviation of x_T, the noise that sampling starts from
    clean: Level = Level(0.0, 1.0, 0.0)

    @abstractmethod
    def alpha(self, t: Tensor | float) -> Tensor:
        """The factor on the data at time t (float64, the shape of t). t: a number [], or one per image [B]."""

    @abstractmethod
    def sigma(self, t: Tensor | float) -> Tensor:
        """The factor on the noise at time t (float64, the shape of t). t: a number [], or one per image [B]."""

    @abstractmethod
    def sample_t(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the training times of a batch (float64 [B], on the CPU)."""

    @abstractmethod
    def timesteps(self, num_inference_steps: int) -> Tensor:
        """The times that sampling visits, in decreasing order (float64 [n])."""

    @abstractmethod
    def time_of_snr(self, snr: Tensor | float) -> Tensor:
        """The time t at which alpha(t)^2 / sigma(t)^2 is snr, the inverse of the SNR in closed form.

        snr: from 0 (pure noise) to inf (clean), of any shape; the result is float64, of the same shape. Where no time
        of the schedule has this ratio, its first or its last one. Raises ValueError for a negative ratio or NaN.
        """

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The cleanest and the noisiest time that sampling visits."""

    @abstractmethod
    def network_time(self, t: Tensor | float) -> Tensor:
        """The network's time input at time t, in training and in sampling (float32, the shape of t).

        By default it is 0 to 1000 for DDPM and flow matching, and 250 * ln(sigma), from -1554 to 1096, for EDM; with
        the clock "c_noise" it is ln(sigma / alpha) / 4. t: a number [], or one per image [B].
        """

    def time_at(self, level: Level) -> float:
        """The network's time input at a level. Raises ValueError for anything that is not a Level."""
        check_kind_of("level", level, Level)
        return float(self.network_time(level.t))

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """A description that can be written as JSON; `schedule_from_config` builds the same schedule from it."""

    def level(self, t: float) -> Level:
        """The level at one time. Raises ValueError if t is not a number, or is outside the schedule's range."""
        if float64_on_cpu("t", t).ndim or isinstance(t, bool):
            raise ValueError(f"t must be one number; got {shortened(t)}. For several times, use levels_at.")
        return Level(float(t), float(self.alpha(t)), float(self.sigma(t)))

    def levels_at(self, timesteps: Sequence[float] | Tensor) -> list[Level]:
        """The levels at the given timesteps (decreasing), followed by the clean level: n + 1 levels for n steps.

        Raises ValueError for an empty list, and for timesteps whose levels do not decrease in noise.

        timesteps: [n].
        """
        times = float64_on_cpu("timesteps", timesteps)
        if times.ndim != 1 or not len(times):
            raise ValueError(
                f"timesteps must be a list [n] of one or more, decreasing from noise to data; got {list(times.shape)}."
            )
        columns = (times, self.alpha(times), self.sigma(times))
        levels = [Level(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        levels.append(self.clean)
        check_decreasing(levels)
        return levels

    def levels(self, num_inference_steps: int, *args: Any, **options: Any) -> list[Level]:
        """The n levels at the times that `timesteps` returns for the same arguments, followed by the clean level."""
        check_options(f"{type(self).__name__}.levels", options, inspect.signature(self.timesteps).parameters)
        return self.levels_at(self.timesteps(num_inference_steps, *args, **options))


@typed_arguments
def levels_of_same_snr(schedule: Schedule, levels: Sequence[Level]) -> list[Level]:
    """The levels of `schedule` that are as noisy as these: equal alpha^2 / sigma^2 (`Schedule.time_of_snr`).

    All Gaussian paths agree up to scale and clock, so a network trained on one schedule can look at another's x_t.
    Beyond the schedule's own noisiest or cleanest level, that level. Raises ValueError for what is no
    schedule or level.
    """
    if not isinstance(schedule, Schedule) or not all(isinstance(level, Level) for level in levels):
        raise ValueError(f"Give a schedule and levels (schedule.level(t)); got {schedule!r} and {levels!r}.")
    cleanest, noisiest = schedule.ends
    t = schedule.time_of_snr(torch.tensor([level.snr for level in levels], dtype=torch.float64, device="cpu"))
    t = t.clamp(cleanest, noisiest)
    return [Level(*row) for row in zip(t.tolist(), schedule.alpha(t).tolist(), schedule.sigma(t).tolist(), strict=True)]


def finite_time(t: Tensor | float) -> Tensor:
    """Convert t [...] to float64. Raises ValueError for NaN and infinity."""
    t = float64_on_cpu("t", t)
    if not bool(t.isfinite().all()):
        raise ValueError(f"t must be finite; got {_shown(t)}.")
    return t


def checked_time(t: Tensor | float, most: float, what: str) -> Tensor:
    """Convert t to float64. Raises ValueError unless every time is from 0 to `most` (`what` names the range).

    t may have any shape, [...].
    """
    t = float64_on_cpu("t", t)
    if not bool(((t >= 0) & (t <= most + 1e-9)).all()):
        raise ValueError(f"t must be {what} for this schedule, got {_shown(t)}.")
    return t


def noise_ratio(snr: Tensor | float) -> Tensor:
    """sigma / alpha = 1 / sqrt(snr) as float64, inf in pure noise; snr may have any shape.

    Raises ValueError for a negative ratio or NaN.
    """
    snr = float64_on_cpu("snr", snr)
    if not bool((snr >= 0).all()):
        raise ValueError(f"A signal-to-noise ratio is 0 or more; got {_shown(snr)}.")
    return snr.rsqrt()


def _shown(t: Tensor) -> str:
    values = [f"{value:g}" for value in t.flatten()[:4].tolist()]
    return ", ".join(values) + (", ..." if t.numel() > 4 else "")


def check_decreasing(levels: Sequence[Level]) -> None:
    """Raise ValueError unless there are at least two levels, each with a smaller sigma / alpha than the one before."""
    if not isinstance(levels, Sequence) or not all(isinstance(level, Level) for level in levels):
        raise ValueError(f"levels must be a list of Level, as schedule.levels(10) gives it; got {shortened(levels)}.")
    for level in levels:
        if not all(isinstance(one, Real) and math.isfinite(one) for one in level):
            raise ValueError(f"each of the levels must be three finite numbers (t, alpha, sigma); got {level}.")
    if len(levels) < 2:
        raise ValueError(f"A sampler needs at least 2 levels (a noisy one and its goal), got {len(levels)}.")
    for i, (a, b) in enumerate(itertools.pairwise(levels)):
        if not (b.sigma * a.alpha < a.sigma * b.alpha):
            raise ValueError(
                f"Levels must decrease in noise, but level {i + 1} (t={b.t:g}) is not less noisy than level {i} "
                f"(t={a.t:g}). Give timesteps from noise to data, without repeats."
            )


def check_steps(number: int, most: int | None = None, what: str = "num_inference_steps") -> int:
    """Convert the number to an int. Raises ValueError, naming `what`, unless it is a whole number from 1 to `most`.

    most: the schedule's num_train_timesteps; if None, MOST_STEPS.
    """
    if most is None:
        return whole(what, number, 1, MOST_STEPS)
    return whole(what, number, 1, most, " (the schedule's num_train_timesteps)")
