"""The exact denoisers against calculus, brute force and each other."""

import math

import pytest
import torch

from diffusion_explained import samplers
from diffusion_explained.data import bundled_mnist
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.forward import add_noise
from diffusion_explained.guidance import guide
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import final
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

MEANS = torch.tensor([[-1.0, 0.5], [1.5, 0.0], [0.0, -1.0]])
MIXTURE = GaussianMixture(
    MEANS, std=torch.tensor([0.2, 0.4, 0.0]), weights=torch.tensor([1.0, 2.0, 1.0]), classes=torch.tensor([0, 1, 1])
)
LEVELS = [DDPMSchedule.linear().level(300), EDMSchedule().level(2.0), FlowSchedule().level(0.6)]


@pytest.mark.parametrize("level", LEVELS)
def test_eps_is_minus_sigma_times_the_score(level):
    """score = grad log p_t = -eps / sigma (CLAIMS C9), by automatic differentiation of the density."""
    x_t = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(MIXTURE.log_density(x_t, level).sum(), x_t)
    pred = ExactDenoiser(MIXTURE)(x_t.detach(), level)
    torch.testing.assert_close(pred.eps, -level.sigma * score, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(add_noise(pred.x_0, pred.eps, level), x_t.detach())


def test_the_posterior_mean_is_the_best_regression():
    """E[x_0 | x_t] by brute force: the average x_0 of many pairs whose x_t lies close by."""
    level = FlowSchedule().level(0.5)
    g = torch.Generator().manual_seed(0)
    x_0, _ = MIXTURE.sample(2_000_000, g)
    x_t = add_noise(x_0, torch.randn(x_0.shape, generator=g), level)
    for place in (torch.tensor([0.3, 0.0]), torch.tensor([-0.5, 0.3])):
        near = (x_t - place).norm(dim=1) < 0.05
        expected = x_0[near].mean(0)
        error = 6 * x_0[near].std(0) / near.sum() ** 0.5 + 0.01  # six standard errors and the window's width
        got = MIXTURE.x_0(place[None], level)[0]
        assert int(near.sum()) > 1000 and bool(((got - expected).abs() < error).all())


def test_density_integrates_to_one():
    grid = torch.linspace(-8, 8, 401, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    total = MIXTURE.log_density(points, Level(0.5, 0.5, 0.5)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert float(total) == pytest.approx(1, abs=1e-9)


def test_a_finite_data_set_is_a_mixture_without_width():
    points = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    level, x_t = FlowSchedule().level(0.7), torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    distance = ((x_t[:, None] - level.alpha * points[None]) ** 2).flatten(2).sum(2)
    expected = torch.einsum("bk,kchw->bchw", (-distance / (2 * level.sigma**2)).softmax(1), points)
    torch.testing.assert_close(ExactDenoiser(points)(x_t, level).x_0, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.5, 0.9999])
def test_distances_of_pictures_are_those_of_differences(sigma):
    level = Level(0.0, (1 - sigma**2) ** 0.5, sigma)
    pictures = bundled_mnist().subset(torch.arange(0, 10_000, 250)).to_float().double()
    mixture = GaussianMixture(pictures)
    x_t = level.alpha * pictures[:10] + level.sigma * randn((10, 1, 28, 28), torch.Generator().manual_seed(0))
    distance = (x_t[:, None] - level.alpha * pictures).square().sum((2, 3, 4))
    expected = -distance / (2 * sigma**2) - 784 / 2 * math.log(2 * math.pi * sigma**2) - math.log(40)
    torch.testing.assert_close(mixture._log_joint(x_t, level), expected, rtol=1e-9, atol=1e-4)
    torch.testing.assert_close(mixture.responsibilities(x_t, level), expected.softmax(1), rtol=1e-5, atol=1e-9)


def test_the_ends():
    """In pure noise the guess is the mean of the data; close to a data point it is that point."""
    pure = ExactDenoiser(MIXTURE)(torch.randn(3, 2), Level(1.0, 0.0, 1.0))
    torch.testing.assert_close(pure.x_0, (MEANS * torch.tensor([[0.25], [0.5], [0.25]])).sum(0).expand(3, 2))
    almost_clean = ExactDenoiser(MEANS)(MEANS[:1] + 1e-4, Level(0.0, 1.0, 1e-3))
    torch.testing.assert_close(almost_clean.x_0, MEANS[:1])
    with pytest.raises(ValueError, match="sigma = 0"):
        ExactDenoiser(MEANS)(MEANS, Level(0.0, 1.0, 0.0))


def test_labels_choose_components_and_guidance_extrapolates():
    level, x_t = FlowSchedule().level(0.6), torch.zeros(2, 2)
    labels = torch.tensor([0, 1])
    cond = ExactDenoiser(MIXTURE, labels)(x_t, level)
    only_0 = ExactDenoiser(GaussianMixture(MEANS[:1], 0.2))(x_t[:1], level)
    torch.testing.assert_close(cond.x_0[:1], only_0.x_0)
    uncond = ExactDenoiser(MIXTURE)(x_t, level)
    guided = ExactDenoiser(MIXTURE, labels, guidance_scale=3.0)(x_t, level)
    torch.testing.assert_close(guided.eps, uncond.eps + 3 * (cond.eps - uncond.eps))
    torch.testing.assert_close(guided.eps_uncond, uncond.eps)
    torch.testing.assert_close(add_noise(guided.x_0, guided.eps, level), x_t)


def test_samples_come_from_the_mixture():
    x, k = MIXTURE.sample(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(k) / len(k), torch.tensor([0.25, 0.5, 0.25]), rtol=0, atol=0.01)
    for i in range(3):
        torch.testing.assert_close(x[k == i].mean(0), MEANS[i], rtol=0, atol=0.02)
        torch.testing.assert_close(x[k == i].std(0), MIXTURE.std[i].float().expand(2), rtol=0, atol=0.02)


def test_bad_input():
    for make, message in [
        (lambda: GaussianMixture(torch.zeros(0, 2)), "K of 1 or more"),
        (lambda: GaussianMixture(MEANS, std=-1.0), "0 or more"),
        (lambda: GaussianMixture(MEANS, weights=torch.zeros(3)), "not all 0"),
        (lambda: ExactDenoiser(MIXTURE, torch.tensor([0, 9])), r"no components of class \[9\]"),
        (lambda: ExactDenoiser(MEANS, torch.tensor([0])), "classes to condition on"),
        (lambda: ExactDenoiser(MIXTURE, guidance_scale=2.0), "needs labels"),
        (lambda: ExactDenoiser(MIXTURE, torch.tensor([0]), guidance_scale=float("nan")), "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_class_probabilities_are_bayes_rule():
    """p(class | x_t) from densities by hand: each class is a mixture of its own components."""
    level, x_t = LEVELS[2], torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    first = GaussianMixture(MEANS[:1], std=0.2)
    second = GaussianMixture(MEANS[1:], std=torch.tensor([0.4, 0.0]), weights=torch.tensor([2.0, 1.0]))
    shares = [0.25 * first.log_density(x_t, level).exp(), 0.75 * second.log_density(x_t, level).exp()]
    densities = torch.stack(shares, dim=1)
    got = MIXTURE.class_probabilities(x_t, level)
    torch.testing.assert_close(got, densities / densities.sum(1, keepdim=True))


@pytest.mark.parametrize("w", [1.0, 3.0])
def test_tilted_densities_are_no_diffusion_by_the_squared_difference_of_the_scores(w):
    """Notebook 14: d log q = (laplacian + |score|^2) / 2 + w (1 - w) |difference of the scores|^2 / 2 + a constant."""
    classes = GaussianMixture(MEANS[:2], std=0.5)
    of_one = GaussianMixture(MEANS[:1], std=0.5)
    x, h = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1e-3
    v = 0.3  # the variance of the noise is the time: g = 1

    def log_q(x, v=v):
        level = Level(v, 1.0, v**0.5)
        return guide(of_one.log_density(x, level), classes.log_density(x, level), w)

    def score(log_p):
        at = x.clone().requires_grad_()
        return torch.autograd.grad(log_p(at).sum(), at)[0]

    sides = h * torch.eye(2, dtype=torch.float64)
    laplacian = sum(log_q(x + side) + log_q(x - side) - 2 * log_q(x) for side in sides) / h**2
    rate = (log_q(x, v + h) - log_q(x, v - h)) / (2 * h)
    level = Level(v, 1.0, v**0.5)
    apart = score(lambda x: of_one.log_density(x, level)) - score(lambda x: classes.log_density(x, level))
    rest = rate - (laplacian + score(log_q).square().sum(1)) / 2
    expected = w * (1 - w) * apart.square().sum(1) / 2
    torch.testing.assert_close(rest - rest[0], expected - expected[0], rtol=1e-3, atol=1e-4)
    assert w == 1 or float(rest.max() - rest.min()) > 1


def test_guidance_amplifies_what_is_skewed_and_skews_what_is_balanced():
    """As docs/responsible.md says: 90% become 98, and half of a class becomes a third where the others have 70%."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(2, 1)
    data = GaussianMixture(means, 0.3, weights=torch.tensor([0.9, 0.1, 0.5, 0.5]), classes=[0, 0, 1, 1])
    x_T, levels, found = randn((400, 2), generators(400)), FlowSchedule().levels(30), {}
    for label in (0, 1):
        for scale in (1.0, 2.0):
            denoise = ExactDenoiser(data, labels=torch.full((400,), label), guidance_scale=scale)
            found[label, scale] = float((final(samplers.euler(denoise, x_T, levels))[:, 0] < 0).double().mean())
    assert abs(found[0, 1.0] - 0.9) < 0.05 and abs(found[1, 1.0] - 0.5) < 0.08
    assert found[0, 2.0] > 0.96 and 0.25 < found[1, 2.0] < 0.4
