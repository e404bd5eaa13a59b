"""Noise schedules: how much signal and how much noise there is at each time.

Every model here is a Gaussian path between data and noise,

    x_t = alpha(t) * x_0 + sigma(t) * eps,        eps ~ N(0, I),  larger t is noisier,

and a schedule is the clock t with its two functions alpha and sigma. Three families:

| schedule        | t          | alpha                   | sigma                       | from            |
|-----------------|------------|-------------------------|-----------------------------|-----------------|
| `DDPMSchedule`  | 0 .. T-1   | sqrt(alphas_cumprod[t]) | sqrt(1 - alphas_cumprod[t]) | DDPM, Eq. 4     |
| `EDMSchedule`   | sigma      | 1                       | t                           | EDM, Table 1    |
| `FlowSchedule`  | 0 .. 1     | 1 - t                   | t                           | rectified flow  |

A sampler never sees a schedule: it is handed a list of `Level`s, decreasing in noise, the last one clean.
All coefficients are float64 on the CPU.
"""

from collections.abc import Callable
from typing import Any

from diffusion_explained.schedules.base import Level, Schedule, check_decreasing
from diffusion_explained.schedules.ddpm import DDPMSchedule, rescale_zero_terminal_snr
from diffusion_explained.schedules.edm import EDMSchedule
from diffusion_explained.schedules.flow import FlowSchedule
from diffusion_explained.schedules.spacing import RATIO_SPACINGS, SPACINGS

__all__ = [
    "RATIO_SPACINGS",
    "SPACINGS",
    "DDPMSchedule",
    "EDMSchedule",
    "FlowSchedule",
    "Level",
    "Schedule",
    "check_decreasing",
    "rescale_zero_terminal_snr",
    "schedule_from_config",
]


def schedule_from_config(config: dict[str, Any]) -> Schedule:
    """The schedule that `to_config` described. Raises ValueError for another family, name or argument."""
    options = dict(config)
    if options.get("family") == "ddpm":
        options.setdefault("clock", "thousand")  # what every network was given before the clock could be chosen
    family, name = options.pop("family", None), options.pop("name", "")
    makers: dict[tuple[Any, Any], Callable[..., Schedule]] = {
        ("edm", ""): EDMSchedule,
        ("flow", ""): FlowSchedule,
        ("ddpm", "linear"): DDPMSchedule.linear,
        ("ddpm", "scaled_linear"): DDPMSchedule.scaled_linear,
        ("ddpm", "cosine"): DDPMSchedule.cosine,
        ("ddpm", "sigmoid"): DDPMSchedule.sigmoid,
    }
    if (family, name) not in makers:
        known = ", ".join(" ".join(key).strip() for key in makers)
        raise ValueError(f"There is no schedule of family {family!r} and name {name!r}. Known: {known}.")
    try:
        return makers[family, name](**options)
    except TypeError as error:
        raise ValueError(f"The {family} schedule has no such setting: {error}.") from error
