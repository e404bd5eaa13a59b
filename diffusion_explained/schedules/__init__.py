"""Noise schedules: the amount of signal and of noise at each time.

Every model here is a Gaussian path between data and noise,

    x_t = alpha(t) * x_0 + sigma(t) * eps,        eps ~ N(0, I),  larger t is noisier,

and a schedule consists of a range of times t and the two functions alpha and sigma. Three families:

| schedule        | t          | alpha                   | sigma                       | from            |
|-----------------|------------|-------------------------|-----------------------------|-----------------|
| `DDPMSchedule`  | 0 .. T-1   | sqrt(alphas_cumprod[t]) | sqrt(1 - alphas_cumprod[t]) | DDPM, Eq. 4     |
| `EDMSchedule`   | sigma      | 1                       | t                           | EDM, Table 1    |
| `FlowSchedule`  | 0 .. 1     | 1 - t                   | t                           | rectified flow  |

A sampler never receives a schedule: it receives a list of `Level`s, decreasing in noise, of which the last is clean.
All coefficients are float64 on the CPU.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from diffusion_explained.messages import shortened
from diffusion_explained.schedules.base import Level, Schedule, check_decreasing, levels_of_same_snr
from diffusion_explained.schedules.ddpm import NAMED_OPTIONS, DDPMSchedule, rescale_zero_terminal_snr
from diffusion_explained.schedules.edm import EDMSchedule
from diffusion_explained.schedules.flow import FlowSchedule
from diffusion_explained.schedules.spacing import RATIO_SPACINGS, SPACINGS
from diffusion_explained.tables import read_arguments

__all__ = [
    "RATIO_SPACINGS",
    "SCHEDULES",
    "SPACINGS",
    "DDPMSchedule",
    "EDMSchedule",
    "FlowSchedule",
    "Level",
    "Schedule",
    "check_decreasing",
    "levels_of_same_snr",
    "rescale_zero_terminal_snr",
    "schedule_from_config",
]


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": DDPMSchedule.linear,
    "scaled_linear": DDPMSchedule.scaled_linear,
    "cosine": DDPMSchedule.cosine,
    "sigmoid": DDPMSchedule.sigmoid,
    "flow": FlowSchedule,
    "edm": EDMSchedule,
}
"""What makes each schedule, by the name that pages, recipes and weight files know it by."""
MAKERS: dict[tuple[str, str], Callable[..., Schedule]] = {  # by the family and the name of a description
    (name, "") if isinstance(make, type) else ("ddpm", name): make for name, make in SCHEDULES.items()
}
RANGES = {  # allowed values in a description; beyond them the coefficients need too much memory or overflow float32
    "num_train_timesteps": (1, 100_000),
    "steps_offset": (0, 1000),
    "sigma_min": (1e-9, 1e6),
    "sigma_max": (1e-9, 1e6),
    "rho": (0.1, 100.0),
    "P_mean": (-20.0, 20.0),
    "P_std": (0.0, 20.0),
    "shift": (1e-3, 1e3),
}


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """Build the schedule that a description from `Schedule.to_config` describes.

    Raises ValueError for an unknown family or name, for an argument that is unknown, of the wrong type or out of range,
    and for a schedule whose levels do not decrease in noise.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"A schedule is described by a table, its family first; got {shortened(config)}.")
    options = dict(config)
    if options.get("family") == "ddpm":
        options.setdefault("clock", "thousand")  # the clock of every network trained before the clock became an option
    family, name = options.pop("family", None), options.pop("name", "")
    if not isinstance(family, str) or not isinstance(name, str) or (family, name) not in MAKERS:
        known = ", ".join(" ".join(key).strip() for key in MAKERS)
        raise ValueError(
            f"There is no schedule of family {shortened(family)} and name {shortened(name)}. Known: {known}."
        )
    maker, what = MAKERS[family, name], f"the {family} schedule"
    arguments = read_arguments(maker, options, what, **(NAMED_OPTIONS if family == "ddpm" else {}))
    for key, (least, most) in RANGES.items():
        if key in arguments and not least <= arguments[key] <= most:
            raise ValueError(f"{key} of {what} must be from {least:g} to {most:g}; got {arguments[key]:g}.")
    try:
        schedule = maker(**arguments)
        visited = schedule.levels(max(1, min(10, getattr(schedule, "num_train_timesteps", 10) // 2)))
        if not all(math.isfinite(number) for level in visited for number in level):
            raise ValueError("its levels are no finite numbers")
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{what} of {shortened(dict(config), 300)} cannot be visited: {error}") from error
    return schedule
