"""The levels that a pipeline's scheduler would visit, as our own schedules give them.

The samplers are ours, so what is needed of diffusers' scheduler is its configuration: the curve of the noise, how
timesteps are spaced, and where sampling ends. Two conventions differ between samplers, and we keep each as it is in
diffusers: DDIM ends at t = 0's level where `set_alpha_to_one` is false (Stable Diffusion 1.5), while Karras' samplers
end in the clean latent; and DPM-Solver++ divides the time into n + 1 parts where DDIM divides it into n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.names import unknown_name
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import SPACINGS, DDPMSchedule, FlowSchedule, Level, Schedule

KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x_0"}
CURVES = {"linear": DDPMSchedule.linear, "scaled_linear": DDPMSchedule.scaled_linear}


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler's configuration is that of a flow-matching model."""
    return "beta_start" not in config or config.get("prediction_type") == "flow_prediction"


def kind_of(config: Mapping[str, Any]) -> str:
    """What the network predicts, as `predictions.KINDS` names it."""
    if is_flow(config):
        return "flow"
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in KINDS:
        raise unknown_name("prediction_type of the model's scheduler", predicted, KINDS)
    return KINDS[predicted]


def schedule_of(config: Mapping[str, Any], sampler: str = "ddim") -> Schedule:
    """Our schedule for a scheduler's configuration, ending where this sampler ends.

    Raises ValueError for a curve that is not one of ours.
    """
    if is_flow(config):
        if config.get("use_dynamic_shifting"):
            raise ValueError("This model shifts its schedule by the picture's size (use_dynamic_shifting): not here.")
        return FlowSchedule(shift=config.get("shift") or config.get("flow_shift") or 1.0)
    curve = config.get("beta_schedule", "linear")
    if curve not in CURVES or config.get("trained_betas") is not None:
        raise unknown_name("beta_schedule of the model's scheduler", curve, CURVES)
    options = {"rescale_zero_terminal_snr": True} if config.get("rescale_betas_zero_snr") else {}
    return CURVES[curve](
        num_train_timesteps=config.get("num_train_timesteps", 1000),
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        steps_offset=config.get("steps_offset", 0),
        final_alpha_one=sampler != "ddim" or bool(config.get("set_alpha_to_one", True)),
        **options,
    )


def timesteps_of(schedule: DDPMSchedule, num_inference_steps: int, sampler: str, spacing: str) -> Tensor:
    """The timesteps [n] that diffusers' sampler of that name visits, decreasing.

    Raises ValueError for a spacing that does not exist, or more steps than it has room for.
    """
    if spacing not in SPACINGS:
        raise unknown_name("spacing", spacing, SPACINGS)
    rounded = schedule.timesteps(num_inference_steps, spacing)  # also the check of what was given
    n, T = num_inference_steps, schedule.num_train_timesteps
    if sampler == "dpm_solver_pp_2m" and spacing != "trailing":  # n + 1 parts, the last of them left out
        if spacing == "linspace":
            return torch.linspace(0, T - 1, n + 1, dtype=torch.float64).round().flip(0)[:-1]
        return (torch.arange(n + 1, dtype=torch.float64) * (T // (n + 1))).flip(0)[:-1] + schedule.steps_offset
    if spacing == "linspace" and sampler not in ("ddim", "ddpm"):  # Karras' samplers stop between timesteps too
        return torch.linspace(0, T - 1, n, dtype=torch.float64).flip(0)
    return rounded


def levels_of(
    config: Mapping[str, Any], num_inference_steps: int, sampler: str, spacing: str | None = None
) -> list[Level]:
    """n levels and the goal, for one of `SAMPLERS`; spacing is the configuration's if it is not given.

    A flow model's levels are even in t before the shift: 1, (n-1)/n, ..., 1/n. (diffusers' own default spends its last
    step on almost nothing; give its pipeline `sigmas=np.linspace(1, 1 / n, n)` to compare.)
    """
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    schedule = schedule_of(config, sampler)
    if isinstance(schedule, FlowSchedule):
        if spacing is not None:
            raise ValueError(f"A flow model's levels have no spacing, but its shift; got spacing {spacing!r}.")
        return schedule.levels(num_inference_steps)
    spacing = spacing or config.get("timestep_spacing", "leading")
    return schedule.levels_at(timesteps_of(schedule, num_inference_steps, sampler, spacing))
