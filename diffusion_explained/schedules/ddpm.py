"""The discrete variance-preserving schedules of DDPM, improved DDPM and Stable Diffusion."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_kind_of,
    check_options,
    named_options,
    number,
    truth,
    typed_arguments,
    whole,
)
from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.messages import shortened
from diffusion_explained.schedules.base import Level, Schedule, check_steps, checked_time, finite_time, noise_ratio
from diffusion_explained.schedules.spacing import (
    RATIO_SPACINGS,
    check_spacing,
    spaced_ratios,
    spaced_timesteps,
    time_of_ratio,
)

CLOCKS = ("steps", "thousand", "c_noise")
BETA = "a positive noise variance, at most 1"
# of every named constructor, with their types
NAMED_OPTIONS = {"final_alpha_one": bool, "steps_offset": int, "clock": str, "rescale_zero_terminal_snr": bool}


class DDPMSchedule(Schedule):
    """The discrete variance-preserving schedule: alphas_cumprod[t] = prod_{s<=t} (1 - betas[s]) (DDPM, Eq. 4).

    alpha = sqrt(alphas_cumprod), sigma = sqrt(1 - alphas_cumprod), t = 0 .. T-1. Index 0 already has a little noise
    (it is the paper's t = 1); the clean level has t = -1. For a t between two integers, sigma / alpha is interpolated
    linearly, as in diffusers' Euler samplers.

    Args:
        betas: [T] noise variances, each in (0, 1]; 1 only for the last (zero terminal SNR).
        name, options: the named constructor and its arguments, kept for `to_config`.
        final_alpha_one: if True, sampling ends at the clean image; if False, at the level of t = 0, as Stable
            Diffusion 1.5 is configured.
        steps_offset: a number added to every timestep of "leading" spacing (Stable Diffusion 1.5 uses 1).
        clock: the network's time input, in training and in sampling: "steps" is t itself, 0 .. T-1, as in diffusers;
            "thousand" is t * 1000 / T; "c_noise" is ln(sigma / alpha) / 4 (EDM, Table 1). The first two are equal at
            T = 1000. A description without a clock (`to_config`) means "thousand".

    Raises ValueError if betas is not a vector of variances, and for an unknown clock.
    """

    @named_options
    def __init__(
        self,
        betas: Tensor,
        *,
        final_alpha_one: bool = True,
        steps_offset: int = 0,
        clock: str = "steps",
        name: str = "custom",
        options: dict[str, Any] | None = None,
    ) -> None:
        betas = float64_on_cpu("betas", betas)
        valid = (
            betas.ndim == 1 and len(betas) > 0 and bool((betas > 0).all() and (betas[:-1] < 1).all() and betas[-1] <= 1)
        )
        if not valid:
            raise ValueError(
                "betas must be a vector of noise variances between 0 and 1 (1 itself only for the last); got shape "
                f"{tuple(betas.shape)}, {betas.flatten()[:3].tolist()} ... {betas.flatten()[-3:].tolist()}."
            )
        self.betas = betas
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self._alphas, self._sigmas = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()  # [T] each
        self._karras = self._sigmas / self._alphas  # Karras' sigma [T]; inf at zero terminal SNR
        self._ratios = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()  # the same, rounded as diffusers does
        self.num_train_timesteps = len(betas)
        truth("final_alpha_one", final_alpha_one)
        if clock not in CLOCKS:
            raise ValueError(f"clock must be one of {', '.join(CLOCKS)}; got {shortened(clock)}.")
        self.steps_offset, self.clock = whole("steps_offset", steps_offset, 0), clock
        self.final_alpha_one = final_alpha_one
        self.name = name
        self._options = options or {}
        self.clean = Level(-1.0, 1.0, 0.0) if final_alpha_one else self.level(0)

    # -- the named schedules ------------------------------------------------------------------------------

    @classmethod
    def linear(
        cls, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, **options: Any
    ) -> "DDPMSchedule":
        """The schedule whose betas rise linearly (DDPM, Sec. 4)."""
        betas = torch.linspace(
            number("beta_start", beta_start, BETA, 0, 1),
            number("beta_end", beta_end, BETA, 0, 1),
            check_steps(num_train_timesteps, what="num_train_timesteps"),
            dtype=torch.float64,
            device="cpu",
        )
        return cls._named("linear", betas, options, num_train_timesteps, beta_start=beta_start, beta_end=beta_end)

    @classmethod
    def scaled_linear(
        cls,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        **options: Any,
    ) -> "DDPMSchedule":
        """The schedule whose sqrt(betas) rise linearly (latent diffusion; the defaults are Stable Diffusion's).

        Raises ValueError for a beta that is no number from 0 to 1.
        """
        roots = torch.linspace(
            number("beta_start", beta_start, BETA, 0, 1) ** 0.5,
            number("beta_end", beta_end, BETA, 0, 1) ** 0.5,
            check_steps(num_train_timesteps, what="num_train_timesteps"),
            dtype=torch.float64,
            device="cpu",
        )
        return cls._named(
            "scaled_linear", roots**2, options, num_train_timesteps, beta_start=beta_start, beta_end=beta_end
        )

    @classmethod
    def cosine(cls, num_train_timesteps: int = 1000, max_beta: float = 0.999, **options: Any) -> "DDPMSchedule":
        """alphas_cumprod follows cos^2((t/T + 0.008) / 1.008 * pi/2), with betas capped (improved DDPM, Eq. 17)."""
        t = (
            torch.arange(
                check_steps(num_train_timesteps, what="num_train_timesteps") + 1, dtype=torch.float64, device="cpu"
            )
            / num_train_timesteps
        )
        alpha_bar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=number("max_beta", max_beta, BETA, 0, 1))
        return cls._named("cosine", betas, options, num_train_timesteps, max_beta=max_beta)

    @classmethod
    def sigmoid(
        cls, num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, **options: Any
    ) -> "DDPMSchedule":
        """The schedule whose betas rise along the logistic function from -6 to 6 (GeoDiff)."""
        ramp = torch.linspace(
            -6, 6, check_steps(num_train_timesteps, what="num_train_timesteps"), dtype=torch.float64, device="cpu"
        ).sigmoid()
        first, last = number("beta_start", beta_start, BETA, 0, 1), number("beta_end", beta_end, BETA, 0, 1)
        betas = ramp * (last - first) + first
        return cls._named("sigmoid", betas, options, num_train_timesteps, beta_start=beta_start, beta_end=beta_end)

    @classmethod
    def of_log_snr(
        cls, log_snr: Sequence[float] | Tensor, num_train_timesteps: int = 1000, **options: Any
    ) -> "DDPMSchedule":
        """The schedule whose log SNR goes through these values [K], evenly spaced from t = 0 to T-1.

            alphas_cumprod = sigmoid(log SNR)                                               (VDM, Sec. 3.2)

        Between them the log SNR is a monotone cubic: its slope at an inner value is the harmonic mean of the slopes
        to both sides (Fritsch & Butland 1984). So the noise only increases, whatever the values are.

        options: as for the named schedules. Raises ValueError unless the two or more values are from -30 to 30 and
        decrease, and for fewer timesteps than 2.
        """
        check_options("DDPMSchedule.of_log_snr", options, NAMED_OPTIONS)
        T = check_steps(num_train_timesteps, what="num_train_timesteps")
        values = float64_on_cpu("log_snr", log_snr)
        falls = values.ndim == 1 and bool((values.abs() <= 30).all() and (values.diff() < 0).all())
        if not falls or len(values) < 2 or T < 2:
            raise ValueError(
                "log_snr must be two or more numbers from -30 to 30, each below the one before, for at least 2 "
                f"timesteps; got {shortened(values.tolist())} for {T}."
            )
        alphas_cumprod = monotone_cubic(values, torch.linspace(0, 1, T, dtype=torch.float64, device="cpu")).sigmoid()
        betas = 1 - alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
        if truth("rescale_zero_terminal_snr", options.pop("rescale_zero_terminal_snr", False)):
            betas = rescale_zero_terminal_snr(betas)
        return cls(betas, **options)

    @classmethod
    def _named(
        cls, name: str, betas: Tensor, options: dict[str, Any], num_train_timesteps: int, **numbers: float
    ) -> "DDPMSchedule":
        check_options(f"DDPMSchedule.{name}", options, {*NAMED_OPTIONS, "num_train_timesteps", *numbers})
        described = {"num_train_timesteps": num_train_timesteps, **numbers, **options}
        described.pop("clock", None)  # `to_config` adds the clock where it differs from the default
        options = dict(options)
        if truth("rescale_zero_terminal_snr", options.pop("rescale_zero_terminal_snr", False)):
            betas = rescale_zero_terminal_snr(betas)
        return cls(betas, name=name, options=described, **options)

    # -- the schedule -------------------------------------------------------------------------------------

    def _alpha_sigma(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        t = checked_time(t, self.num_train_timesteps - 1, f"in 0 .. {self.num_train_timesteps - 1}")
        low, high = t.floor().long(), t.ceil().long()
        alpha, sigma = self._alphas, self._sigmas
        ratio = torch.lerp(self._karras[low], self._karras[high], t - low)
        between = low != high
        alpha_t = torch.where(between, (1 + ratio**2).rsqrt(), alpha[low])
        sigma_t = torch.where(between, (1 - alpha_t**2).sqrt(), sigma[low])
        return alpha_t, sigma_t

    def alpha(self, t: Tensor | float) -> Tensor:
        """sqrt(alphas_cumprod[t])."""
        return self._alpha_sigma(t)[0]

    def sigma(self, t: Tensor | float) -> Tensor:
        """sqrt(1 - alphas_cumprod[t])."""
        return self._alpha_sigma(t)[1]

    def time_of_snr(self, snr: Tensor | float) -> Tensor:
        """t = i + (r - r_i) / (r_(i+1) - r_i), with r = sigma / alpha = 1 / sqrt(snr) between r_i and r_(i+1).

        sigma / alpha is linear between two timesteps. At zero terminal SNR the last of them is infinite, and every
        finite ratio beyond T-2's has the time T-2.
        """
        known, ratio = self._karras, noise_ratio(snr).clamp(min=float(self._karras[0]))
        low = torch.searchsorted(known, ratio.contiguous(), right=True) - 1
        high = (low + 1).clamp(max=len(known) - 1)
        share = (ratio - known[low]) / (known[high] - known[low])
        return low + torch.where(low == high, 0.0, share)

    @property
    def ends(self) -> tuple[float, float]:
        """0 and T-1."""
        return 0.0, self.num_train_timesteps - 1.0

    @named_options
    @typed_arguments
    def sample_t(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform integers 0 .. T-1, both ends included (DDPM, Algorithm 1, line 3)."""
        drawn = torch.randint(
            0,
            self.num_train_timesteps,
            (whole("batch_size", batch_size, 1),),
            generator=generator,
            dtype=torch.int64,
            device="cpu",
        )
        return to_float64(drawn)

    @named_options
    def timesteps(self, num_inference_steps: int, spacing: str = "trailing") -> Tensor:
        """The timesteps to visit, in decreasing order (float64 [n]).

        "trailing" starts at T-1, the noisiest level of training; "leading" starts about T/n below T-1 and ends at
        steps_offset; "linspace" includes both ends. These three give integers, as in diffusers' DDIMScheduler (Lin et
        al. 2023, Table 2). "karras", "exponential" and "beta" space sigma / alpha between the schedule's largest and
        smallest values (`spacing`), and their timesteps are fractional.

        Raises ValueError for an unknown spacing, for more steps than the schedule has, and for timesteps outside the
        schedule.
        """
        n, T = check_steps(num_inference_steps, self.num_train_timesteps), self.num_train_timesteps
        check_spacing(spacing)
        if spacing in RATIO_SPACINGS:
            return torch.from_numpy(time_of_ratio(self._spaced_ratios(n, spacing), self._ratios.numpy()))
        t = torch.from_numpy(spaced_timesteps(spacing, n, T, self.steps_offset))
        if t[0] > T - 1:
            raise ValueError(
                f'"leading" spacing with steps_offset {self.steps_offset} leaves the schedule at {n} steps: '
                f'its first timestep would be {int(t[0])} of 0 .. {T - 1}. Use fewer steps or "trailing".'
            )
        return t

    @named_options
    def levels(self, num_inference_steps: int, spacing: str = "trailing") -> list[Level]:
        """The n levels at the times of `timesteps`, followed by the clean level.

        Raises ValueError for a single step of "leading" or "linspace", which would visit only the cleanest level.
        """
        t = self.timesteps(num_inference_steps, spacing)
        if len(t) == 1 and spacing in ("leading", "linspace") and self.num_train_timesteps > 1:
            raise ValueError(
                f'One step of "{spacing}" spacing visits only t = {t[0]:g}, the cleanest level, where noise is no '
                'starting point. Use "trailing" for a single step, or 2 steps and more.'
            )
        if spacing not in RATIO_SPACINGS:
            return self.levels_at(t)
        ratios = self._spaced_ratios(len(t), spacing)
        alpha = (1 + ratios**2) ** -0.5
        return [*map(Level, t.tolist(), alpha.tolist(), (ratios * alpha).tolist()), Level(-1.0, 1.0, 0.0)]

    def _spaced_ratios(self, n: int, spacing: str) -> Any:
        return spaced_ratios(spacing, n, float(self._ratios[-1]), float(self._ratios[0]))

    def levels_at(self, timesteps: Sequence[float] | Tensor) -> list[Level]:
        """As `Schedule.levels_at`; with final_alpha_one=False the list ends at t = 0, so timesteps must end above 0."""
        times = float64_on_cpu("timesteps", timesteps)
        if not self.final_alpha_one and times.ndim == 1 and len(times) and times[-1] == 0:
            raise ValueError(
                "final_alpha_one=False ends sampling at t = 0, so t = 0 cannot be visited as well. "
                "Use steps_offset=1 with leading spacing (as Stable Diffusion does), or final_alpha_one=True."
            )
        return super().levels_at(times)

    def network_time(self, t: Tensor | float) -> Tensor:
        """The network's time input, as the schedule's `clock` defines it."""
        t = finite_time(t)
        if self.clock == "c_noise":
            alpha, sigma = self._alpha_sigma(t)
            return ((sigma / alpha).log() / 4).float()
        return (t * (1000 / self.num_train_timesteps) if self.clock == "thousand" else t).float()

    def time_at(self, level: Level) -> float:
        """As `network_time`; c_noise is computed from the level's own sigma / alpha, whichever schedule it is from."""
        check_kind_of("level", level, Level)
        if self.clock == "c_noise":
            return math.log(level.sigma / level.alpha) / 4
        return super().time_at(level)

    def to_config(self) -> dict[str, Any]:
        """The named constructor and its arguments. Raises ValueError for a schedule of custom betas, which has none."""
        if self.name == "custom":
            raise ValueError("A DDPMSchedule of custom betas cannot be described; use a named constructor.")
        clock = {} if self.num_train_timesteps == 1000 and self.clock != "c_noise" else {"clock": self.clock}
        return {"family": "ddpm", "name": self.name, **self._options, **clock}

    @property
    def terminal_snr(self) -> float:
        """alpha^2 / sigma^2 at T-1; sampling from pure noise assumes that it is 0 (Lin et al. 2023, Sec. 3.1)."""
        last = float(self.alphas_cumprod[-1])
        return last / (1 - last)


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale sqrt(alphas_cumprod) so that its last value is 0 and its first is unchanged.

    Lin et al. 2023, Algorithm 1. betas [T] -> betas [T], of which the last is 1. At that level a prediction of eps does
    not determine x_0: use a network that predicts "v".

    Raises ValueError for fewer than two timesteps.
    """
    alpha = torch.cumprod(1 - float64_on_cpu("betas", betas), dim=0).sqrt()
    if alpha.ndim != 1 or len(alpha) < 2:
        raise ValueError("Zero terminal SNR needs at least 2 timesteps.")
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    alphas_cumprod = alpha**2
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    return 1 - alphas_cumprod / previous


def monotone_cubic(values: Tensor, places: Tensor) -> Tensor:
    """Interpolate decreasing values [K], evenly spaced from 0 to 1, at the places [N] by cubics that decrease too.

    The slope at an inner value is the harmonic mean of the slopes to both sides; at the ends it is that of the line.
    """
    steps = values.diff()
    inner = 2 * steps[:-1] * steps[1:] / (steps[:-1] + steps[1:])
    slopes = torch.cat([steps[:1], inner, steps[-1:]])
    at = places * len(steps)
    k = at.long().clamp(max=len(steps) - 1)
    u = at - k
    here, there = (1 + 2 * u) * (1 - u) ** 2, u**2 * (3 - 2 * u)
    return here * values[k] + there * values[k + 1] + u * (1 - u) ** 2 * slopes[k] + u**2 * (u - 1) * slopes[k + 1]
