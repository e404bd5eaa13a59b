"""Every scheduler class and configuration of diffusers: the same latents as a user of diffusers gets, or a refusal."""

import inspect
import math
from typing import Any

import diffusers
import numpy as np
import published
import pytest
import torch
from diffusers import schedulers as their_schedulers
from torch import Tensor

from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.samplers import SAMPLERS, final
from diffusion_explained.stable_diffusion.levels import (
    config_of,
    default_sampler_of,
    kind_of,
    levels_of,
    schedule_of,
    start_scale,
)
from diffusion_explained.stable_diffusion.schedulers import CLASSES, COUNTERPARTS, OBEYED

PUBLISHED = {name: published.read(name)["scheduler"] for name in published.NAMES} | {
    # what a user of diffusers writes for "DPM++ 2M Karras", and a fine-tuned model that visits other timesteps
    "dpm_2m_karras": {
        **{key: value for key, value in published.read("sd15")["scheduler"].items() if key != "skip_prk_steps"},
        "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "lower_order_final": True,
        "prediction_type": "epsilon", "solver_order": 2, "solver_type": "midpoint", "thresholding": False,
        "timestep_spacing": "linspace", "use_karras_sigmas": True,
    },
    "zero_snr_trailing": {**published.read("sdxl_v_zero_snr")["scheduler"], "timestep_spacing": "trailing"},
}  # fmt: skip
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SHAPE = (1, 4, 8, 8)
VP = COUNTERPARTS["vp"]
DRIVEN = [name for name, entry in CLASSES.items() if not entry.refused]


def network(x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
    """A fixed network: smooth, of about unit size, that mixes channels and neighbours and hears the time."""
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(7)) / 6
    y = torch.nn.functional.conv2d(x, weight, padding=1)
    t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, 1, 1, 1)
    return torch.tanh(y + 0.3 * torch.sin(t / 150) + 0.2 * torch.cos(t)) + 0.5 * x


def noise(generator: torch.Generator) -> Tensor:
    return torch.randn(SHAPE, generator=generator)


def theirs(scheduler: Any, n: int, mu: float | None = None) -> Tensor:
    """The loop of diffusers' pipelines."""
    generator = torch.Generator().manual_seed(3)
    scheduler.set_timesteps(n, **({} if mu is None else {"mu": mu}))
    x = noise(generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(scaled, t), t, x, **extra).prev_sample
    return x


def ours(config: Any, sampler: str, n: int, spacing: str | None = None, **options: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    levels = levels_of(config, n, sampler, spacing, **options)
    denoise = NetworkDenoiser(network, schedule_of(config, sampler), kind_of(config))
    extra = {"generator": generator} if "generator" in inspect.signature(SAMPLERS[sampler]).parameters else {}
    x_T = noise(generator) * start_scale(config, sampler, levels, spacing)
    return final(SAMPLERS[sampler](denoise, x_T, levels, **extra))


def made(config: dict[str, Any]) -> Any:
    """diffusers' scheduler of a configuration, as a pipeline loads it."""
    return getattr(diffusers, config["_class_name"]).from_config(config)


def counterpart(scheduler: Any, sampler: str) -> Any:
    """What a user of diffusers samples with: XScheduler.from_config(pipe.scheduler.config)."""
    return getattr(diffusers, VP[sampler]).from_config(scheduler.config)


def installed(name: str) -> Any:
    """diffusers' class, where the package that it needs is installed."""
    cls = getattr(diffusers, name)
    if "dummy" in cls.__module__:
        pytest.skip(f"{name} needs {', '.join(cls._backends)}")
    return cls


# -- the table --------------------------------------------------------------------------------------------


def their_classes() -> list[str]:
    """All scheduler classes of the installed diffusers, those too that lack an optional dependency here."""
    names = {name for names in their_schedulers._import_structure.values() for name in names}
    names |= {name for name in dir(diffusers) if name.endswith("Scheduler")}
    return sorted(name for name in names if name.endswith("Scheduler"))


def test_every_scheduler_class_of_diffusers_is_in_the_table():
    assert set(their_classes()) <= set(CLASSES), "a new class of diffusers: decide what of it is obeyed"


@pytest.mark.parametrize("name", DRIVEN)
def test_the_tables_defaults_are_diffusers(name):
    cls = installed(name)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    expected = {p.name: p.default for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert CLASSES[name].defaults == expected


@pytest.mark.parametrize("name", [name for name in CLASSES if CLASSES[name].refused])
def test_a_class_that_is_not_driven_is_refused_by_its_name(name):
    for ask in (kind_of, schedule_of, default_sampler_of, lambda config: levels_of(config, 5, "ddim")):
        with pytest.raises(ValueError, match=f"{name}.*not supported"):
            ask({"_class_name": name})


@pytest.mark.parametrize("config", [{}, {"_class_name": None}, {"_class_name": "MyScheduler"}, {"beta_start": 1e-4}])
def test_an_unknown_class_is_refused(config):
    with pytest.raises(ValueError, match=r"names no class|unknown scheduler class of the model 'MyScheduler'"):
        levels_of(config, 5, "ddim")


# -- as published -----------------------------------------------------------------------------------------

OWN = {name: CLASSES[config["_class_name"]].sampler for name, config in PUBLISHED.items()}


@pytest.mark.parametrize("n", [1, 4, 8, 25])
@pytest.mark.parametrize("name", [name for name in PUBLISHED if OWN[name]])
def test_a_published_configuration_ends_where_diffusers_own_scheduler_does(name, n):
    config = PUBLISHED[name]
    assert default_sampler_of(config) == OWN[name]
    scheduler = made(config)
    for form in (config, scheduler.config):
        if n == 1 and name in ("sd21_v", "sdxl", "cosxl", "sdxl_v_zero_snr"):
            with pytest.raises(ValueError, match=r"[Oo]ne step|single step"):
                levels_of(form, n, OWN[name])
        else:
            # one step from zero SNR is 4096 noise away in diffusers, and float32 loses the difference
            close = {"rtol": 1e-3, "atol": 1e-3} if (name, n) == ("zero_snr_trailing", 1) else CLOSE
            torch.testing.assert_close(ours(form, OWN[name], n), theirs(made(config), n), **close)


def test_published_configurations_that_are_not_driven():
    with pytest.raises(ValueError, match="LCMScheduler, which is not supported"):
        levels_of(PUBLISHED["lcm_dreamshaper"], 4, "ddim")


CURVES = ["sd15", "sd21_v", "sdxl", "sdxl_turbo", "sdxl_v_zero_snr", "dpm_2m_karras"]


@pytest.mark.parametrize("sampler", VP)
@pytest.mark.parametrize("name", CURVES)
def test_another_sampler_ends_where_its_scheduler_from_config_does(name, sampler):
    scheduler = made(PUBLISHED[name])
    if (name, sampler) == ("sdxl_v_zero_snr", "heun"):
        with pytest.raises(ValueError, match="EulerDiscreteScheduler, sets rescale_betas_zero_snr to True"):
            levels_of(scheduler.config, 10, sampler)
        return
    if (name, sampler) == ("dpm_2m_karras", "ddim"):  # its "linspace" is carried over
        with pytest.raises(ValueError, match="next timestep"):
            levels_of(scheduler.config, 10, sampler)
        return
    expected = theirs(counterpart(scheduler, sampler), 10)
    for config in (PUBLISHED[name], scheduler.config):
        torch.testing.assert_close(ours(config, sampler, 10), expected, **CLOSE)


@pytest.mark.parametrize("sampler", VP)
def test_timesteps_of_stable_diffusion_1_5_are_those_of_from_config(sampler):
    config = PUBLISHED["sd15"]
    scheduler = counterpart(made(config), sampler)
    for n in range(2, 60):
        scheduler.set_timesteps(n)
        expected = scheduler.timesteps[0 :: 2 if sampler == "heun" else 1][:n] if sampler != "heun" else None
        if sampler == "heun":
            expected = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[1::2]])
        got = [level.t for level in levels_of(config, n, sampler)[:-1]]
        np.testing.assert_allclose(got, expected.double().numpy(), atol=1e-4)
    four = [level.t for level in levels_of(config, 4, "euler")[:-1]]
    assert four == [999, 666, 333, 0]


def test_levels_of_stable_diffusion_3_are_its_pipelines():
    for n in range(2, 50):
        scheduler = made(PUBLISHED["sd3"])
        scheduler.set_timesteps(n)
        levels = levels_of(PUBLISHED["sd3"], n, "euler")
        np.testing.assert_allclose([level.sigma for level in levels], scheduler.sigmas.numpy(), atol=1e-6)
    four = [round(level.sigma, 3) for level in levels_of(PUBLISHED["sd3"], 4, "euler")]
    assert four == [1, 0.858, 0.602, 0.009, 0]
    even = [level.sigma for level in levels_of(PUBLISHED["sd3"], 4, "euler", "trailing")]
    assert even == pytest.approx([1, 0.9, 0.75, 0.5, 0])


# -- every class, every key -------------------------------------------------------------------------------

SETTINGS: dict[str, list[Any]] = {
    "num_train_timesteps": [50, 500],
    "beta_start": [0.001],
    "beta_end": [0.011],
    "beta_schedule": ["scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"],
    "trained_betas": [np.linspace(1e-3, 2e-2, 1000).tolist(), np.linspace(1e-3, 2e-2, 100).tolist()],
    "prediction_type": ["v_prediction", "sample", "flow_prediction", "trigflow"],
    "rescale_betas_zero_snr": [True],
    "timestep_spacing": ["leading", "linspace", "trailing", "sideways"],
    "steps_offset": [1],
    "set_alpha_to_one": [False, True],
    "use_karras_sigmas": [True],
    "use_exponential_sigmas": [True],
    "use_lu_lambdas": [True],
    "final_sigmas_type": ["sigma_min", "half"],
    "interpolation_type": ["log_linear", "cubic"],
    "timestep_type": ["continuous"],
    "sigma_min": [0.05],
    "sigma_max": [20.0],
    "sigma_data": [1.0],
    "sigma_schedule": ["exponential"],
    "rho": [5.0],
    "shift": [3.0],
    "flow_shift": [3.0],
    "use_flow_sigmas": [True],
    "shift_terminal": [0.1],
    "invert_sigmas": [True],
    "stochastic_sampling": [True],
    "thresholding": [True],
    "clip_sample": [True],
    "algorithm_type": ["sde-dpmsolver++", "dpmsolver++"],
    "solver_type": ["heun"],
    "solver_order": [1, 3],
    "lower_order_final": [False],
    "euler_at_final": [True],
    "lambda_min_clipped": [-5.1],
    "variance_type": ["fixed_large", "learned_range"],
}


def compare(config: dict[str, Any], sampler: str, n: int = 10, mu: float | None = None, **options: Any) -> str:
    """ "equal", "refused", or a failure, for a configuration of diffusers and the sampler of its class."""
    name = config["_class_name"]
    try:
        got = ours(config, sampler, n, **options)
    except ValueError as error:
        assert name in str(error) or "num_inference_steps" in str(error), str(error)
        return "refused"
    try:
        expected = theirs(made(config), n, mu)
    except NotImplementedError:
        return "no counterpart"
    torch.testing.assert_close(got, expected, **CLOSE)
    return "equal"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in DRIVEN if CLASSES[name].sampler and "Parallel" not in name])
def test_every_setting_of_every_class_is_equal_or_refused(name):
    entry = CLASSES[name]
    plain = {"_class_name": name} | ({"clip_sample": False} if "clip_sample" in entry.defaults else {})
    assert compare(plain, entry.sampler) == "equal"
    seen = {}
    for key in entry.defaults:
        for value in SETTINGS.get(key, []):
            config = {**plain, key: value}
            if key in ("sigma_min", "sigma_max") and "use_karras_sigmas" in entry.defaults:
                config["use_karras_sigmas"] = True
            if key == "timestep_type":
                config["prediction_type"] = "v_prediction"
            for n in (10, 20):
                seen[key, str(value)[:20], n] = compare(config, entry.sampler, n)
    equal = {key for key, *_ in (where for where, what in seen.items() if what == "equal")}
    obeyed = set(SETTINGS) & OBEYED & set(entry.defaults) - {"use_flow_sigmas", "flow_shift", "sigma_data"}
    obeyed -= {"prediction_type"} if entry.family == "edm" else set()  # with sigma_data: cosxl, above
    assert obeyed <= equal, obeyed - equal
    for key in entry.defaults:
        assert key in SETTINGS or key not in OBEYED or key in ELSEWHERE, f"{name}.{key} is obeyed and not tried"


# tried by tests of their own: beta needs scipy in diffusers, and shifting by the picture's size the size
ELSEWHERE = {"use_beta_sigmas", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len",
             "max_image_seq_len", "time_shift_type"}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in DRIVEN if CLASSES[name].family == "vp"])
def test_a_class_without_a_sampler_here_is_carried_over_or_refused(name):
    """From its default configuration to each of our samplers, as from_config carries it over."""
    cls = installed(name)
    for sampler in VP:
        scheduler = cls(**({"clip_sample": False} if "clip_sample" in CLASSES[name].defaults else {}))
        try:
            got = ours(config_of(scheduler), sampler, 10)
        except ValueError as error:
            assert name in str(error)
            continue
        other = counterpart(scheduler, sampler)
        other.register_to_config(clip_sample=False)
        torch.testing.assert_close(got, theirs(other, 10), **CLOSE)


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_a_flow_shifted_by_the_pictures_size_equals_diffusers(shape):
    config = {
        **PUBLISHED["sd35_medium"], "use_dynamic_shifting": True, "time_shift_type": shape,
        "shift": 1.0,
    }  # fmt: skip
    for length in (256, 1024, 4096):
        mu = 0.5 + (1.15 - 0.5) * (length - 256) / (4096 - 256)
        assert compare(config, "euler", 7, mu, sequence_length=length) == "equal"
        assert compare({**config, "shift_terminal": 0.1}, "euler", 7, mu, sequence_length=length) == "equal"
    with pytest.raises(ValueError, match=r"FlowMatchEulerDiscreteScheduler.*sequence_length"):
        levels_of(config, 7, "euler")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpm_solver_pp_2m", "ddim", "ddpm"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "karras", "exponential"])
def test_a_given_spacing_is_that_of_diffusers(sampler, spacing):
    """spacing= is timestep_spacing= or use_..._sigmas= given to from_config, also at numbers that do not divide T."""
    scheduler = made(PUBLISHED["sd15"])
    cls = getattr(diffusers, VP[sampler])
    key = f"use_{spacing}_sigmas" if spacing in ("karras", "exponential") else "timestep_spacing"
    if key not in inspect.signature(cls.__init__).parameters or (sampler, spacing) == ("ddim", "linspace"):
        assert len(levels_of(scheduler.config, 10, sampler, spacing)) == 11  # ours alone
        return
    for n in (2, 10, 20, 25) if sampler == "ddim" else (2, 5, 10, 23, 26):
        other = cls.from_config(scheduler.config, **{key: True if key.startswith("use") else spacing})
        torch.testing.assert_close(ours(scheduler.config, sampler, n, spacing), theirs(other, n), **CLOSE)


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"sigma_skip": 3}, "unknown key of the scheduler configuration of EulerDiscreteScheduler 'sigma_skip'"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "EulerDiscreteScheduler, sets more than one"),
        ({"thresholding": True}, "EulerDiscreteScheduler, sets thresholding to True"),
        ({"clip_sample": True}, "sets clip_sample to True"),
        ({"use_karras_sigmas": "yes"}, "sets use_karras_sigmas to 'yes': it must be of the same type as False"),
        ({"beta_start": "0.1"}, "sets beta_start to '0.1'"),
        ({"num_train_timesteps": True}, "sets num_train_timesteps to True"),
        ({"predict_epsilon": False}, "sets predict_epsilon to False"),
        ({"shift": 3.0}, "sets shift to 3.0"),
        ({"prediction_type": "flow_prediction"}, "prediction_type to 'flow_prediction' and use_flow_sigmas to False"),
        ({"variance_type": "learned_range"}, "sets variance_type to 'learned_range'"),
        ({"timestep_spacing": "cosy"}, "unknown timestep_spacing .* 'cosy'"),
        ({"beta_schedule": "laplace"}, "unknown beta_schedule .* 'laplace'"),
        ({"trained_betas": [0.1, 0.2]}, "sets 2 trained_betas for num_train_timesteps 1000"),
    ],
)
def test_what_is_not_obeyed_is_refused_by_class_and_key(config, words):
    with pytest.raises(ValueError, match=words):
        levels_of({"_class_name": "EulerDiscreteScheduler", **config}, 10, "euler")


def test_pndm_with_a_key_that_no_one_obeys():
    config = {**PUBLISHED["sd15"], "use_karras_sigmas": True}
    with pytest.raises(ValueError, match="PNDMScheduler, sets use_karras_sigmas to True"):
        levels_of(config, 10, "ddim")
    scheduler = made(config)  # as an unexpected key, from_config carries it over
    torch.testing.assert_close(ours(config, "euler", 10), theirs(counterpart(scheduler, "euler"), 10), **CLOSE)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_one_step_is_not_taken_at_the_cleanest_level(sampler, spacing):
    with pytest.raises(ValueError, match=r'One step of "l.*trailing'):
        levels_of(PUBLISHED["sd15"], 1, sampler, spacing)
    assert levels_of(PUBLISHED["sd15"], 1, sampler, "trailing")[0].t == 999


def test_edm_is_told_its_own_clock_and_levels():
    config = PUBLISHED["playground_v25"]
    levels = levels_of(config, 18, "dpm_solver_pp_2m")
    ratios = [level.sigma / level.alpha for level in levels]
    assert ratios[0] == pytest.approx(80) and ratios[-2] == pytest.approx(0.002) and ratios[-1] == 0
    assert schedule_of(config).time_at(levels[0]) == pytest.approx(math.log(80) / 4)
    with pytest.raises(ValueError, match=r"EDMEulerScheduler.*sigma_data 0\.7"):
        kind_of({"_class_name": "EDMEulerScheduler", "sigma_data": 0.7})


# -- settings that meet -----------------------------------------------------------------------------------

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
OWN_BETAS = {"trained_betas": np.linspace(1e-4, 2e-2, 1000).tolist(), "prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("EulerDiscreteScheduler", {**SD, "final_sigmas_type": "sigma_min"}),
        ("EulerDiscreteScheduler", {**SD, "final_sigmas_type": "sigma_min", "use_karras_sigmas": True}),
        ("EulerDiscreteScheduler", {**SD, "interpolation_type": "log_linear"}),
        ("EDMEulerScheduler", {"sigma_min": 0.5, "final_sigmas_type": "sigma_min"}),
        ("EDMDPMSolverMultistepScheduler", {"sigma_min": 0.5, "final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistepScheduler", {**SD, "final_sigmas_type": "sigma_min", "use_karras_sigmas": True}),
        ("EulerAncestralDiscreteScheduler", {**OWN_BETAS, "rescale_betas_zero_snr": True}),
        ("DDIMScheduler", {**OWN_BETAS, "rescale_betas_zero_snr": True, "clip_sample": False}),
    ],
)
def test_settings_together_end_where_diffusers_does(name, config):
    assert compare({"_class_name": name, **config}, CLASSES[name].sampler, 20) == "equal"


@pytest.mark.parametrize(
    ("name", "config", "sampler", "words"),
    [
        ("EulerDiscreteScheduler", {"sigma_max": 9.0, "use_karras_sigmas": True}, "heun", "sets sigma_max to 9.0"),
        ("UniPCMultistepScheduler", {"sigma_min": 0.1, "use_karras_sigmas": True}, "dpm_solver_pp_2m", "sigma_min"),
        (
            "EulerDiscreteScheduler",
            {"interpolation_type": "log_linear", "timestep_type": "continuous", "prediction_type": "v_prediction"},
            "euler",
            "interpolation_type to 'log_linear'",
        ),
        (
            "FlowMatchEulerDiscreteScheduler",
            {"use_dynamic_shifting": True, "base_image_seq_len": 4096},
            "euler",
            "base_image_seq_len and max_image_seq_len both to 4096",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(name, config, sampler, words):
    with pytest.raises(ValueError, match=words):
        levels_of({"_class_name": name, **config}, 10, sampler, sequence_length=1024)
