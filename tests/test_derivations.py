"""What the course's folded derivations claim beyond the formulas above them, checked with the library's functions."""

import re

import nbformat
import pytest
import torch

from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.files import shipped
from diffusion_explained.forward import add_noise, posterior
from diffusion_explained.guidance import guide
from diffusion_explained.noise import stream
from diffusion_explained.predictions import to_x0_eps
from diffusion_explained.samplers import dpm_solver_pp_2m
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule

NOTEBOOKS = sorted(shipped("notebooks").glob("[01]*.ipynb"))
NO_NEW_FORMULA = ("09", "11")  # their formulas are derived where they first stand


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_derivations_are_folded_and_whole(path):
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"<details><summary>.*?</details>", text, re.DOTALL)]
    derivations = [block for block in blocks if re.match(r"<details><summary>(Derivation|Why this v)", block)]
    assert derivations or path.stem[:2] in NO_NEW_FORMULA
    for block in derivations:
        assert block.count("<details>") == 1 and block.count("$") % 2 == 0
        assert len(block.strip().split("\n")) >= 7, "a derivation has steps"
        assert re.search(r"</summary>\n\n", block), "Markdown begins after an empty line"


def test_the_weight_of_the_bound():
    """Notebook 03: KL of posterior and model is w_t |eps - eps_theta|^2, and Eq. 14 counts noise 60 times more."""
    schedule, weights = DDPMSchedule.linear(), []
    x_0, eps, other = (torch.randn(2, 5, generator=stream(k), dtype=torch.float64) for k in range(3))
    for t in (1, 500, 999):  # the paper's 2, 501 and 1000
        level, next_level = schedule.level(t), schedule.level(t - 1)
        x_t = add_noise(x_0, eps, level)
        guessed, _ = to_x0_eps("eps", other, x_t, level.alpha, level.sigma)
        mean, std = posterior(x_0, x_t, level, next_level)
        divergence = (mean - posterior(guessed, x_t, level, next_level)[0]).square().sum() / (2 * std**2)
        beta = float(schedule.betas[t])
        weights.append(beta / (2 * (1 - beta) * next_level.sigma**2))
        torch.testing.assert_close(divergence, weights[-1] * (eps - other).square().sum(), rtol=1e-6, atol=0)
    assert weights[0] == pytest.approx(0.60, abs=0.005) and weights[-1] == pytest.approx(0.010, abs=0.0005)
    assert weights[0] / weights[-1] == pytest.approx(60, rel=0.03)


def test_the_relative_step_of_edm_grows_towards_low_noise():
    """Notebook 02: with rho = 7 it is 4.5 times as large at the last level as at the first."""
    sigmas = EDMSchedule().timesteps(2001)
    relative = (sigmas[:-1] - sigmas[1:]) / ((sigmas[:-1] + sigmas[1:]) / 2)
    assert float(relative[-1] / relative[0]) == pytest.approx((80 / 0.002) ** (1 / 7), rel=0.01)
    assert (80 / 0.002) ** (1 / 7) == pytest.approx(4.5, abs=0.05)


def test_the_step_of_2m_is_the_one_that_is_derived():
    """Notebook 04: DDIM's step with D = x_0 + h / (2 h_0) (x_0 - x_0 before)."""
    denoise = ExactDenoiser(GaussianMixture(torch.tensor([[-1.0, 0.2], [1.0, -0.4]]), 0.3))
    schedule = DDPMSchedule.linear()
    levels = [schedule.level(t) for t in (800, 600, 450, 300)]
    _, step, _ = dpm_solver_pp_2m(denoise, torch.randn(4, 2, generator=stream(3)), levels)
    before, here, after = (level.log_snr / 2 for level in levels[:3])
    h_0, h = here - before, after - here
    first = denoise(torch.randn(4, 2, generator=stream(3)), levels[0]).x_0
    extrapolated = step.pred.x_0 + h / (2 * h_0) * (step.pred.x_0 - first)
    alpha, sigma = levels[2].alpha, levels[2].sigma
    by_hand = sigma / levels[1].sigma * step.x_t + alpha * (1 - torch.tensor(-h).exp()) * extrapolated
    torch.testing.assert_close(step.x_next, by_hand, rtol=1e-4, atol=1e-5)


def test_guidance_has_the_power_of_the_mean_and_not_the_mean_of_the_power():
    """Notebook 06: the score of noisy samples of p_w has E[p(c | x_0)^w | x_t], guidance p_t(c | x_t)^w."""
    centres, std, w, level = torch.tensor([-1.0, 1.0]), 0.6, 2.0, FlowSchedule().level(0.6)
    mixture = GaussianMixture(centres[:, None], std, classes=torch.arange(2))
    x_0 = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    p = mixture.log_density(x_0, FlowSchedule().clean).exp()
    p_class = mixture.class_probabilities(x_0, FlowSchedule().clean)[:, 0]
    x_t = torch.linspace(-2, 2, 41, dtype=torch.float64)
    kernel = torch.exp(-((x_t[:, None] - level.alpha * x_0.T) ** 2) / (2 * level.sigma**2))  # [41, 4001]

    def score(log_density):
        return torch.gradient(log_density, spacing=float(x_t[1] - x_t[0]))[0][1:-1]

    of_noisy_p_w = score((kernel @ (p * p_class**w)).log())
    by_the_mean_of_the_power = score((kernel @ p).log() + ((kernel @ (p * p_class**w)) / (kernel @ p)).log())
    torch.testing.assert_close(of_noisy_p_w, by_the_mean_of_the_power)
    cond, uncond = (
        ExactDenoiser(mixture, labels)(x_t[:, None], level).eps[1:-1, 0]
        for labels in (torch.zeros(41, dtype=torch.int64), None)
    )
    guided = -guide(cond, uncond, w) / level.sigma
    power_of_the_mean = score((kernel @ p).log() + w * ((kernel @ (p * p_class)) / (kernel @ p)).log())
    torch.testing.assert_close(guided, power_of_the_mean, rtol=0, atol=0.02)
    assert (guided - of_noisy_p_w).abs().max() > 0.2, "the two differ, in strong noise"
