"""The levels that a pipeline's scheduler would visit, computed from our own schedules.

The samplers are ours, so only the configuration of diffusers' scheduler is needed (`schedulers`): the noise schedule,
the spacing of the levels, and where sampling ends. For each sampler the levels are those that diffusers visits with the
corresponding scheduler, made by `XScheduler.from_config(pipe.scheduler.config)`:

| sampler            | scheduler of diffusers          | spacing, unless the configuration names one    | ends         |
|--------------------|---------------------------------|------------------------------------------------|--------------|
| `ddim`             | DDIMScheduler                   | leading                                        | clean, or at |
|                    |                                 | (set_alpha_to_one false: ends at t = 0's level)| t = 0        |
| `ddpm`             | DDPMScheduler                   | leading                                        | clean        |
| `euler`            | EulerDiscreteScheduler          | linspace, between timesteps too                | clean        |
| `euler_ancestral`  | EulerAncestralDiscreteScheduler | linspace, between timesteps too                | clean        |
| `heun`             | HeunDiscreteScheduler           | linspace, between timesteps too                | clean        |
| `dpm_solver_pp_2m` | DPMSolverMultistepScheduler     | linspace of n + 1 parts without the last       | clean        |

A configuration of the sampler's own class is used unchanged, including use_karras_sigmas and similar keys. A flow
model's levels are those of its own class, whatever the sampler.

One behaviour is not copied. diffusers' DDIMScheduler steps from t to t - T // n, whichever timestep it visits next.
That is the next timestep for "leading", and for "trailing" if n divides T; in the other cases ours steps to the next
timestep, and a configuration of "linspace" is refused for DDIM.

EDM's levels (x_t = x_0 + sigma eps) are given in variance-preserving form, both factors divided by sqrt(1 + sigma^2):
then sampling starts from unit noise as for the other families. Samplers and preconditioning are the same in both forms.
A last level that is not clean (final_sigmas_type "sigma_min") has alpha = 1, because diffusers decodes x_0 + sigma eps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.messages import unknown_name
from diffusion_explained.samplers import FEW_STEPS, PURE_NOISE
from diffusion_explained.schedules import (
    RATIO_SPACINGS,
    SPACINGS,
    DDPMSchedule,
    EDMSchedule,
    FlowSchedule,
    Level,
    Schedule,
    check_decreasing,
    rescale_zero_terminal_snr,
)
from diffusion_explained.schedules.base import check_steps
from diffusion_explained.schedules.spacing import spaced_ratios, spaced_timesteps, time_of_ratio
from diffusion_explained.stable_diffusion.schedulers import family_of, options_of, scheduler_class


def config_of(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler of diffusers, with its class name, which a scheduler made by hand leaves out."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x_0"}
# EDM's output at sigma_data 0.5 is the table's "edm"; at 1 it is v, in variance-preserving form
EDM_KINDS = {("epsilon", 0.5): "edm", ("v_prediction", 1.0): "v"}
CURVES: dict[str, Callable[..., DDPMSchedule]] = {
    "linear": DDPMSchedule.linear,
    "scaled_linear": DDPMSchedule.scaled_linear,
    "squaredcos_cap_v2": DDPMSchedule.cosine,
    "sigmoid": DDPMSchedule.sigmoid,
}
ALL_BUT_ZERO = 2**-24  # diffusers' alphas_cumprod at zero terminal SNR, except in DDIM and DDPM
ON_RATIOS = ("euler", "euler_ancestral", "heun")  # samplers whose classes in diffusers integrate x / alpha


def kind_of(config: Mapping[str, Any]) -> str:
    """The prediction type, one of `predictions.KINDS`. Raises ValueError for a type that is not among them."""
    family = family_of(config)
    if family == "flow":
        return "flow"
    options = options_of(config)
    predicted = options["prediction_type"]
    if family == "edm":
        key = (predicted, float(options["sigma_data"]))
        if key not in EDM_KINDS:
            raise ValueError(
                f"The model's scheduler, {config['_class_name']}, sets prediction_type to {predicted!r} with "
                f'sigma_data {key[1]:g}; supported are "epsilon" with 0.5 and "v_prediction" with 1.'
            )
        return EDM_KINDS[key]
    if predicted not in KINDS:
        raise unknown_name(f"prediction_type of the model's {config['_class_name']}", predicted, KINDS)
    return KINDS[predicted]


def default_sampler_of(config: Mapping[str, Any]) -> str:
    """The one of `SAMPLERS` that computes the same as the model's own scheduler; else Euler for a flow, or DDIM."""
    own = scheduler_class(config).sampler
    return "euler" if family_of(config) == "flow" else own or "ddim"


def schedule_of(config: Mapping[str, Any], sampler: str | None = None) -> Schedule:
    """Our schedule for a scheduler's configuration, with the network's time input, ending where this sampler ends.

    The time input is the one of the training: the timestep 0 .. T-1; for a flow T * t; for EDM and for timestep_type
    "continuous" c_noise = ln(sigma / alpha) / 4.

    Raises ValueError for a configuration that is not supported.
    """
    family, options = family_of(config), options_of(config, sampler)
    if family == "flow":
        shift = options.get("shift") or options.get("flow_shift") or 1.0
        return FlowSchedule(shift=shift, num_train_timesteps=options["num_train_timesteps"])
    if family == "edm":
        return EDMSchedule(options["sigma_min"], options["sigma_max"], options["rho"], clock="c_noise")
    return _vp_schedule(config, options, sampler)


def _vp_schedule(config: Mapping[str, Any], options: Mapping[str, Any], sampler: str | None) -> DDPMSchedule:
    """The schedule of a variance-preserving model, from the name of its beta schedule or from its own betas."""
    T = options["num_train_timesteps"]
    continuous = options.get("timestep_type") == "continuous" and options["prediction_type"] == "v_prediction"
    end = {
        "steps_offset": options.get("steps_offset", 0),
        "final_alpha_one": sampler != "ddim" or options["set_alpha_to_one"],
        "clock": "c_noise" if continuous else "steps",
    }
    if (betas := options["trained_betas"]) is not None:
        betas = float64_on_cpu("trained_betas", betas)
        if len(betas) != T:
            raise ValueError(
                f"The model's scheduler, {config['_class_name']}, sets {len(betas)} trained_betas for "
                f"num_train_timesteps {T}: there must be one per timestep."
            )
        return DDPMSchedule(rescale_zero_terminal_snr(betas) if options.get("rescale_betas_zero_snr") else betas, **end)
    curve = options["beta_schedule"]
    if curve not in CURVES:
        raise unknown_name(f"beta_schedule of the model's {config['_class_name']}", curve, CURVES)
    if curve != "squaredcos_cap_v2":
        end |= {"beta_start": options["beta_start"], "beta_end": options["beta_end"]}
    if options.get("rescale_betas_zero_snr"):
        end["rescale_zero_terminal_snr"] = True
    return CURVES[curve](num_train_timesteps=T, **end)


def levels_of(
    config: Mapping[str, Any],
    num_inference_steps: int,
    sampler: str,
    spacing: str | None = None,
    *,
    sequence_length: int | None = None,
) -> list[Level]:
    """The n levels of n steps, and the level where sampling ends, for one of `SAMPLERS`.

    Args:
        config: the configuration of the model's scheduler, from scheduler_config.json or `pipe.scheduler.config`.
        num_inference_steps: n.
        sampler: the sampler that visits the levels; see the table above.
        spacing: replaces the configuration's: one of `SPACINGS` or `RATIO_SPACINGS`. A flow model takes all but
            "leading": "linspace" is the default of diffusers' pipeline, and its last step is almost of length 0;
            "trailing" is even before the shift, 1, (n-1)/n, ..., 1/n.
        sequence_length: the number of the transformer's image tokens, for use_dynamic_shifting.

    Raises ValueError for a configuration that is not supported, or a spacing or number of steps that does not exist.
    """
    if spacing is not None and spacing not in SPACINGS + RATIO_SPACINGS:
        raise unknown_name("spacing", spacing, SPACINGS + RATIO_SPACINGS)
    family, options = family_of(config), options_of(config, sampler)
    n = check_steps(num_inference_steps)
    if family == "flow":
        levels = _flow_levels(config, options, n, sampler, spacing, sequence_length)
    elif family == "edm":
        levels = _edm_levels(config, options, n, spacing)
    else:
        levels = _vp_levels(config, options, n, sampler, spacing)
    before, end = levels[-2:]
    if len(levels) > 2 and math.isclose(end.sigma * before.alpha, before.sigma * end.alpha, rel_tol=1e-6):
        del levels[-2]  # a last step of length 0, which diffusers takes for some configurations with "sigma_min"
        if sampler == "dpm_solver_pp_2m" and n <= FEW_STEPS:
            raise ValueError(
                f"The model's scheduler, {config['_class_name']}, sets final_sigmas_type to 'sigma_min', where the "
                f"last of {n} steps has length 0: take more than {FEW_STEPS} steps, or another sampler."
            )
    check_decreasing(levels)
    return levels


def start_scale(config: Mapping[str, Any], sampler: str, levels: list[Level], spacing: str | None = None) -> float:
    """The factor of the initial noise, as in diffusers: 1, or sigma of the first level.

    A noisy sample is alpha x_0 + sigma eps, of about unit variance, and most samplers start from eps. With "linspace"
    and "trailing" diffusers' Euler and Heun start from sigma eps (0.2 to 0.4% less for Stable Diffusion).
    """
    options = options_of(config, sampler)
    named = spacing if spacing in SPACINGS else options.get("timestep_spacing")
    scaled = family_of(config) == "vp" and sampler in ON_RATIOS and named in ("linspace", "trailing")
    return levels[0].sigma if scaled else 1.0


def shift_of(options: Mapping[str, Any], sequence_length: int) -> float:
    """mu of use_dynamic_shifting: linear in the length, base_shift at base_image_seq_len and max_shift at max_..."""
    low, high = options["base_image_seq_len"], options["max_image_seq_len"]
    slope = (options["max_shift"] - options["base_shift"]) / (high - low)
    return options["base_shift"] + slope * (sequence_length - low)


def _flow_levels(
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    n: int,
    sampler: str,
    spacing: str | None,
    sequence_length: int | None,
) -> list[Level]:
    """Levels of a flow model, t = sigma, of FlowMatchEulerDiscreteScheduler or of the class that has flow_shift."""
    name, T = config["_class_name"], options["num_train_timesteps"]
    if spacing == "leading":
        raise ValueError('A flow model has no "leading" spacing; use linspace, trailing, karras, exponential or beta.')
    solver = "flow_shift" in options
    shift, dynamic = options.get("shift") or options.get("flow_shift") or 1.0, options.get("use_dynamic_shifting")
    if dynamic:
        if sequence_length is None:
            raise ValueError(f"{name} shifts by the picture's size (use_dynamic_shifting): give sequence_length.")
        mu = shift_of(options, sequence_length)
        shift = math.exp(mu) if options["time_shift_type"] == "exponential" else mu

    def shifted(t: np.ndarray) -> np.ndarray:
        return shift * t / (1 + (shift - 1) * t)

    if solver and sampler == "dpm_solver_pp_2m" and spacing is None:
        t = shifted(1 - np.linspace(1, 1 / T, n + 1))[:0:-1]
        times = np.trunc(t * T) / T  # this solver gives the network whole timesteps
        return [Level(float(times[i]), float(1 - t[i]), float(t[i])) for i in range(n)] + [Level(0.0, 1.0, 0.0)]
    if spacing == "trailing" or (solver and spacing is None):
        t = shifted(np.arange(n, 0, -1) / n)
    else:
        least = 1 / T if dynamic else float(shifted(np.array(1 / T)))
        t = shifted(np.linspace(1, least, n))
    if terminal := options.get("shift_terminal"):
        if n == 1:
            raise ValueError(f"{name} ends at shift_terminal {terminal:g}, so it needs 2 steps or more; got 1.")
        t = 1 - (1 - t) / ((1 - t[-1]) / (1 - terminal))
    if ratio_spacing := spacing if spacing in RATIO_SPACINGS else _ratio_spacing(options, spacing):
        t = spaced_ratios(ratio_spacing, n, float(t[0]), float(t[-1]))
    return [Level(x, 1 - x, x) for x in t.tolist()] + [Level(0.0, 1.0, 0.0)]


def _edm_levels(config: Mapping[str, Any], options: Mapping[str, Any], n: int, spacing: str | None) -> list[Level]:
    """EDM's levels (Eq. 5), t = sigma, divided by sqrt(1 + sigma^2)."""
    if spacing in SPACINGS:
        raise ValueError(f"An EDM model has no {spacing!r} spacing; use {', '.join(RATIO_SPACINGS)}.")
    if n == 1 and spacing is None and options["sigma_schedule"] == "exponential":
        raise ValueError(
            f"The model's scheduler, {config['_class_name']}, sets sigma_schedule to 'exponential', with which one "
            'step visits only the cleanest level in diffusers: take 2 or more steps, or give spacing="karras".'
        )
    low, high = options["sigma_min"], options["sigma_max"]
    sigmas = spaced_ratios(spacing or options["sigma_schedule"], n, high, low, options["rho"]).tolist()
    last = sigmas[-1] if options["final_sigmas_type"] == "sigma_min" else 0.0
    return [*(_on_ratio(sigma, sigma) for sigma in sigmas), Level(last, 1.0, last)]


def _on_ratio(t: float, ratio: float) -> Level:
    """The variance-preserving level of a noise ratio sigma / alpha."""
    alpha = (1 + ratio**2) ** -0.5
    return Level(t, alpha, ratio * alpha)


def _ratio_spacing(options: Mapping[str, Any], spacing: str | None) -> str | None:
    """The one of `RATIO_SPACINGS` that is given, else the configured one; None for a spacing of timesteps."""
    if spacing is not None:
        return spacing if spacing in RATIO_SPACINGS else None
    if options.get("use_lu_lambdas"):
        return "exponential"  # even in lambda = -log(sigma / alpha): the same levels
    return next((one for one in RATIO_SPACINGS if options.get(f"use_{one}_sigmas")), None)


def _vp_levels(
    config: Mapping[str, Any], options: Mapping[str, Any], n: int, sampler: str, spacing: str | None
) -> list[Level]:
    """Levels of a variance-preserving model, as visited by the sampler's class in diffusers."""
    name, schedule = config["_class_name"], _vp_schedule(config, options_of(config, sampler), sampler)
    T = check_steps(options["num_train_timesteps"])
    check_steps(n, T)
    by_time = spacing if spacing in SPACINGS else options.get("timestep_spacing", "linspace")
    by_ratio = _ratio_spacing(options, spacing)
    if sampler in ("ddim", "ddpm"):
        if by_ratio:
            return DDPMSchedule(schedule.betas, clock=schedule.clock).levels(n, by_ratio)
        if sampler == "ddim" and by_time == "linspace" and spacing is None:
            raise ValueError(
                f"The model's scheduler, {name}, sets timestep_spacing to 'linspace', where diffusers' DDIM does not "
                'step to its own next timestep: give the spacing ("trailing" or "leading"), or use the sampler "euler".'
            )
        t = _timesteps(by_time, n, T, sampler, options.get("steps_offset", 0))
        if t[-1] == 0 and not schedule.final_alpha_one:  # the last of diffusers' steps, from t = 0 to t = 0
            if by_time == "linspace":  # given by the caller; diffusers' DDIM cannot do this: n steps, the last to x_0
                schedule = DDPMSchedule(schedule.betas, clock=schedule.clock)
            else:
                t = t[:-1]
        return schedule.levels_at(t.tolist())
    # in float32, as in diffusers: whether 998.9999 or 999 is rounded down changes the picture
    alphas_cumprod = torch.cumprod(1 - schedule.betas.float(), dim=0).numpy()
    if options.get("rescale_betas_zero_snr"):
        alphas_cumprod[-1] = ALL_BUT_ZERO
    curve = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
    t = _timesteps(by_time, n, T, sampler, options.get("steps_offset", 0))
    ratios = np.interp(t, np.arange(T), curve)
    last = curve[0] if options.get("final_sigmas_type", "zero") == "sigma_min" else 0.0
    if options.get("interpolation_type", "linear") == "log_linear":
        ratios = np.exp(np.linspace(math.log(curve[-1]), math.log(curve[0]), n + 1))
        if by_ratio is None:
            ratios, last = ratios[:-1], ratios[-1]
    if by_ratio is not None:
        solver = sampler == "dpm_solver_pp_2m"  # spaces between the ends of the curve, the others between ratios' ends
        ends = (curve[-1], curve[0]) if solver else (ratios[0], ratios[-1])
        high, low = (options.get(key) or end for key, end in zip(("sigma_max", "sigma_min"), ends, strict=True))
        ratios = spaced_ratios(by_ratio, n, float(high), float(low))
        t = time_of_ratio(ratios, curve)
        if solver:  # this solver gives the network whole timesteps
            rounds = by_ratio == "karras" or (options["use_lu_lambdas"] and spacing is None)
            t = np.round(t) if rounds and options["beta_schedule"] != "squaredcos_cap_v2" else np.trunc(t)
    if sampler == "heun" and n > 1 and ratios[0] >= PURE_NOISE:
        raise ValueError(
            f"The model's scheduler, {name}, starts from sigma/alpha = {ratios[0]:.0f}, nearly pure noise, where "
            "Heun's second slope is multiplied by this ratio: use another sampler."
        )
    end = _on_ratio(0.0 if last else -1.0, float(last))
    if last and sampler in ON_RATIOS:  # what diffusers decodes is then x / alpha
        end = Level(0.0, 1.0, float(last))
    return [*map(_on_ratio, t.tolist(), ratios.tolist()), end]


def _timesteps(spacing: str, n: int, T: int, sampler: str, steps_offset: int) -> np.ndarray:
    """The timesteps (float64 [n], decreasing) that the class of the sampler's name visits in diffusers."""
    if sampler == "dpm_solver_pp_2m" and spacing != "trailing":  # n + 1 parts, the last of them left out
        if spacing == "linspace":
            t = np.linspace(0, T - 1, n + 1).round()[:0:-1]
        else:
            t = np.arange(n, 0, -1, dtype=np.float64) * (T // (n + 1)) + steps_offset
    elif sampler in ON_RATIOS and spacing == "linspace":
        t = np.linspace(0, T - 1, n, dtype=np.float32)[::-1].astype(np.float64)
    else:
        t = spaced_timesteps(spacing, n, T, steps_offset)
    if t[0] > T - 1 or any(a <= b for a, b in itertools.pairwise(t)):
        raise ValueError(
            f'"{spacing}" spacing with steps_offset {steps_offset} has no {n} different timesteps in 0 .. {T - 1}. Use '
            'fewer steps, or "trailing".'
        )
    if n == 1 and t[0] < T // 4:
        raise ValueError(
            f'One step of "{spacing}" spacing visits only t = {t[0]:g} of 0 .. {T - 1}, a nearly clean level, which '
            'cannot start from noise. Give spacing="trailing" for a single step, or take 2 or more.'
        )
    return t
