"""Schedules against diffusers, at both ends, and against their own equations."""

import math
import sys

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from diffusion_explained.checks import float_data
from diffusion_explained.schedules import (
    SCHEDULES,
    DDPMSchedule,
    EDMSchedule,
    FlowSchedule,
    Level,
    check_decreasing,
    rescale_zero_terminal_snr,
    schedule_from_config,
)
from diffusion_explained.schedules.spacing import _beta_quantile, spaced_ratios

NAMED = {
    "linear": ("linear", {}),
    "scaled_linear": ("scaled_linear", {"beta_start": 0.00085, "beta_end": 0.012}),
    "cosine": ("squaredcos_cap_v2", {}),
    "sigmoid": ("sigmoid", {}),
}


@pytest.mark.parametrize("T", [10, 1000])
@pytest.mark.parametrize("name", NAMED)
def test_alphas_cumprod_equal_diffusers_at_every_timestep(name, T):
    theirs_name, options = NAMED[name]
    theirs = DDPMScheduler(num_train_timesteps=T, beta_schedule=theirs_name, **options)
    ours = getattr(DDPMSchedule, name)(num_train_timesteps=T)
    torch.testing.assert_close(ours.betas.float(), theirs.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_alphas_cumprod_is_not_off_by_one():
    """The first entry already carries the first beta, and the last one all of them (DDPM, Eq. 4)."""
    schedule = DDPMSchedule.linear()
    assert float(schedule.alphas_cumprod[0]) == pytest.approx(1 - 1e-4, abs=1e-15)
    assert float(schedule.alphas_cumprod[-1]) == pytest.approx(math.prod((1 - schedule.betas).tolist()), rel=1e-12)
    assert schedule.level(0).sigma == pytest.approx(0.01)


def test_zero_terminal_snr_equals_diffusers():
    theirs = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    ours = DDPMSchedule.scaled_linear(beta_start=1e-4, beta_end=0.02, rescale_zero_terminal_snr=True)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    assert ours.level(999) == Level(999.0, 0.0, 1.0)
    assert ours.terminal_snr == 0 and DDPMSchedule.scaled_linear().terminal_snr > 0.004
    first = DDPMSchedule.scaled_linear(beta_start=1e-4, beta_end=0.02).alphas_cumprod[0]
    torch.testing.assert_close(ours.alphas_cumprod[0], first)
    with pytest.raises(ValueError, match="at least 2"):
        rescale_zero_terminal_snr(torch.tensor([0.1]))


@pytest.mark.parametrize("n", [1, 2, 7, 30, 50, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_timesteps_equal_diffusers(spacing, n):
    theirs = DDIMScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(n)
    ours = DDPMSchedule.linear().timesteps(n, spacing=spacing)
    if spacing == "linspace" and n == 1:  # NumPy's linspace(0, 999, 1) is [0] too: one step from t = 0
        assert ours.tolist() == [0.0]
    assert ours.tolist() == theirs.timesteps.tolist()


def test_levels_of_stable_diffusion_1_5():
    """Leading, offset 1, the final alpha not one: the configuration that Stable Diffusion 1.5 ships with."""
    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False,
    )  # fmt: skip
    theirs.set_timesteps(30)
    levels = DDPMSchedule.scaled_linear(final_alpha_one=False, steps_offset=1).levels(30, spacing="leading")
    assert [level.t for level in levels[:-1]] == theirs.timesteps.tolist()
    expected = [float(theirs.alphas_cumprod[t]) for t in theirs.timesteps] + [float(theirs.final_alpha_cumprod)]
    np.testing.assert_allclose([level.alpha**2 for level in levels], expected, rtol=1e-4)
    assert levels[-1].t == 0 and levels[-1].alpha < 1


def test_a_final_level_at_t_0_cannot_be_visited_as_well():
    with pytest.raises(ValueError, match="steps_offset=1"):
        DDPMSchedule.scaled_linear(final_alpha_one=False).levels(10, spacing="leading")


@pytest.mark.parametrize("n", [5, 28])
def test_levels_between_timesteps_equal_eulers_interpolation(n):
    """diffusers' Euler visits fractional timesteps when it spaces them linearly."""
    theirs = EulerDiscreteScheduler(timestep_spacing="linspace")
    theirs.set_timesteps(n)
    levels = DDPMSchedule.linear().levels_at(theirs.timesteps.tolist())
    np.testing.assert_allclose([level.sigma / level.alpha for level in levels], theirs.sigmas.numpy(), rtol=2e-4)


def test_karras_spacing_equals_the_papers_formula_and_diffusers():
    from diffusers import EDMEulerScheduler

    theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    theirs.set_timesteps(18)
    ours = EDMSchedule().levels(18)
    np.testing.assert_allclose([level.sigma for level in ours], theirs.sigmas.numpy(), rtol=1e-5)
    assert (ours[0].sigma, ours[-2].sigma, ours[-1]) == (
        pytest.approx(80),
        pytest.approx(0.002),
        Level(0.0, 1.0, 0.0),
    )
    assert EDMSchedule().init_noise_sigma == 80


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_levels_equal_diffusers(shift):
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    ours = FlowSchedule(shift=shift).levels(8)
    np.testing.assert_allclose([level.sigma for level in ours], theirs.sigmas.numpy(), rtol=1e-6)
    np.testing.assert_allclose(
        FlowSchedule(shift=shift).network_time(torch.tensor([level.t for level in ours[:-1]])),
        theirs.timesteps, rtol=1e-5,
    )  # fmt: skip
    assert ours[0] == Level(1.0, 0.0, 1.0) and ours[-1] == Level(0.0, 1.0, 0.0)


def test_training_times_include_both_ends():
    """t = T-1, the level that sampling starts from, is trained, and so is t = 0."""
    t = DDPMSchedule.linear(num_train_timesteps=10).sample_t(2000, torch.Generator().manual_seed(0))
    counts = torch.bincount(t.long(), minlength=10)
    assert len(counts) == 10 and int(counts.min()) > 140


def test_training_times_of_flow_and_edm():
    g = torch.Generator().manual_seed(0)
    t = FlowSchedule().sample_t(20_000, g)
    assert 0 < t.min() and t.max() < 1
    assert float(torch.logit(t).mean()) == pytest.approx(0, abs=0.03)
    assert float(torch.logit(t).std()) == pytest.approx(1, abs=0.03)
    uniform = FlowSchedule(t_distribution="uniform").sample_t(20_000, g)
    assert 0 < uniform.min() and uniform.max() <= 1 and float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    shifted = FlowSchedule(shift=3.0, t_distribution="uniform").sample_t(20_000, g)
    assert float((shifted > 0.75).double().mean()) == pytest.approx(0.5, abs=0.02)  # 0.5 moves to 0.75
    u_shaped = FlowSchedule(t_distribution="u_shaped").sample_t(40_000, g)
    assert 0 <= u_shaped.min() and u_shaped.max() <= 1
    for t in (0.05, 0.2, 0.5, 0.9):  # the integral of exp(4 t) + exp(4 (1 - t)), over its whole
        below = 0.5 + (math.exp(4 * t) - math.exp(4 * (1 - t))) / (2 * math.expm1(4))
        assert float((u_shaped < t).double().mean()) == pytest.approx(below, abs=0.01)
    log_sigma = EDMSchedule().sample_t(20_000, g).log()
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=0.03)


def test_log_snr_at_the_ends_and_between():
    assert Level(0.0, 1.0, 0.0).log_snr == math.inf
    assert Level(1.0, 0.0, 1.0).log_snr == -math.inf
    assert Level(0.5, 0.8, 0.4).log_snr == pytest.approx(math.log(4))


def test_the_network_is_given_the_time_on_its_clock():
    assert float(DDPMSchedule.linear(num_train_timesteps=100).network_time(50)) == 50
    assert float(DDPMSchedule.linear(num_train_timesteps=100, clock="thousand").network_time(50)) == 500
    by_noise = DDPMSchedule.linear(clock="c_noise")
    for level in by_noise.levels(5, "karras")[:-1]:
        assert by_noise.time_at(level) == pytest.approx(math.log(level.sigma / level.alpha) / 4)
    assert float(by_noise.network_time(70)) == pytest.approx(by_noise.time_at(by_noise.level(70)))
    assert float(FlowSchedule().network_time(0.25)) == 250
    assert float(FlowSchedule(num_train_timesteps=40).network_time(0.25)) == 10
    assert float(EDMSchedule().network_time(math.e)) == 250
    assert float(EDMSchedule(clock="c_noise").network_time(math.e)) == 0.25


@pytest.mark.parametrize("make", [DDPMSchedule.linear, EDMSchedule])
def test_a_clock_that_does_not_exist(make):
    with pytest.raises(ValueError, match="clock must be one of"):
        make(clock="cuckoo")


def test_a_description_without_a_clock_is_of_a_network_that_was_given_a_thousand():
    """What was saved before the clock could be chosen. At T = 1000 both clocks are one, and descriptions stay."""
    old = {"family": "ddpm", "name": "linear", "num_train_timesteps": 50}
    assert float(schedule_from_config(old).network_time(25)) == 500
    new = DDPMSchedule.linear(50)
    assert float(schedule_from_config(new.to_config()).network_time(25)) == 25
    shipped = {"family": "ddpm", "name": "cosine", "num_train_timesteps": 1000, "max_beta": 0.999}
    assert schedule_from_config(shipped).to_config() == shipped


@pytest.mark.parametrize("n", range(1, 301))
@pytest.mark.parametrize("T", [500, 1000])
def test_rounding_is_diffusers(T, n):
    """At 23 (linspace) and 26 (trailing) of these n the two libraries once rounded a half differently."""
    for spacing in ("trailing", "linspace"):
        theirs = DDIMScheduler(num_train_timesteps=T, timestep_spacing=spacing)
        theirs.set_timesteps(n)
        ours = DDPMSchedule.linear(T).timesteps(n, spacing).tolist()
        assert len(ours) == n and ours == theirs.timesteps.tolist()[:n]  # at n = 61 diffusers appends a -1


@pytest.mark.parametrize("n", [1, 2, 7, 20, 50])
def test_noise_ratio_spacings_equal_diffusers(n):
    for spacing in ("karras", "exponential"):
        theirs = DPMSolverMultistepScheduler(**{f"use_{spacing}_sigmas": True}, beta_schedule="scaled_linear")
        theirs.set_timesteps(n)
        levels = DDPMSchedule.scaled_linear(beta_start=1e-4, beta_end=0.02).levels(n, spacing)
        ratios = [level.sigma / level.alpha for level in levels]
        np.testing.assert_allclose(ratios, theirs.sigmas.numpy(), rtol=2e-4)
        np.testing.assert_allclose([level.t for level in levels[:-1]], theirs.timesteps.numpy(), atol=1)
        assert all(abs(level.alpha**2 + level.sigma**2 - 1) < 1e-12 for level in levels)


def test_karras_is_equation_5_between_the_schedules_own_ends():
    schedule = DDPMSchedule.scaled_linear()
    levels = schedule.levels(10, spacing="karras")
    high, low = (schedule.level(t).sigma / schedule.level(t).alpha for t in (999, 0))
    for i, level in enumerate(levels[:-1]):
        expected = (high ** (1 / 7) + i / 9 * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        assert level.sigma / level.alpha == pytest.approx(expected)
    assert schedule.timesteps(10, "karras").tolist() == [level.t for level in levels[:-1]]
    assert [level.sigma for level in EDMSchedule().levels(10, spacing="exponential")][:2] == pytest.approx(
        [80, 80 * (0.002 / 80) ** (1 / 9)]
    )
    with pytest.raises(ValueError, match="finite noise ratios"):
        DDPMSchedule.linear(rescale_zero_terminal_snr=True).levels(10, spacing="karras")


def test_beta_spacing_is_scipys_quantile():
    """scipy.stats.beta.ppf(p, 0.6, 0.6), from scipy 1.17: it is no dependency of this package."""
    p = np.array([0, 0.01, 0.1, 0.25, 0.5, 0.9, 1])
    expected = [0, 0.0008612388215429059, 0.03958440558878085, 0.17568037865269498, 0.5, 0.9604155944112192, 1]
    np.testing.assert_allclose(_beta_quantile(p), expected, rtol=1e-9)
    ratios = spaced_ratios("beta", 5, 10.0, 2.0)
    np.testing.assert_allclose(ratios, [10, 10 - 8 * expected[3], 6, 2 + 8 * expected[3], 2])


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "karras", "exponential", "beta"])
def test_flow_spacings_decrease_from_1(spacing):
    for schedule in (FlowSchedule(), FlowSchedule(shift=3.3)):
        levels = schedule.levels(9, spacing=spacing)
        assert levels[0].t == pytest.approx(1) and levels[-1] == Level(0.0, 1.0, 0.0) and len(levels) == 10
    if spacing == "linspace":
        theirs = FlowMatchEulerDiscreteScheduler(shift=3.3)
        theirs.set_timesteps(9)
        np.testing.assert_allclose([level.sigma for level in levels], theirs.sigmas.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        DDPMSchedule.linear(beta_end=0.03),
        DDPMSchedule.scaled_linear(final_alpha_one=False, steps_offset=1),
        DDPMSchedule.cosine(num_train_timesteps=50),
        DDPMSchedule.sigmoid(rescale_zero_terminal_snr=True),
        EDMSchedule(sigma_max=50.0),
        FlowSchedule(shift=2.0, t_distribution="uniform"),
        FlowSchedule(t_distribution="u_shaped"),
    ],
)
def test_a_schedule_survives_its_description(schedule):
    again = schedule_from_config(schedule.to_config())
    assert type(again) is type(schedule) and again.to_config() == schedule.to_config()
    options = {"spacing": "leading"} if isinstance(schedule, DDPMSchedule) else {}
    assert again.levels(7, **options) == schedule.levels(7, **options)


@pytest.mark.parametrize(
    "config", [{"family": "vp"}, {"family": "ddpm", "name": "levels"}, {"family": "flow", "x": 1}, {}]
)
def test_a_bad_description_is_refused(config):
    with pytest.raises(ValueError, match=r"no schedule|unknown setting"):
        schedule_from_config(config)


@pytest.mark.parametrize("n", [0, -1, 1001, 2.5, True, None, "ten", math.nan, math.inf, [5], 1j, 10**8, 10**400])
def test_bad_step_counts_say_what_is_allowed(n):
    with pytest.raises(ValueError, match="1 to 1000"):
        DDPMSchedule.linear().levels(n)
    if n != 1001:
        with pytest.raises(ValueError, match="1 to 100000"):
            FlowSchedule().levels(n)


def test_other_bad_input():
    linear = DDPMSchedule.linear()
    for make, message in [
        (lambda: linear.levels(5, spacing="cosy"), "leading, linspace, trailing, karras, exponential, beta"),
        (lambda: linear.levels(1, spacing="leading"), 'Use "trailing" for a single step'),
        (lambda: linear.levels(1, spacing="linspace"), 'Use "trailing" for a single step'),
        (lambda: FlowSchedule().levels(5, spacing="leading"), "trailing, linspace, karras"),
        (lambda: EDMSchedule().levels(5, spacing="leading"), "karras, exponential, beta"),
        (lambda: FlowSchedule().levels_at([1000, 500, 250]), r"from 0 \(data\) to 1 \(noise\).*1000, 500, 250"),
        (lambda: FlowSchedule().level(-0.1), r"from 0 \(data\) to 1"),
        (lambda: FlowSchedule().level(math.nan), r"from 0 \(data\) to 1"),
        (lambda: EDMSchedule().level(-1), "0 or more and finite"),
        (lambda: EDMSchedule().level(math.inf), "0 or more and finite"),
        (lambda: EDMSchedule().levels_at([1000, 500]), "up to sigma_max = 80"),
        (lambda: FlowSchedule(num_train_timesteps=0), "num_train_timesteps must be a whole number"),
        (
            lambda: FlowSchedule().levels(10.0),
            r"num_inference_steps must be a whole number, from 1 to 100000; got 10\.0",
        ),
        (
            lambda: DDPMSchedule.linear().levels(10.0),
            r"from 1 to 1000 \(the schedule's num_train_timesteps\); got 10\.0",
        ),
        (
            lambda: DDPMSchedule.linear(steps_offset=1).timesteps(1000, spacing="leading"),
            "leaves the schedule",
        ),
        (lambda: linear.level(1000), r"0 \.\. 999"),
        (lambda: linear.level(math.nan), r"0 \.\. 999"),
        (lambda: linear.levels_at([]), "of one or more"),
        (lambda: linear.levels_at([5, 5]), "decrease in noise"),
        (lambda: linear.levels_at([5, 9]), "decrease in noise"),
        (lambda: check_decreasing([Level(1.0, 0.0, 1.0)]), "at least 2 levels"),
        (lambda: DDPMSchedule(torch.tensor([0.5, 1.5])), "between 0 and 1"),
        (lambda: DDPMSchedule(torch.tensor([])), "between 0 and 1"),
        (lambda: DDPMSchedule.linear(num_train_timesteps=0), "whole number"),
        (lambda: DDPMSchedule.scaled_linear(beta_start=-1), "positive"),
        (lambda: EDMSchedule(sigma_min=90), "sigma_min < sigma_max"),
        (lambda: FlowSchedule(shift=0), "shift"),
        (lambda: FlowSchedule(t_distribution="beta"), "t_distribution"),
        (lambda: DDPMSchedule(torch.tensor([0.1])).to_config(), "named constructor"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_network_times_span_what_the_docstring_says():
    spans = {}
    for schedule in (DDPMSchedule.linear(), FlowSchedule(), EDMSchedule()):
        times = schedule.network_time(schedule.timesteps(50))
        spans[type(schedule).__name__] = (round(float(times.min())), round(float(times.max())))
    assert spans["EDMSchedule"] == (-1554, 1096)
    assert all(0 <= low and high <= 1000 for name, (low, high) in spans.items() if name != "EDMSchedule")
    said = " ".join(DDPMSchedule.__mro__[1].network_time.__doc__.split())
    assert "0 to 1000" in said and "-1554 to 1096" in said


@pytest.mark.parametrize("t", [None, "0.5", [0.5, 0.2], True, float("nan"), 10**400, -1.0, 1e9])
@pytest.mark.parametrize(
    "schedule", [FlowSchedule(), EDMSchedule(), DDPMSchedule.linear()], ids=lambda s: type(s).__name__
)
def test_a_level_is_asked_at_one_time_that_the_schedule_has(schedule, t):
    if isinstance(schedule, EDMSchedule) and t == 1e9:
        pytest.skip("sigma has no end there")
    with pytest.raises(ValueError, match=r"^t must be"):
        schedule.level(t)


VARIANTS = {
    **{name: make() for name, make in SCHEDULES.items()},
    "ten steps": DDPMSchedule.linear(num_train_timesteps=10),
    "zero terminal SNR": DDPMSchedule.scaled_linear(rescale_zero_terminal_snr=True),
    "shifted flow": FlowSchedule(shift=3.0),
    "wide edm": EDMSchedule(sigma_min=1e-4, sigma_max=1e4),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_inverse_of_the_snr_in_closed_form(name):
    schedule = VARIANTS[name]
    cleanest, noisiest = schedule.ends
    t = torch.cat([torch.linspace(cleanest, noisiest, 3001, dtype=torch.float64), torch.tensor(schedule.ends)])
    if name == "zero terminal SNR":  # between the last two timesteps all is pure noise
        t = t[(t <= noisiest - 1) | (t == noisiest)]
    found = schedule.time_of_snr((schedule.alpha(t) / schedule.sigma(t)) ** 2)
    assert found.dtype == torch.float64 and found.shape == t.shape
    torch.testing.assert_close(found, t.to(torch.float64), atol=1e-7, rtol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_inverse_of_the_snr_at_its_ends(name):
    schedule = VARIANTS[name]
    first, last = (0, sys.float_info.max) if isinstance(schedule, EDMSchedule) else (0, schedule.ends[1])
    assert schedule.time_of_snr(math.inf) == first and schedule.time_of_snr(0.0) == last
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="signal-to-noise ratio is 0 or more; got"):
            schedule.time_of_snr(wrong)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_registered_and_comes_back_from_its_description(name):
    schedule = SCHEDULES[name]()
    assert schedule_from_config(schedule.to_config()).to_config() == schedule.to_config()
    t = torch.tensor(schedule.ends)
    assert torch.equal(schedule_from_config(schedule.to_config()).alpha(t), schedule.alpha(t))


def test_a_schedule_does_not_compute_its_tables_again(monkeypatch):
    schedule = DDPMSchedule.linear()
    whole = []
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda x: whole.append(x.shape) or torch.sqrt(x))
    schedule.level(500.5), schedule.levels(10), schedule.levels(10, spacing="karras")
    assert (1000,) not in whole


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FlowSchedule(shift=1e300), "shift must be from 0.001 to 1000"),
        (lambda: EDMSchedule(rho=0.001).levels(5), "rho = 0.001 is too small"),
        (lambda: FlowSchedule().alpha(torch.tensor([0.5j])), "t must be one number or a list of numbers"),
        (lambda: check_decreasing([Level("a", "b", "c"), Level(0.0, 1.0, 0.0)]), "three finite numbers"),
        (lambda: check_decreasing([Level(math.nan, 0.0, 1.0), Level(0.0, 1.0, 0.0)]), "three finite numbers"),
        (lambda: float_data("x_t", torch.zeros(2).to(torch.float8_e4m3fn)), "16 bits or more"),
    ],
)
def test_numbers_that_no_schedule_has_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("values", [(9.0, 1.0, -1.0, -3.0, -9.0), (12.0, 11.5, -11.0, -11.5, -12.0), (3.0, -3.0)])
@pytest.mark.parametrize("T", [2, 10, 1000])
def test_a_schedule_through_given_log_snrs_only_gains_noise(values, T):
    schedule = DDPMSchedule.of_log_snr(values, T)
    found = torch.logit(schedule.alphas_cumprod)
    assert bool((found.diff() < 0).all())
    assert found[[0, -1]].tolist() == pytest.approx([values[0], values[-1]], abs=1e-6)
    if T == 1000 and len(values) == 2:
        assert found[500] == pytest.approx(np.interp(500 / 999, [0, 1], values), abs=1e-6), "two values are a line"
    if len(values) == 5:
        inner = DDPMSchedule.of_log_snr(values, 1001)
        assert torch.logit(inner.alphas_cumprod)[::250].tolist() == pytest.approx(list(values), abs=1e-4)
    cured = DDPMSchedule.of_log_snr(values, T, rescale_zero_terminal_snr=True)
    assert cured.terminal_snr == 0 and check_decreasing(schedule.levels(min(T, 10))) is None


@pytest.mark.parametrize(
    "values", [(1.0,), (), (1.0, 1.0), (0.0, 1.0), (31.0, 0.0), (1.0, math.nan), [[1.0, 0.0]], "ab", None], ids=str
)
def test_log_snrs_that_do_not_fall_are_refused(values):
    with pytest.raises(ValueError, match="log_snr"):
        DDPMSchedule.of_log_snr(values)
    with pytest.raises(ValueError, match="for at least 2"):
        DDPMSchedule.of_log_snr((1.0, 0.0), 1)
