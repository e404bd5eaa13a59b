"""The forward process: closed form, chain and posterior agree with each other and with diffusers."""

import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from diffusion_explained.forward import add_noise, posterior, q_chain, transition
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

SCHEDULES = [DDPMSchedule.linear(num_train_timesteps=20, beta_end=0.3), EDMSchedule(), FlowSchedule()]


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_add_noise_equals_diffusers(t):
    schedule, g = DDPMSchedule.linear(), torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 4, 3, 3, 3, generator=g)
    theirs = DDPMScheduler().add_noise(x_0, eps, torch.full((4,), t))
    torch.testing.assert_close(add_noise(x_0, eps, schedule.level(t)), theirs, rtol=1e-5, atol=1e-5)


def test_add_noise_takes_one_level_an_image():
    schedule, g = DDPMSchedule.linear(), torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=g)
    t = torch.tensor([0.0, 500.0, 999.0])
    together = add_noise(x_0, eps, (t, schedule.alpha(t), schedule.sigma(t)))
    assert together.dtype == torch.float32
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], add_noise(x_0[i : i + 1], eps[i : i + 1], schedule.level(t[i])))


def test_neighbouring_levels_are_one_ddpm_step_apart():
    """scale = sqrt(1 - beta_t), std = sqrt(beta_t) (DDPM, Eq. 2), the first step from clean data included."""
    schedule = DDPMSchedule.linear()
    levels = [schedule.clean] + [schedule.level(t) for t in range(1000)]
    for t in (0, 1, 500, 999):
        scale, std = transition(levels[t], levels[t + 1])
        assert scale == pytest.approx(float((1 - schedule.betas[t]).sqrt()), rel=1e-9)
        assert std == pytest.approx(float(schedule.betas[t].sqrt()), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_chain_and_closed_form_agree_in_distribution(schedule):
    """200,000 walks of 8 steps have the closed form's mean and standard deviation at every level."""
    levels = schedule.levels(8)[-2::-1]  # increasing in noise
    x_0 = torch.full((200_000,), 0.7)
    for level, x_t in zip(levels, q_chain(x_0, levels, torch.Generator().manual_seed(0)), strict=True):
        noise = 5 * level.sigma / len(x_0) ** 0.5  # five standard errors
        assert float(x_t.mean()) == pytest.approx(0.7 * level.alpha, abs=noise + 1e-6)
        assert float(x_t.std()) == pytest.approx(level.sigma, abs=noise + 1e-6)


def test_chain_has_one_stream_an_image():
    from diffusion_explained.noise import generators

    levels = FlowSchedule().levels(4)[-2::-1]
    x_0 = torch.zeros(3, 1, 5, 5)
    batch = list(q_chain(x_0, levels, generators(3)))
    alone = list(q_chain(x_0[:1], levels, generators(1, seed=2)))
    for b, a in zip(batch, alone, strict=True):
        assert torch.equal(b[2:], a)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_posterior_is_bayes_rule(schedule):
    """mean and std against the product of two Gaussians in x_s: prior N(alpha_s x_0, sigma_s^2), likelihood of x_t."""
    levels = schedule.levels(5)
    x_0, x_t = torch.tensor([0.3], dtype=torch.float64), torch.tensor([-0.8], dtype=torch.float64)
    for t, s in itertools.pairwise(levels[:-1]):
        scale, std = transition(s, t)
        precision = 1 / s.sigma**2 + scale**2 / std**2
        mean = (s.alpha * x_0 / s.sigma**2 + scale * x_t / std**2) / precision
        got_mean, got_std = posterior(x_0, x_t, t, s)
        torch.testing.assert_close(got_mean, mean, rtol=1e-9, atol=1e-12)
        assert got_std == pytest.approx(precision**-0.5, rel=1e-9)
    last_mean, last_std = posterior(x_0, x_t, levels[-2], levels[-1])
    torch.testing.assert_close(last_mean, x_0)
    assert last_std == 0


def test_snr_at_the_ends():
    values = [Level(0.5, alpha, sigma).snr for alpha, sigma in [(1.0, 0.0), (0.6, 0.3), (0.0, 1.0)]]
    assert values == [float("inf"), pytest.approx(4), 0]


def test_bad_input():
    with pytest.raises(ValueError, match="same shape"):
        add_noise(torch.zeros(2, 3), torch.zeros(2, 4), Level(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="not noisier"):
        transition(Level(0.5, 0.5, 0.5), Level(0.1, 0.9, 0.1))
