"""The straight path of flow matching."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import named_options, number, typed_arguments, whole
from diffusion_explained.messages import shortened
from diffusion_explained.schedules.base import Schedule, check_steps, checked_time, finite_time, noise_ratio
from diffusion_explained.schedules.spacing import RATIO_SPACINGS, check_spacing, spaced_ratios

T_DISTRIBUTIONS = ("logit_normal", "uniform", "u_shaped")
STEEPNESS = 4.0  # the parameter a of the U-shaped distribution


class FlowSchedule(Schedule):
    """The straight path of rectified flow: x_t = (1 - t) x_0 + t eps (Liu et al. 2022, Eq. 1, with time reversed).

    Args:
        shift: moves the times of training and of sampling towards noise, t' = shift * t / (1 + (shift - 1) * t)
            (Stable Diffusion 3, Eq. 23); 1 changes nothing, and larger images need a larger shift.
        t_distribution: the distribution of training times before the shift: "logit_normal" (Stable Diffusion 3,
            Eq. 19), "uniform", or "u_shaped", densest at both ends, where a rectified flow is hardest to learn (Lee et
            al. 2024, Sec. 4.1).
        num_train_timesteps: the network's time input is t times this number.

    Raises ValueError for settings out of range.
    """

    @named_options
    def __init__(
        self, shift: float = 1.0, t_distribution: str = "logit_normal", num_train_timesteps: int = 1000
    ) -> None:
        number("shift", shift, "from 0.001 to 1000 (1 changes nothing)", 0.001, 1000)
        if t_distribution not in T_DISTRIBUTIONS:
            raise ValueError(
                f"t_distribution must be one of {', '.join(T_DISTRIBUTIONS)}; got {shortened(t_distribution)}."
            )
        self.shift, self.t_distribution = float(shift), t_distribution
        self.num_train_timesteps = check_steps(num_train_timesteps, what="num_train_timesteps")

    def _shifted(self, t: Tensor) -> Tensor:
        return self.shift * t / (1 + (self.shift - 1) * t)

    def alpha(self, t: Tensor | float) -> Tensor:
        """1 - t."""
        return (1 - checked_time(t, 1, "from 0 (data) to 1 (noise)")).clamp(min=0)

    def sigma(self, t: Tensor | float) -> Tensor:
        """t."""
        return checked_time(t, 1, "from 0 (data) to 1 (noise)").clamp(max=1)

    def time_of_snr(self, snr: Tensor | float) -> Tensor:
        """1 / (1 + sqrt(snr)), from sqrt(snr) = (1 - t) / t."""
        return 1 / (1 + 1 / noise_ratio(snr))

    @property
    def ends(self) -> tuple[float, float]:
        """The shifted 1/T, T at most 1000, and 1."""
        least = 1 / min(self.num_train_timesteps, 1000)
        return float(self._shifted(torch.tensor(least, dtype=torch.float64, device="cpu"))), 1.0

    @named_options
    @typed_arguments
    def sample_t(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw training times (float64 [B]): sigmoid of N(0, 1), uniform in (0, 1], or U-shaped; then shifted.

            p(t) = (exp(a t) + exp(a (1 - t))) / (2 (exp(a) - 1) / a),   a = 4          (U-shaped; Lee et al. 2024)

        The U-shaped t is drawn from p(t) = a exp(a t) / (exp(a) - 1) by inverting its distribution function, and
        replaced by 1 - t with probability 1/2.
        """
        batch_size = whole("batch_size", batch_size, 1)
        if self.t_distribution == "logit_normal":
            t = torch.randn(batch_size, generator=generator, dtype=torch.float64, device="cpu").sigmoid()
        else:
            t = 1 - torch.rand(batch_size, generator=generator, dtype=torch.float64, device="cpu")
        if self.t_distribution == "u_shaped":
            t = torch.log1p(t * math.expm1(STEEPNESS)) / STEEPNESS
            t = torch.where(
                torch.rand(batch_size, generator=generator, dtype=torch.float32, device="cpu") < 0.5, t, 1 - t
            )
        return self._shifted(t)

    @named_options
    def timesteps(self, num_inference_steps: int, spacing: str = "trailing") -> Tensor:
        """The times to visit, in decreasing order (float64 [n]), shifted.

        "trailing" is 1, (n-1)/n, ..., 1/n before the shift. "linspace" is even from 1 to the shifted 1/T, and shifted
        once more, as in diffusers' FlowMatchEulerDiscreteScheduler; its last step is very short.
        "karras", "exponential" and "beta" space t between the ends of "linspace" (`spacing`).
        """
        n = check_steps(num_inference_steps)
        check_spacing(spacing, ("trailing", "linspace", *RATIO_SPACINGS))
        if spacing == "trailing":
            return self._shifted(torch.arange(n, 0, -1, dtype=torch.float64, device="cpu") / n)
        least = self._shifted(torch.tensor(1 / self.num_train_timesteps, dtype=torch.float64, device="cpu"))
        t = self._shifted(torch.from_numpy(np.linspace(1, float(least), n)))
        if spacing == "linspace":
            return t
        return torch.from_numpy(spaced_ratios(spacing, n, float(t[0]), float(t[-1])))

    def network_time(self, t: Tensor | float) -> Tensor:
        """num_train_timesteps * t."""
        return (self.num_train_timesteps * finite_time(t)).float()

    def to_config(self) -> dict[str, Any]:
        T = {} if self.num_train_timesteps == 1000 else {"num_train_timesteps": self.num_train_timesteps}
        return {"family": "flow", "shift": self.shift, "t_distribution": self.t_distribution, **T}
