"""Read a scheduler_config.json: a table of diffusers' scheduler classes, and which of their settings are obeyed here.

The samplers are ours; only the configuration of diffusers' scheduler is needed. Each key of a configuration is

    obeyed      it determines the noise schedule, the levels that are visited, or the prediction type
    a solver's  it belongs to diffusers' own solver: ignored, unless our sampler is the same solver
    harmless    it changes no picture
    refused     all others: a value that is not the class's default is a ValueError that names the class and the key

A class that is not in the table, or has no counterpart here, is refused by its name. A missing key has the default of
its class. Importing this module needs neither diffusers nor a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.samplers import SAMPLERS

INFINITY = float("inf")
MOST_TIMESTEPS = 100_000  # the levels of so many timesteps take little memory
# defaults that several classes share
CURVE = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
         "trained_betas": None}  # fmt: skip
LATENT_CURVE = {**CURVE, "beta_start": 0.00085, "beta_end": 0.012}
THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
RATIOS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0}
DYNAMIC = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
EPSILON = {"prediction_type": "epsilon"}
ZERO_SNR = {"rescale_betas_zero_snr": False}
DDIM = {**CURVE, **EPSILON, **THRESHOLD, **CLIP, **LEADING, **ZERO_SNR, "set_alpha_to_one": True}
DDPM = {**CURVE, **EPSILON, **THRESHOLD, **CLIP, **LEADING, **ZERO_SNR, "variance_type": "fixed_small"}
KDPM2 = {**LATENT_CURVE, **EPSILON, **RATIOS, **LINSPACE}
MULTISTEP = {**CURVE, **EPSILON, **THRESHOLD, **RATIOS, **FLOW}
SOLVER = {"solver_order": 2, "lower_order_final": True}
EDM = {"num_train_timesteps": 1000, "prediction_type": "epsilon", "sigma_min": 0.002, "sigma_max": 80.0,
       "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0, "final_sigmas_type": "zero"}  # fmt: skip
FLOW_MATCH = {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False, "base_shift": 0.5,
              "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": False,
              "shift_terminal": None, **RATIOS, "time_shift_type": "exponential"}  # fmt: skip


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of diffusers: its family ("vp", "edm" or "flow"), and every configuration key with its default.

    sampler: the one of `SAMPLERS` that computes the same as the class; None if there is none.
    refused: for an unsupported class, the reason; otherwise "".
    """

    family: str
    defaults: dict[str, Any] = field(default_factory=dict)
    sampler: str | None = None
    refused: str = ""


def _refused(why: str) -> SchedulerClass:
    return SchedulerClass("refused", refused=why)


CONSISTENCY = "consistency models need another sampler (a jump to x_0, then fresh noise), which this package lacks"
TOKENS = "it samples discrete tokens, not Gaussian noise"
INVERSION = "it goes from a picture to noise; use samplers.ddim_invert on the levels of the model's own scheduler"
OTHER_MODEL = "it belongs to another kind of model than Stable Diffusion"

CLASSES: dict[str, SchedulerClass] = {
    # variance preserving: alpha^2 + sigma^2 = 1
    "DDIMScheduler": SchedulerClass("vp", DDIM, "ddim"),
    "DDIMParallelScheduler": SchedulerClass("vp", DDIM, "ddim"),
    "DDPMScheduler": SchedulerClass("vp", DDPM, "ddpm"),
    "DDPMParallelScheduler": SchedulerClass("vp", DDPM, "ddpm"),
    "PNDMScheduler": SchedulerClass(
        "vp", {**CURVE, **EPSILON, **LEADING, "skip_prk_steps": False, "set_alpha_to_one": False}
    ),
    "EulerDiscreteScheduler": SchedulerClass(
        "vp",
        {
            **CURVE, **EPSILON, **RATIOS, **LINSPACE, **ZERO_SNR, "interpolation_type": "linear", "sigma_min": None,
            "sigma_max": None, "timestep_type": "discrete", "final_sigmas_type": "zero",
        },
        "euler",
    ),
    "EulerAncestralDiscreteScheduler": SchedulerClass(
        "vp", {**CURVE, **EPSILON, **LINSPACE, **ZERO_SNR}, "euler_ancestral"
    ),
    "HeunDiscreteScheduler": SchedulerClass(
        "vp", {**LATENT_CURVE, **EPSILON, **RATIOS, **CLIP, "clip_sample": False, **LINSPACE}, "heun"
    ),
    "DPMSolverMultistepScheduler": SchedulerClass(
        "vp",
        {
            **MULTISTEP, **SOLVER, **LINSPACE, **ZERO_SNR, **DYNAMIC, "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint", "euler_at_final": False, "use_lu_lambdas": False, "final_sigmas_type": "zero",
            "lambda_min_clipped": -INFINITY, "variance_type": None,
        },
        "dpm_solver_pp_2m",
    ),
    "DPMSolverSinglestepScheduler": SchedulerClass(
        "vp",
        {
            **MULTISTEP, **SOLVER, **DYNAMIC, "lower_order_final": False, "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint", "final_sigmas_type": "zero", "lambda_min_clipped": -INFINITY,
            "variance_type": None,
        },
    ),
    "DPMSolverSDEScheduler": SchedulerClass(
        "vp", {**LATENT_CURVE, **EPSILON, **RATIOS, **LINSPACE, "noise_sampler_seed": None}
    ),
    "DEISMultistepScheduler": SchedulerClass(
        "vp", {**MULTISTEP, **SOLVER, **LINSPACE, **DYNAMIC, "algorithm_type": "deis", "solver_type": "logrho"}
    ),
    "UniPCMultistepScheduler": SchedulerClass(
        "vp",
        {
            **MULTISTEP, **SOLVER, **LINSPACE, **ZERO_SNR, **DYNAMIC, "predict_x0": True, "solver_type": "bh2",
            "disable_corrector": [], "solver_p": None, "final_sigmas_type": "zero", "sigma_min": None,
            "sigma_max": None, "shift_terminal": None,
        },
    ),
    "SASolverScheduler": SchedulerClass(
        "vp",
        {
            **MULTISTEP, **LINSPACE, "predictor_order": 2, "corrector_order": 2, "tau_func": None,
            "algorithm_type": "data_prediction", "lower_order_final": True, "lambda_min_clipped": -INFINITY,
            "variance_type": None,
        },
    ),
    "KDPM2DiscreteScheduler": SchedulerClass("vp", KDPM2),
    "KDPM2AncestralDiscreteScheduler": SchedulerClass("vp", KDPM2),
    "LMSDiscreteScheduler": SchedulerClass("vp", {**CURVE, **EPSILON, **RATIOS, **LINSPACE}),
    # EDM: the network is preconditioned, and its time input is ln(sigma) / 4
    "EDMEulerScheduler": SchedulerClass("edm", EDM, "euler"),
    "EDMDPMSolverMultistepScheduler": SchedulerClass(
        "edm",
        {
            **EDM, **THRESHOLD, **SOLVER, "algorithm_type": "dpmsolver++", "solver_type": "midpoint",
            "euler_at_final": False,
        },
        "dpm_solver_pp_2m",
    ),
    # flow matching: x_t = (1 - t) x_0 + t eps
    "FlowMatchEulerDiscreteScheduler": SchedulerClass("flow", {**FLOW_MATCH, "stochastic_sampling": False}, "euler"),
    "FlowMatchHeunDiscreteScheduler": SchedulerClass("flow", {"num_train_timesteps": 1000, "shift": 1.0}, "heun"),
    # known, but not supported
    "LCMScheduler": _refused(CONSISTENCY),
    "TCDScheduler": _refused(CONSISTENCY),
    "FlowMatchLCMScheduler": _refused(CONSISTENCY),
    "CMStochasticIterativeScheduler": _refused(CONSISTENCY),
    "ConsistencyDecoderScheduler": _refused(CONSISTENCY),
    "SCMScheduler": _refused(CONSISTENCY),
    "DDIMInverseScheduler": _refused(INVERSION),
    "DPMSolverMultistepInverseScheduler": _refused(INVERSION),
    "AmusedScheduler": _refused(TOKENS),
    "BlockRefinementScheduler": _refused(TOKENS),
    "DiscreteDDIMScheduler": _refused(TOKENS),
    "EntropyBoundScheduler": _refused(TOKENS),
    "VQDiffusionScheduler": _refused(TOKENS),
    "CogVideoXDDIMScheduler": _refused(OTHER_MODEL),
    "CogVideoXDPMScheduler": _refused(OTHER_MODEL),
    "CosineDPMSolverMultistepScheduler": _refused(OTHER_MODEL),
    "DDPMWuerstchenScheduler": _refused(OTHER_MODEL),
    "FlowMapEulerDiscreteScheduler": _refused(OTHER_MODEL),
    "HeliosDMDScheduler": _refused(OTHER_MODEL),
    "HeliosScheduler": _refused(OTHER_MODEL),
    "IPNDMScheduler": _refused(OTHER_MODEL),
    "KarrasVeScheduler": _refused(OTHER_MODEL),
    "LTXEulerAncestralRFScheduler": _refused(OTHER_MODEL),
    "MiniMaxH3Scheduler": _refused(OTHER_MODEL),
    "PiflowScheduler": _refused(OTHER_MODEL),
    "RFD4ProteinaScheduler": _refused(OTHER_MODEL),
    "RePaintScheduler": _refused(OTHER_MODEL),
    "ScoreSdeVeScheduler": _refused(OTHER_MODEL),
    "ScoreSdeVpScheduler": _refused(OTHER_MODEL),
    "UnCLIPScheduler": _refused(OTHER_MODEL),
}  # fmt: skip

# for each family and sampler X the scheduler class whose configuration a user of diffusers makes with
# XScheduler.from_config(pipe.scheduler.config)
COUNTERPARTS = {
    "vp": {
        "ddpm": "DDPMScheduler",
        "ddim": "DDIMScheduler",
        "euler": "EulerDiscreteScheduler",
        "euler_ancestral": "EulerAncestralDiscreteScheduler",
        "heun": "HeunDiscreteScheduler",
        "dpm_solver_pp_2m": "DPMSolverMultistepScheduler",
    },
    "edm": {"euler": "EDMEulerScheduler", "dpm_solver_pp_2m": "EDMDPMSolverMultistepScheduler"},
    "flow": {},  # every sampler visits the levels of the model's own class
}

# settings of the training: never dropped, even where the class of another sampler does not have the key
TRAINED = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
           "rescale_betas_zero_snr", "timestep_type", "sigma_data", "use_flow_sigmas", "flow_shift"}  # fmt: skip
OBEYED = TRAINED | {
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "use_karras_sigmas", "use_exponential_sigmas",
    "use_beta_sigmas", "use_lu_lambdas", "final_sigmas_type", "interpolation_type", "sigma_min", "sigma_max",
    "sigma_schedule", "rho", "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len",
    "max_image_seq_len", "time_shift_type", "shift_terminal",
}  # fmt: skip
# settings of diffusers' solvers, with the values that ours computes; where our sampler is the solver, any other value
# is refused
SOLVERS: dict[str, tuple[Any, ...]] = {
    "algorithm_type": ("dpmsolver++", "deis"),  # diffusers replaces DEIS's names by its own defaults
    "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
    "solver_order": (2,),
    "lambda_min_clipped": (-INFINITY, None),
    "variance_type": (None, "fixed_small", "fixed_small_log"),
    "lower_order_final": (True,),
    "euler_at_final": (False,),
    "skip_prk_steps": (True, False),
    "predict_x0": (True,),
    "predictor_order": (2,),
    "corrector_order": (2,),
    "disable_corrector": ([],),
    "solver_p": (None,),
    "tau_func": (None,),
    "noise_sampler_seed": (None,),
}
VALUES = {
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_type": ("discrete", "continuous"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "sigma_schedule": ("karras", "exponential"),
    "time_shift_type": ("exponential", "linear"),
}
LAST_STEP = ("lower_order_final", "euler_at_final")
# parameters of features that are themselves refused when on, and keys that older releases of diffusers wrote
HARMLESS = {"dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range", "tensor_format",
            "skip_prk_steps", "timestep_values", "original_inference_steps", "timestep_scaling"}  # fmt: skip


def scheduler_class(config: Mapping[str, Any]) -> SchedulerClass:
    """The class that a scheduler's configuration names. Raises ValueError for one that is not supported."""
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise ValueError(f"The model's scheduler configuration names no class (_class_name is {shortened(name)}).")
    if name not in CLASSES:
        driven = [one for one, entry in CLASSES.items() if not entry.refused]
        raise unknown_name("scheduler class of the model", name, driven)
    if why := CLASSES[name].refused:
        raise ValueError(
            f"The model's scheduler is a {name}, which is not supported: {why}. A scheduler_config.json that names "
            "DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler is."
        )
    return CLASSES[name]


def options_of(config: Mapping[str, Any], sampler: str | None = None) -> dict[str, Any]:
    """Every setting of the scheduler that diffusers would use for this sampler, defaults included.

    For the configuration's own class (or without a sampler) these are the settings of the configuration. For another
    class X they are those of `XScheduler.from_config(pipe.scheduler.config)` in diffusers: a key that the configuration
    sets is carried over if X has it; any other key takes X's default. For example Stable Diffusion 1.5, whose
    PNDMScheduler spaces its timesteps "leading" by default, is sampled with "linspace" by Euler's method.

    Raises ValueError, which names the class and the key, for a setting that is not obeyed here.
    """
    if sampler is not None and sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    own, family, name = scheduler_class(config), family_of(config), config["_class_name"]
    full = {key: value for key, value in config.items() if not key.startswith("_")}
    given = {key: value for key, value in full.items() if key not in config.get("_use_default_values", ())}
    other = None if sampler in (None, own.sampler) else COUNTERPARTS[family].get(sampler)
    if family == "flow" and own.family == "vp" and sampler == "dpm_solver_pp_2m" != own.sampler:
        other = "DPMSolverMultistepScheduler"
    target, chosen = (own, full) if other is None else (CLASSES[other], given)
    options = {**target.defaults, **{key: value for key, value in chosen.items() if key in target.defaults}}
    for key, value in given.items():
        _check_key(name, own, target, key, value, strict=sampler is not None)
    if any(options.get(key) for key in RATIOS):  # diffusers finds the range in the configuration it carried over
        for key in ("sigma_min", "sigma_max"):
            if given.get(key) is not None and key not in target.defaults:
                raise _not_obeyed(name, key, given[key], f"{sampler} would space its levels between other ends")
    if own.sampler in ("ddim", "ddpm") and options.get("clip_sample"):
        raise _not_obeyed(name, "clip_sample", True, "it is on by default; latents are not bounded by 1")
    _check_values(name, family, options, sampler)
    return options


def family_of(config: Mapping[str, Any]) -> str:
    """The family, "vp", "edm" or "flow". Raises ValueError if the class and its keys contradict each other."""
    entry, name = scheduler_class(config), config["_class_name"]
    predicts, flow = config.get("prediction_type"), config.get("use_flow_sigmas", False)
    if entry.family == "vp" and (predicts == "flow_prediction") != bool(flow):
        raise ValueError(
            f"The model's scheduler, {name}, sets prediction_type to {shortened(predicts)} and use_flow_sigmas to "
            f'{shortened(flow)}: a flow model has "flow_prediction" and true, any other model neither.'
        )
    return "flow" if flow else entry.family


def _check_key(name: str, own: SchedulerClass, target: SchedulerClass, key: str, value: Any, strict: bool) -> None:
    """Raise ValueError unless a key that the configuration sets is obeyed or harmless.

    strict: the class of the chosen sampler must obey it too.
    """
    defaults = [entry.defaults[key] for entry in CLASSES.values() if key in entry.defaults]
    if key == "predict_epsilon":  # written before there was prediction_type
        if value is not True:
            raise _not_obeyed(name, key, value, 'prediction_type took its place: "epsilon" or "sample"')
        return
    if not defaults and key not in HARMLESS:
        raise unknown_name(f"key of the scheduler configuration of {name}", key, own.defaults)
    _check_type(name, key, value, [own.defaults[key]] if key in own.defaults else defaults)
    if key in ("clip_sample", "thresholding") and value:
        raise _not_obeyed(name, key, value, "the sampler would have to change every predicted x_0")
    if key == "variance_type" and str(value).startswith("learned"):
        raise _not_obeyed(name, key, value, "the network predicts a variance too")
    if key in HARMLESS or key in SOLVERS or value in defaults or value is None or value is False:
        return
    if not strict and key in OBEYED:
        return
    if key in TRAINED and key not in target.defaults:
        raise _not_obeyed(name, key, value, "this sampler's class in diffusers has no such key: use another sampler")
    if key not in OBEYED or (key not in own.defaults and key not in target.defaults):
        raise _not_obeyed(name, key, value)


def _check_type(name: str, key: str, value: Any, defaults: list[Any]) -> None:
    """Raise ValueError for a value of another type than the defaults, or a number out of range."""
    if value is None:
        if key in OBEYED and any(type(default) in (int, float, str) for default in defaults) and None not in defaults:
            raise _of_another_kind(name, key, value, f"it must be of the same type as {defaults[0]!r}")
        return
    if key == "trained_betas":
        if not isinstance(value, list) or not 0 < len(value) <= MOST_TIMESTEPS or not all(map(_is_usable, value)):
            raise _of_another_kind(name, key, value, f"it must be a list of at most {MOST_TIMESTEPS} numbers")
        return
    kinds = {bool: (bool,), int: (int, float), float: (int, float), str: (str,)}
    for default in defaults[:1]:
        allowed = kinds.get(type(default))
        wrong = allowed is not None and not isinstance(value, allowed)
        if wrong or (isinstance(value, bool) and allowed == (int, float)):
            raise _of_another_kind(name, key, value, f"it must be of the same type as {default!r}")
    if isinstance(value, int | float) and not _is_usable(value) and value not in defaults:
        raise _of_another_kind(name, key, value, "it must be a finite number, below a million")
    if key == "num_train_timesteps" and not (value == int(value) and 1 <= value <= MOST_TIMESTEPS):
        raise _of_another_kind(name, key, value, f"it must be a whole number from 1 to {MOST_TIMESTEPS}")


def _is_usable(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e6  # and so neither NaN nor infinity


def _of_another_kind(name: str, key: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"The model's scheduler, {name}, sets {key} to {shortened(value)}: {allowed}.")


def _check_values(name: str, family: str, options: Mapping[str, Any], sampler: str | None) -> None:
    """Raise ValueError for settings, defaults included, whose values our samplers do not implement."""
    for key, allowed in VALUES.items():
        if key in options and options[key] not in allowed:
            raise unknown_name(f"{key} of the model's scheduler, {name}", options[key], allowed)
    for key in ("invert_sigmas", "stochastic_sampling"):
        if options.get(key):
            raise _not_obeyed(name, key, options[key])
    if options.get("use_dynamic_shifting") and options.get("base_image_seq_len", 0) == options.get("max_image_seq_len"):
        raise ValueError(
            f"The model's scheduler, {name}, sets base_image_seq_len and max_image_seq_len both to "
            f"{options['max_image_seq_len']}: use_dynamic_shifting needs two different lengths."
        )
    if (options.get("interpolation_type"), options.get("timestep_type")) == ("log_linear", "continuous"):
        raise _not_obeyed(name, "interpolation_type", "log_linear", "not together with the timestep_type 'continuous'")
    if sum(bool(options.get(key)) for key in RATIOS) > 1:
        raise ValueError(f"The model's scheduler, {name}, sets more than one of {', '.join(RATIOS)}: choose one.")
    if family == "flow" and "flow_shift" in options:
        for key in (*RATIOS, "use_lu_lambdas", "use_dynamic_shifting", "shift_terminal", "sigma_min", "sigma_max"):
            if options.get(key):
                raise _not_obeyed(name, key, options[key], "of this class's flow settings, only flow_shift is")
        if options.get("final_sigmas_type", "zero") != "zero":
            raise _not_obeyed(name, "final_sigmas_type", options["final_sigmas_type"], 'a flow model needs "zero"')
    if sampler in ("dpm_solver_pp_2m", "ddpm"):
        ends_clean = options.get("final_sigmas_type", "zero") == "zero"  # the last step is then of first order anyway
        for key, computed in SOLVERS.items():
            if key in options and options[key] not in computed and not (key in LAST_STEP and ends_clean):
                ours = " or ".join(repr(value) for value in computed)
                raise _not_obeyed(name, key, options[key], f"{sampler} computes {ours}; use another sampler")


def _not_obeyed(name: str, key: str, value: Any, why: str = "") -> ValueError:
    because = f" ({why})" if why else ""
    return ValueError(
        f"The model's scheduler, {name}, sets {key} to {shortened(value)}, which is not supported{because}. "
        "If the model does not need it, change the key in its scheduler_config.json."
    )
