"""Samplers against diffusers, against the papers' algorithms, and against each other."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
)

from diffusion_explained import samplers
from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.metrics import sliced_wasserstein
from diffusion_explained.noise import generators
from diffusion_explained.samplers import SAMPLERS, final, heun
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

LINEAR = DDPMSchedule.linear()
FAMILIES = {"ddpm": (LINEAR, "eps"), "edm": (EDMSchedule(), "edm"), "flow": (FlowSchedule(), "flow")}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def run_theirs(scheduler, network, x, generator=None, **step_options):
    """diffusers' own loop; Karras-style schedulers hold x / alpha and scale it before the network."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        step_options["generator"] = generator
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(seen, t[None].float()), t, x, **step_options).prev_sample
    return x


def ours(name, toy_network, x_T, levels, schedule=LINEAR, kind="eps", **options):
    return final(SAMPLERS[name](NetworkDenoiser(toy_network, schedule, kind), x_T, levels, **options))


# -- equality with diffusers ------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 4, 10, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_equals_diffusers(toy_network, x_T, spacing, n, eta):
    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    scheduler.set_timesteps(n)
    theirs = run_theirs(scheduler, toy_network, x_T, generators(2), eta=eta)
    levels = LINEAR.levels_at(LINEAR.timesteps(n, spacing=spacing))
    torch.testing.assert_close(
        ours("ddim", toy_network, x_T, levels, eta=eta, generator=generators(2)), theirs, **CLOSE
    )


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_ddim_in_stable_diffusions_configuration(toy_network, x_T, kind):
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type={"eps": "epsilon", "v": "v_prediction"}[kind],
    )  # fmt: skip
    scheduler.set_timesteps(30)
    schedule = DDPMSchedule.scaled_linear(final_alpha_one=False, steps_offset=1)
    got = ours("ddim", toy_network, x_T, schedule.levels(30, spacing="leading"), schedule, kind)
    torch.testing.assert_close(got, run_theirs(scheduler, toy_network, x_T), **CLOSE)


def test_ddim_from_zero_terminal_snr(toy_network, x_T):
    scheduler = DDIMScheduler(
        timestep_spacing="trailing", clip_sample=False, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    scheduler.set_timesteps(10)
    schedule = DDPMSchedule.linear(rescale_zero_terminal_snr=True)
    levels = schedule.levels(10)
    assert levels[0].alpha == 0
    theirs = run_theirs(scheduler, toy_network, x_T)
    torch.testing.assert_close(ours("ddim", toy_network, x_T, levels, schedule, "v"), theirs, **CLOSE)


@pytest.mark.parametrize(("variance", "spacing"), [("small", "trailing"), ("small", "leading"), ("large", "leading")])
@pytest.mark.parametrize("n", [10, 50, 1000])
def test_ddpm_equals_diffusers(toy_network, x_T, n, variance, spacing):
    """Variance "large" only where the last timestep is 0: elsewhere diffusers adds noise to the finished image."""
    scheduler = DDPMScheduler(timestep_spacing=spacing, clip_sample=False, variance_type=f"fixed_{variance}")
    scheduler.alphas_cumprod = LINEAR.alphas_cumprod  # in float32, its 1 - alpha is off by up to 6e-4
    scheduler.set_timesteps(n)
    theirs = run_theirs(scheduler, toy_network, x_T, generators(2))
    levels = LINEAR.levels(n, spacing=spacing)
    got = ours("ddpm", toy_network, x_T, levels, variance=variance, generator=generators(2))
    rounding = 1e-5 if n < 1000 else 5e-5  # of float32, over a thousand steps
    torch.testing.assert_close(got, theirs, rtol=rounding, atol=1e-5)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize(
    ("name", "scheduler_class"),
    [
        ("euler", EulerDiscreteScheduler),
        ("euler_ancestral", EulerAncestralDiscreteScheduler),
        ("heun", HeunDiscreteScheduler),
    ],
)
def test_karras_samplers_equal_diffusers(toy_network, x_T, name, scheduler_class, spacing):
    scheduler = scheduler_class(timestep_spacing=spacing, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(20)
    timesteps = scheduler.timesteps.tolist()
    if name == "heun":  # diffusers lists a step's second evaluation as a timestep of its own
        timesteps = timesteps[:1] + timesteps[2::2]
    levels = LINEAR.levels_at(timesteps)
    stochastic = name == "euler_ancestral"
    theirs = run_theirs(scheduler, toy_network, x_T / levels[0].alpha, generators(2) if stochastic else None)
    got = ours(name, toy_network, x_T, levels, **({"generator": generators(2)} if stochastic else {}))
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("n", [2, 10, 20])
def test_dpm_solver_pp_2m_equals_diffusers(toy_network, x_T, n):
    scheduler = DPMSolverMultistepScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(n)
    theirs = run_theirs(scheduler, toy_network, x_T)
    torch.testing.assert_close(ours("dpm_solver_pp_2m", toy_network, x_T, LINEAR.levels(n)), theirs, **CLOSE)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler_equals_diffusers(toy_network, x_T, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    schedule = FlowSchedule(shift=shift)
    got = ours("euler", toy_network, x_T, schedule.levels(8), schedule, "flow")
    torch.testing.assert_close(got, run_theirs(scheduler, toy_network, x_T), **CLOSE)


def test_flow_heun_equals_diffusers(toy_network, x_T):
    """Also from t = 1, where there is no signal (alpha = 0)."""
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(8)
    schedule = FlowSchedule()
    visited = scheduler.sigmas[:-1].tolist()
    levels = schedule.levels_at(visited[:1] + visited[2::2])
    assert levels[0].alpha == 0
    theirs = run_theirs(scheduler, toy_network, x_T)
    torch.testing.assert_close(ours("heun", toy_network, x_T, levels, schedule, "flow"), theirs, **CLOSE)


def test_flow_dpm_solver_equals_diffusers(toy_network, x_T):
    schedule = FlowSchedule()
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(10)
    levels = schedule.levels_at(scheduler.sigmas[:-1].tolist())
    theirs = run_theirs(scheduler, lambda x, t: toy_network(x, torch.zeros(1)), x_T)
    got = ours("dpm_solver_pp_2m", lambda x, t, labels: toy_network(x, torch.zeros(1)), x_T, levels, schedule, "flow")
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "scheduler_class"), [("euler", EDMEulerScheduler), ("dpm_solver_pp_2m", EDMDPMSolverMultistepScheduler)]
)
def test_edm_samplers_equal_diffusers(toy_network, x_T, name, scheduler_class):
    schedule = EDMSchedule()
    scheduler = scheduler_class(sigma_min=0.002, sigma_max=80.0)
    scheduler.set_timesteps(18)
    # diffusers tells the network ln(sigma) / 4; ours gives a thousand times that
    theirs = run_theirs(scheduler, lambda x, t: toy_network(x, 1000 * t), 80 * x_T)
    got = ours(name, toy_network, 80 * x_T, schedule.levels(18), schedule, "edm")
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-4)


# -- equality with the published algorithms ---------------------------------------------------------------


def k_diffusion(x, sigmas, denoised, sampler, noise):
    """k-diffusion's published loops over x / alpha, in its own terms: denoised(x, sigma) is x_0."""
    old = None
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(sigmas)):
        x_0 = denoised(x, sigma)
        d = (x - x_0) / sigma
        if sampler == "heun" and sigma_next > 0:
            x_2 = x + d * (sigma_next - sigma)
            d = (d + (x_2 - denoised(x_2, sigma_next)) / sigma_next) / 2
        if sampler == "dpm_solver_pp_2m":
            t, t_next = -np.log(sigma), (-np.log(sigma_next) if sigma_next > 0 else np.inf)
            h = t_next - t
            guess = x_0
            if old is not None and sigma_next > 0:
                r = (t + np.log(sigmas[i - 1])) / h
                guess = (1 + 1 / (2 * r)) * x_0 - old / (2 * r)
            x, old = sigma_next / sigma * x - np.expm1(-h) * guess, x_0
        elif sampler == "euler_ancestral":
            up = min(sigma_next, (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
            x = x + d * ((sigma_next**2 - up**2) ** 0.5 - sigma)
            x = x + up * noise[i] if sigma_next > 0 else x
        else:
            x = x + d * (sigma_next - sigma)
    return x


@pytest.mark.parametrize("name", ["euler", "heun", "euler_ancestral", "dpm_solver_pp_2m"])
@pytest.mark.parametrize("family", ["ddpm", "edm"])
def test_equals_k_diffusions_published_loops(toy_network, x_T, name, family):
    schedule, kind = FAMILIES[family]
    denoise = NetworkDenoiser(toy_network, schedule, kind)
    levels = schedule.levels(12)
    by_sigma = {level.sigma / level.alpha: level for level in levels}
    start = schedule.init_noise_sigma * x_T.double()

    def denoised(x, sigma):
        return denoise(by_sigma[sigma].alpha * x, by_sigma[sigma]).x_0

    g, noise_stream = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    noise = [torch.randn(x_T.shape, generator=noise_stream).double() for _ in levels[:-2]]
    expected = k_diffusion(start / levels[0].alpha, list(by_sigma), denoised, name, noise)
    options = {"generator": g} if name == "euler_ancestral" else {}
    got = final(SAMPLERS[name](denoise, start, levels, **options))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


# -- one line, many names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_euler_is_ddim_and_ancestral_is_ddpm_is_ddim_with_eta_1(toy_network, x_T, family):
    schedule, kind = FAMILIES[family]
    denoise, levels = NetworkDenoiser(toy_network, schedule, kind), schedule.levels(12)
    start = schedule.init_noise_sigma * x_T

    def run(name, **options):
        return final(SAMPLERS[name](denoise, start, levels, **options))

    torch.testing.assert_close(run("euler"), run("ddim"), rtol=1e-4, atol=1e-4)
    ddim_1 = run("ddim", eta=1.0, generator=generators(2))
    torch.testing.assert_close(run("ddpm", generator=generators(2)), ddim_1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(run("euler_ancestral", generator=generators(2)), ddim_1, rtol=1e-4, atol=1e-4)
    assert (ddim_1 - run("ddim")).abs().max() > 0.01
    torch.testing.assert_close(run("euler_ancestral", eta=0.0), run("euler"), rtol=1e-4, atol=1e-4)


# -- what a step records ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_form_a_chain_and_are_never_changed_afterwards(toy_network, x_T, name, family):
    schedule, kind = FAMILIES[family]
    levels = schedule.levels(6)
    start = schedule.init_noise_sigma * x_T
    before, steps, copies = start.clone(), [], []
    for step in SAMPLERS[name](NetworkDenoiser(toy_network, schedule, kind), start, levels):
        steps.append(step)
        copies.append((step.x_t.clone(), step.x_next.clone()))
        assert torch.is_grad_enabled()  # no_grad stays inside the sampler
        assert not step.x_next.requires_grad and bool(step.x_next.isfinite().all())
    assert [step.i for step in steps] == list(range(6))
    assert [step.level for step in steps] == levels[:-1] and [step.next_level for step in steps] == levels[1:]
    assert torch.equal(start, before)
    for step, (x_t, x_next) in zip(steps, copies, strict=True):
        assert torch.equal(step.x_t, x_t) and torch.equal(step.x_next, x_next)
        assert (step.pred_2 is not None) == (name == "heun" and step.i < 5)
    for step, after in itertools.pairwise(steps):
        assert step.x_next is after.x_t


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_is_the_same_picture_in_any_batch(toy_network, name):
    denoise, levels = NetworkDenoiser(toy_network, LINEAR, "eps"), LINEAR.levels(8)

    def run(batch_size, seed):
        streams = generators(batch_size, seed)
        start = samplers.randn((batch_size, 1, 6, 6), streams)
        takes = "generator" in inspect.signature(SAMPLERS[name]).parameters
        return final(SAMPLERS[name](denoise, start, levels, **({"generator": streams} if takes else {})))

    torch.testing.assert_close(run(5, seed=0)[3:4], run(1, seed=3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "evaluations"), [(n, 12 if n != "heun" else 23) for n in SAMPLERS])
def test_network_evaluations(toy_network, x_T, name, evaluations):
    calls = []

    def network(x, t, labels):
        calls.append(len(x))
        return toy_network(x, t, labels)

    ours(name, network, x_T, LINEAR.levels(12))
    assert len(calls) == evaluations


# -- inversion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ddpm", "flow"])
def test_inversion_and_back(toy_network, x_T, family):
    schedule, kind = FAMILIES[family]
    denoise, levels = NetworkDenoiser(toy_network, schedule, kind), schedule.levels(50)
    levels = [level for level in levels if level.alpha > 0.05]
    image = x_T.clamp(-1, 1)

    def round_trip(iterations):
        steps = list(samplers.ddim_invert(denoise, image, levels, iterations=iterations))
        assert steps[0].level == levels[-1] and steps[-1].next_level == levels[0] and [s.i for s in steps][:2] == [0, 1]
        return float((final(samplers.ddim(denoise, steps[-1].x_next, levels)) - image).abs().max())

    once, often = round_trip(1), round_trip(30)
    assert often < 1e-4 < once < 0.5


def test_inversion_equals_diffusers(toy_network, x_T):
    """One iteration is diffusers' DDIMInverseScheduler, which asks the network at the noisier timestep."""
    from diffusers import DDIMInverseScheduler

    scheduler = DDIMInverseScheduler(timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(10)
    x = 0.3 * x_T
    for t in scheduler.timesteps:
        x = scheduler.step(toy_network(x, t[None].float()), t, x).prev_sample
    denoise = NetworkDenoiser(toy_network, LINEAR, "eps")
    levels = LINEAR.levels_at(scheduler.timesteps.flip(0).tolist())
    got = final(samplers.ddim_invert(denoise, 0.3 * x_T, levels))
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


# -- bad input --------------------------------------------------------------------------------------------


def test_bad_input(toy_network, x_T):
    denoise, levels = NetworkDenoiser(toy_network, LINEAR, "eps"), LINEAR.levels(4)
    for make, message in [
        (lambda: samplers.ddim(denoise, x_T, levels, eta=1.5), "eta"),
        (lambda: samplers.euler_ancestral(denoise, x_T, levels, eta=float("nan")), "eta"),
        (lambda: samplers.ddpm(denoise, x_T, levels, variance="medium"), "small"),
        (lambda: samplers.euler(denoise, x_T, levels[:1]), "at least 2 levels"),
        (lambda: samplers.euler(denoise, x_T, levels[::-1]), "decrease in noise"),
        (lambda: samplers.heun(denoise, torch.full_like(x_T, torch.nan), levels), "NaN"),
        (lambda: samplers.ddim(denoise, x_T, levels, eta=1.0, generator=generators(3)), "3 generators"),
        (lambda: samplers.ddim_invert(denoise, x_T, levels, iterations=0), "iterations"),
        (lambda: samplers.euler(NetworkDenoiser(toy_network, FlowSchedule(), "eps"), x_T, FlowSchedule().levels(3)),
         "pure noise"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            final(make())
    with pytest.raises(ValueError, match="no step"):
        final(iter(()))
    assert isinstance(levels[0], Level)


@pytest.mark.parametrize("name", ["ddim", "euler_ancestral"])
@pytest.mark.parametrize(
    "sigmas", [(1.1584196062349035, 4.270313793308245e-10), (9.260307765309854, 6.2e-15), (80, 1e-9)]
)
def test_no_step_is_complex_where_the_noise_all_but_ends(x_T, name, sigmas):
    """sqrt(next.sigma^2 - std^2) is of a difference that rounding makes negative at these levels."""
    levels = [Level(sigma, 1.0, sigma) for sigma in (*sigmas, 0.0)]
    denoise = NetworkDenoiser(lambda x, t, cond: x * 0.1, EDMSchedule(), "x_0")
    x_0 = final(SAMPLERS[name](denoise, x_T, levels, eta=1.0, generator=generators(len(x_T))))
    assert x_0.dtype == torch.float32 and bool(x_0.isfinite().all())


def test_a_network_of_50_timesteps_is_given_the_time_of_diffusers():
    """NetworkDenoiser on DDPMSchedule.linear(50) gives the network t = 0 .. 49, as DDIMScheduler does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), norm_num_groups=4,
            layers_per_block=1, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        ).eval()  # fmt: skip
    scheduler = DDIMScheduler(num_train_timesteps=50, clip_sample=False)
    scheduler.set_timesteps(10)
    x = x_T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample

    def got(schedule: DDPMSchedule) -> torch.Tensor:
        denoise = NetworkDenoiser(lambda x, t, cond: network(x, t).sample, schedule, "eps")
        return final(SAMPLERS["ddim"](denoise, x_T, schedule.levels(10, "leading")))

    torch.testing.assert_close(got(DDPMSchedule.linear(50)), x, **CLOSE)
    assert (got(DDPMSchedule.linear(50, clock="thousand")) - x).abs().max() > 1e-3


def algorithm_2(D, x, t, S_churn, S_tmin, S_tmax, S_noise, generator):
    """EDM's Algorithm 2 as the paper prints it: D(x, t) is the denoised x, t the noise levels, the last one 0."""
    N = len(t) - 1
    for i in range(N):
        gamma = min(S_churn / N, 2**0.5 - 1) if S_tmin <= t[i] <= S_tmax else 0.0
        t_hat = t[i] + gamma * t[i]
        if gamma > 0:
            eps = S_noise * torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
            x = x + (t_hat**2 - t[i] ** 2) ** 0.5 * eps
        d = (x - D(x, t_hat)) / t_hat
        x_next = x + (t[i + 1] - t_hat) * d
        if t[i + 1] != 0:
            d_next = (x_next - D(x_next, t[i + 1])) / t[i + 1]
            x_next = x + (t[i + 1] - t_hat) * (d + d_next) / 2
        x = x_next
    return x


@pytest.mark.parametrize("churn", [(0.0, 0.0, math.inf, 1.0), (40.0, 0.05, 50.0, 1.003), (3.0, 0.0, math.inf, 1.0)])
def test_heun_with_churn_is_algorithm_2(churn):
    exact = ExactDenoiser(GaussianMixture(torch.tensor([[0.5, -0.3], [-0.4, 0.6]]).double(), std=0.2))
    levels = EDMSchedule().levels(18)
    x_T = 80 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0)).double()
    options = dict(zip(("S_churn", "S_tmin", "S_tmax", "S_noise"), churn, strict=True))
    got = list(heun(exact, x_T, levels, **options, generator=torch.Generator().manual_seed(1)))
    expected = algorithm_2(
        lambda x, t: exact(x, Level(t, 1.0, t)).x_0,
        x_T, [level.sigma for level in levels], **options, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    torch.testing.assert_close(got[-1].x_next, expected, atol=1e-10, rtol=1e-10)
    raised = [step.level.sigma > level.sigma for step, level in zip(got, levels, strict=False)]
    assert raised == [churn[0] > 0 and churn[1] <= level.sigma <= churn[2] for level in levels[:-1]]


@pytest.mark.parametrize("schedule", [EDMSchedule(), FlowSchedule()], ids=["edm", "flow"])
def test_churn_keeps_the_variance_of_a_gaussian(schedule):
    std, levels = 0.7, schedule.levels(200)
    exact = ExactDenoiser(GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), std=std))
    x_T = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)).double()
    x_T = x_T * (levels[0].alpha ** 2 * std**2 + levels[0].sigma ** 2) ** 0.5
    by_noise = {}
    for S_noise in (1.0, 1.1):
        steps = heun(exact, x_T, levels, S_churn=40, S_noise=S_noise, generator=torch.Generator().manual_seed(1))
        for step in steps:
            if S_noise == 1.0:  # the raised x_t has the variance of the raised level
                there = (step.level.alpha**2 * std**2 + step.level.sigma**2) ** 0.5
                assert float(step.x_t.std()) == pytest.approx(there, rel=0.015)
        by_noise[S_noise] = float(step.x_next.std())
    assert by_noise[1.0] == pytest.approx(std, rel=0.015) and by_noise[1.1] > 1.03 * std


def test_churn_is_off_by_default_and_refuses_a_clock_that_is_not_sigma():
    levels, exact = LINEAR.levels(4), ExactDenoiser(GaussianMixture(torch.zeros(1, 3), std=1.0))
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(final(heun(exact, x, levels)), final(heun(exact, x, levels, S_churn=0)))
    with pytest.raises(ValueError, match="S_churn needs levels whose time is sigma itself"):
        list(heun(exact, x, levels, S_churn=1))
    for wrong in ({"S_churn": -1}, {"S_noise": math.nan}, {"S_tmin": 2, "S_tmax": 1}, {"S_tmin": math.nan}):
        with pytest.raises(ValueError, match="S_"):
            list(heun(exact, x, levels, **wrong))


# -- Langevin dynamics, and a corrector -------------------------------------------------------------------


def test_langevin_keeps_a_gaussian_up_to_the_discretisation_that_it_says():
    level, snr, gaussian = FlowSchedule().level(0.5), 0.3, GaussianMixture(torch.full((1, 2), 0.8), std=0.5)
    exact, stream = ExactDenoiser(gaussian), torch.Generator().manual_seed(0)
    x = torch.full((20_000, 2), 3.0)
    variance = (level.alpha * 0.5) ** 2 + level.sigma**2
    for _ in range(40):
        x = samplers.langevin(x, exact(x, level), level, snr, stream)
    torch.testing.assert_close(x.mean(0), torch.full((2,), 0.4), rtol=0, atol=0.02)
    h = 2 * (snr * level.sigma) ** 2  # x <- (1 - h / variance) x + sqrt(2 h) z is stationary where this holds
    torch.testing.assert_close(x.var(0), torch.full((2,), variance / (1 - h / (2 * variance))), rtol=0.04, atol=0)


def test_predictor_corrector_is_the_papers_loop_and_without_corrections_ddpm(toy_network, x_T):
    """Song et al. 2021, Algorithms 4 and 5: predict, then correct M times; with the expected norms in the step size."""
    denoise, levels, M, r = NetworkDenoiser(toy_network, LINEAR, "eps"), LINEAR.levels(6), 2, 0.2
    got = list(samplers.predictor_corrector(denoise, x_T, levels, corrections=M, snr=r, generator=generators(2, 5)))
    x, streams = x_T, generators(2, 5)
    for level, next_level in itertools.pairwise(levels):
        mean, std = samplers.posterior(denoise(x, level).x_0, x, level, next_level)
        x = mean + std * samplers.randn(x.shape, streams) if next_level.sigma > 0 else mean
        for _ in range(M if next_level.sigma > 0 else 0):
            score = -denoise(x, next_level).eps / next_level.sigma
            expected_norms = x[0].numel() ** 0.5, x[0].numel() ** 0.5 / next_level.sigma  # of z, and of the score
            step_size = 2 * (r * expected_norms[0] / expected_norms[1]) ** 2
            x = x + step_size * score + (2 * step_size) ** 0.5 * samplers.randn(x.shape, streams)
    torch.testing.assert_close(got[-1].x_next, x, **CLOSE)
    assert [step.pred_2 is None for step in got] == [False] * 5 + [True]
    plain = final(samplers.predictor_corrector(denoise, x_T, levels, corrections=0, generator=generators(2, 5)))
    torch.testing.assert_close(plain, final(samplers.ddpm(denoise, x_T, levels, generator=generators(2, 5))))


def test_the_corrector_mends_a_predictors_large_steps():
    means = 1.4 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    mixture, far = GaussianMixture(means, 0.15), {0: [], 1: []}
    for corrections, seed in itertools.product(far, range(3)):
        stream = torch.Generator().manual_seed(seed)
        x_T, options = torch.randn(2000, 2, generator=stream), {"corrections": corrections, "generator": stream}
        x = final(samplers.predictor_corrector(ExactDenoiser(mixture), x_T, LINEAR.levels(8), snr=0.3, **options))
        far[corrections].append(sliced_wasserstein(x, mixture.sample(2000, stream)[0]))
    assert max(far[1]) < min(far[0])


def test_langevin_refuses_clean_data_and_steps_out_of_range(toy_network, x_T):
    denoise, level = NetworkDenoiser(toy_network, LINEAR, "eps"), LINEAR.level(300)
    pred = denoise(x_T, level)
    for at, snr, words in ((LINEAR.clean, 0.1, "clean"), (level, 1.5, "snr"), (level, "0.1", "snr")):
        with pytest.raises(ValueError, match=words):
            samplers.langevin(x_T, pred, at, snr)
    with pytest.raises(ValueError, match="corrections"):
        list(samplers.predictor_corrector(denoise, x_T, LINEAR.levels(3), corrections=-1))
