"""The schedule of EDM (Karras et al. 2022), in which the time t is the noise level sigma."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, number, typed_arguments, whole
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.messages import shortened
from diffusion_explained.schedules.base import Level, Schedule, check_steps, checked_time, noise_ratio
from diffusion_explained.schedules.spacing import RATIO_SPACINGS, check_spacing, spaced_ratios

CLOCKS = ("thousand", "c_noise")


class EDMSchedule(Schedule):
    """The schedule of EDM: x_t = x_0 + t * eps; the time t is the noise level sigma (EDM, Table 1, last column).

    Args:
        sigma_min, sigma_max, rho: the range and the spacing of the levels that sampling visits (EDM, Eq. 5).
        P_mean, P_std: mean and standard deviation of ln(sigma) in training (EDM, Table 1).
        clock: the network's time input: "c_noise" is ln(sigma) / 4, as in the paper (Table 1) and in diffusers;
            "thousand" is 1000 times c_noise, the range for which this package's networks are built.

    Raises ValueError for settings out of range, and for an unknown clock.
    """

    @named_options
    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        P_mean: float = -1.2,
        P_std: float = 1.2,
        clock: str = "thousand",
    ) -> None:
        given = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho, "P_mean": P_mean, "P_std": P_std}
        for name, value in given.items():
            number(name, value, "a finite number")
        if not 0 < sigma_min < sigma_max or not rho > 0 or not P_std > 0:
            raise ValueError(
                f"EDMSchedule needs 0 < sigma_min < sigma_max, rho > 0 and P_std > 0; got sigma_min={sigma_min}, "
                f"sigma_max={sigma_max}, rho={rho}, P_std={P_std}."
            )
        if clock not in CLOCKS:
            raise ValueError(f"clock must be one of {', '.join(CLOCKS)}; got {shortened(clock)}.")
        self.clock = clock
        self.sigma_min, self.sigma_max, self.rho = float(sigma_min), float(sigma_max), float(rho)
        self.P_mean, self.P_std = float(P_mean), float(P_std)
        self.init_noise_sigma = self.sigma_max

    def alpha(self, t: Tensor | float) -> Tensor:
        """1."""
        return torch.ones_like(self.sigma(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        """t."""
        return checked_time(t, sys.float_info.max, "a noise level, 0 or more and finite,").clone()

    def time_of_snr(self, snr: Tensor | float) -> Tensor:
        """1 / sqrt(snr), for t is sigma / alpha itself; at most the largest float64."""
        return noise_ratio(snr).clamp(max=sys.float_info.max)

    @property
    def ends(self) -> tuple[float, float]:
        """sigma_min and sigma_max."""
        return self.sigma_min, self.sigma_max

    def levels_at(self, timesteps: Sequence[float] | Tensor) -> list[Level]:
        """As `Schedule.levels_at`. Also raises ValueError above sigma_max, where no network was trained.

        timesteps: [n].
        """
        times = float64_on_cpu("timesteps", timesteps)
        checked_time(times, self.sigma_max * (1 + 1e-6), f"a noise level up to sigma_max = {self.sigma_max:g}")
        return super().levels_at(times)

    @named_options
    @typed_arguments
    def sample_t(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw training times: ln(sigma) ~ N(P_mean, P_std^2) (EDM, Table 1, "Training"); float64 [B]."""
        normal = torch.randn(whole("batch_size", batch_size, 1), generator=generator, dtype=torch.float64, device="cpu")
        return (self.P_mean + self.P_std * normal).exp()

    @named_options
    def timesteps(self, num_inference_steps: int, spacing: str = "karras") -> Tensor:
        """The noise levels to visit (float64 [n]), from sigma_max down to sigma_min, by one of `RATIO_SPACINGS`.

        "karras": sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho   (EDM, Eq. 5)
        """
        n = check_steps(num_inference_steps)
        check_spacing(spacing, RATIO_SPACINGS)
        return torch.from_numpy(spaced_ratios(spacing, n, self.sigma_max, self.sigma_min, self.rho))

    def network_time(self, t: Tensor | float) -> Tensor:
        """c_noise = ln(sigma) / 4 (EDM, Table 1), times 1000 on the clock "thousand".

        Raises ValueError for a noise level that is not above 0.
        """
        t = float64_on_cpu("t", t)
        if not bool(((t > 0) & t.isfinite()).all()):
            raise ValueError(f"t must be a noise level above 0 for this schedule; got {t.flatten()[:4].tolist()}.")
        c_noise = t.log() / 4
        return (c_noise if self.clock == "c_noise" else 1000 * c_noise).float()

    def to_config(self) -> dict[str, Any]:
        numbers = ("sigma_min", "sigma_max", "rho", "P_mean", "P_std")
        clock = {} if self.clock == "thousand" else {"clock": self.clock}
        return {"family": "edm", **{name: getattr(self, name) for name in numbers}, **clock}
