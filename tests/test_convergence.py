"""How fast samplers converge, and to what, measured against flows that are known exactly."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from diffusion_explained.denoisers import Prediction, clip_x_0
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.samplers import SAMPLERS, final
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.2], [1.1]]), torch.tensor([0.3, 0.5, 0.2]), torch.tensor([1.0, 2.0, 1.0])
)
SPANS = {  # family: (start, end, how to space n steps between them); the end is noisy, where the orders hold
    "edm": (EDMSchedule(sigma_min=0.1, sigma_max=10.0), None),
    "flow": (FlowSchedule(), (0.95, 0.05)),
    "ddpm": (DDPMSchedule.cosine(num_train_timesteps=20_000), (19_000, 1_000)),
}


def levels_between(family: str, n: int) -> list[Level]:
    schedule, span = SPANS[family]
    if span is None:
        return [schedule.level(float(t)) for t in schedule.timesteps(n + 1)]
    return [schedule.level(float(t)) for t in torch.linspace(*span, n + 1, dtype=torch.float64)]


def cdf(x: Tensor, level: Level) -> Tensor:
    """The distribution function of the noised one-dimensional mixture."""
    std = ((level.alpha * MIXTURE.std) ** 2 + level.sigma**2).sqrt()
    return (torch.special.ndtr((x - level.alpha * MIXTURE.means[:, 0]) / std) * MIXTURE.weights).sum(-1, keepdim=True)


def exact_flow(x: Tensor, start: Level, end: Level) -> Tensor:
    """In one dimension the probability flow keeps quantiles: cdf_end(x_end) = cdf_start(x_start), by bisection."""
    goal, low, high = cdf(x, start), torch.full_like(x, -60.0), torch.full_like(x, 60.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = cdf(middle, end) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@pytest.mark.parametrize("family", SPANS)
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpm_solver_pp_2m", 2)])
def test_order_of_convergence(name, order, family):
    """Halving the step divides the error by 2 ** order."""
    g = torch.Generator().manual_seed(0)
    errors = []
    for n in (40, 80, 160):
        levels = levels_between(family, n)
        start = levels[0]
        quantiles = torch.randn(64, 1, generator=g.manual_seed(0), dtype=torch.float64)
        x = start.alpha * 0.2 + (start.alpha**2 + start.sigma**2) ** 0.5 * quantiles
        got = final(SAMPLERS[name](ExactDenoiser(MIXTURE), x, levels))
        errors.append(float((got - exact_flow(x, start, levels[-1])).abs().mean()))
    measured = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < 0.02
    assert measured[-1] == pytest.approx(order, abs=0.25), (errors, measured)


@pytest.mark.parametrize("family", ["ddpm", "edm", "flow"])
def test_the_flow_of_one_gaussian_in_closed_form(family):
    """x_0 = mean + std / std_T * (x_T - alpha_T mean): what a fine sampler must give, to the clean end."""
    schedule = {"ddpm": DDPMSchedule.cosine(), "edm": EDMSchedule(), "flow": FlowSchedule()}[family]
    gaussian = GaussianMixture(torch.tensor([[0.5, -0.3]]), std=0.7)
    levels = schedule.levels(1000)
    x_T = schedule.init_noise_sigma * torch.randn(
        16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    std_T = ((levels[0].alpha * 0.7) ** 2 + levels[0].sigma ** 2) ** 0.5
    expected = gaussian.means + 0.7 / std_T * (x_T - levels[0].alpha * gaussian.means)
    for name, tolerance in [("ddim", 2e-2), ("euler", 2e-2), ("heun", 1e-3), ("dpm_solver_pp_2m", 2e-3)]:
        got = final(SAMPLERS[name](ExactDenoiser(gaussian), x_T, levels))
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("family", ["ddpm", "edm", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_mixtures_distribution(name, family):
    """20,000 samples against the exact distribution function: deterministic and stochastic samplers share marginals."""
    schedule = {"ddpm": DDPMSchedule.cosine(), "edm": EDMSchedule(), "flow": FlowSchedule()}[family]
    g = torch.Generator().manual_seed(1)
    x_T = schedule.init_noise_sigma * torch.randn(20_000, 1, generator=g)
    options = {"generator": g} if name in ("ddpm", "euler_ancestral") else {}
    levels = schedule.levels(100)
    x_0 = final(SAMPLERS[name](ExactDenoiser(MIXTURE), x_T, levels, **options))
    empirical = (torch.arange(20_000) + 0.5) / 20_000
    distance = (cdf(x_0.double().sort(0).values, levels[-1])[:, 0] - empirical).abs().max()  # Kolmogorov-Smirnov
    assert float(distance) < 0.025  # chance alone gives 0.0115 once in a hundred; the rest is 100 steps' error


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm_solver_pp_2m"])
def test_a_small_mistake_at_pure_noise_stays_small(name):
    """The cosine schedule starts at sigma / alpha = 20,000: a thousandth of eps there must not be multiplied by it."""
    exact, levels = ExactDenoiser(MIXTURE), DDPMSchedule.cosine().levels(25)

    def nearly(x_t, level):
        pred = exact(x_t, level)
        return pred if level != levels[0] else clip_x_0(Prediction(pred.x_0 + 20, pred.eps, pred.eps), x_t, level, 1)

    x_T = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = (final(SAMPLERS[name](denoise, x_T, levels)) for denoise in (exact, nearly))
    assert float((a - b).abs().mean()) < 0.1
