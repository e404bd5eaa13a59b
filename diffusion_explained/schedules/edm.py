"""Karras' schedule, in which the noise level is the clock."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.schedules.base import Schedule, check_steps


class EDMSchedule(Schedule):
    """Karras' schedule: x_t = x_0 + t * eps, the clock is the noise level itself (EDM, Table 1, last column)."""

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        P_mean: float = -1.2,
        P_std: float = 1.2,
    ) -> None:
        if not 0 < sigma_min < sigma_max < math.inf or not 0 < rho < math.inf or not P_std > 0:
            raise ValueError(
                f"EDMSchedule needs 0 < sigma_min < sigma_max, rho > 0 and P_std > 0; got sigma_min={sigma_min}, "
                f"sigma_max={sigma_max}, rho={rho}, P_std={P_std}."
            )
        self.sigma_min, self.sigma_max, self.rho = float(sigma_min), float(sigma_max), float(rho)
        self.P_mean, self.P_std = float(P_mean), float(P_std)
        self.init_noise_sigma = self.sigma_max

    def alpha(self, t: Tensor | float) -> Tensor:
        """1."""
        return torch.ones_like(torch.as_tensor(t, dtype=torch.float64, device="cpu"))

    def sigma(self, t: Tensor | float) -> Tensor:
        """t."""
        return torch.as_tensor(t, dtype=torch.float64, device="cpu").clone()

    def sample_t(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """ln(sigma) ~ N(P_mean, P_std^2) (EDM, Table 1, "Training")."""
        normal = torch.randn(batch_size, generator=generator, dtype=torch.float64, device="cpu")
        return (self.P_mean + self.P_std * normal).exp()

    def timesteps(self, num_inference_steps: int) -> Tensor:
        """sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho (EDM, Eq. 5)."""
        n = check_steps(num_inference_steps)
        ramp = torch.linspace(0, 1, n, dtype=torch.float64, device="cpu")
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (high + ramp * (low - high)) ** self.rho

    def network_time(self, t: Tensor | float) -> Tensor:
        """250 * ln(sigma): EDM's c_noise = ln(sigma) / 4 (Table 1), times 1000 as for the other clocks."""
        return (250 * torch.as_tensor(t, dtype=torch.float64, device="cpu").log()).float()

    def to_config(self) -> dict[str, Any]:
        numbers = ("sigma_min", "sigma_max", "rho", "P_mean", "P_std")
        return {"family": "edm", **{name: getattr(self, name) for name in numbers}}
