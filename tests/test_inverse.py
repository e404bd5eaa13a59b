"""Samplers under a constraint against transcriptions of the papers' algorithms, limits, and exact posteriors."""

import itertools

import pytest
import torch

from diffusion_explained import inverse, samplers
from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.forward import posterior, transition
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import final
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule

LINEAR, FLOW = DDPMSchedule.linear(), FlowSchedule()
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LEVELS = LINEAR.levels(5)
X_T = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
KNOWN = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
MASK = torch.zeros(4, 4)
MASK[2:] = 1


@pytest.mark.parametrize("times", [1, 3])
def test_repaint_is_algorithm_1(toy_network, times):
    """Lugmayr et al. 2022, Algorithm 1; its m is 1 where the image is known."""
    denoise, m, streams = NetworkDenoiser(toy_network, LINEAR, "eps"), 1 - MASK, generators(2, 5)
    steps = inverse.repaint(denoise, X_T, LEVELS, known=KNOWN, mask=MASK, resamplings=times, generator=generators(2, 5))
    x_t = X_T
    for level, before in itertools.pairwise(LEVELS):
        for u in range(1, times + 1 if before.sigma > 0 else 2):
            mean, std = posterior(denoise(x_t, level).x_0, x_t, level, before)
            z = randn(x_t.shape, streams) if before.sigma > 0 else torch.zeros_like(x_t)
            eps = randn(x_t.shape, streams) if before.sigma > 0 else torch.zeros_like(x_t)
            x_unknown, x_known = mean + std * z, before.alpha * KNOWN + before.sigma * eps
            x_before = m * x_known + (1 - m) * x_unknown
            if u < times and before.sigma > 0:
                scale, std = transition(before, level)
                x_t = scale * x_before + std * randn(x_t.shape, streams)
        x_t = x_before
    torch.testing.assert_close(final(steps), x_t, **CLOSE)
    torch.testing.assert_close(x_t[:, :, :2], KNOWN[:, :, :2])


def test_dps_is_algorithm_1_and_without_scale_ddpm(toy_network):
    """Chung et al. 2023, Algorithm 1 (Gaussian), with the gradient by finite differences."""
    denoise, A = NetworkDenoiser(toy_network, LINEAR, "eps"), inverse.shrink(2)
    x_T, y, zeta, streams = X_T.double(), A(KNOWN).double(), 0.3, generators(2, 5)
    steps = inverse.dps(denoise, x_T, LEVELS, measure=A, y=y, scale=zeta, generator=generators(2, 5))
    x_t = x_T
    for level, before in itertools.pairwise(LEVELS):

        def squared(x, level=level):
            return (y - A(denoise(x, level).x_0)).flatten(1).square().sum(1)

        gradient, h = torch.zeros_like(x_t), 1e-5
        for i in range(16):
            side = torch.zeros(16, dtype=torch.float64)
            side[i] = h
            side = side.reshape(1, 1, 4, 4)
            gradient[:, 0, i // 4, i % 4] = (squared(x_t + side) - squared(x_t - side)) / (2 * h)
        mean, std = posterior(denoise(x_t, level).x_0, x_t, level, before)
        x_next = mean + std * randn(x_t.shape, streams, dtype=torch.float64) if before.sigma > 0 else mean
        x_t = x_next - zeta / squared(x_t).sqrt()[:, None, None, None] * gradient
    torch.testing.assert_close(final(steps), x_t, rtol=1e-5, atol=1e-6)
    off = final(inverse.dps(denoise, X_T, LEVELS, measure=A, y=A(KNOWN), scale=0, generator=generators(2, 5)))
    torch.testing.assert_close(off, final(samplers.ddpm(denoise, X_T, LEVELS, generator=generators(2, 5))))
    assert not off.requires_grad


def test_cfg_pp_is_algorithm_2_and_needs_guidance(toy_network):
    labels = torch.tensor([1, 2])

    def denoiser(scale):
        return NetworkDenoiser(toy_network, FLOW, "flow", cond=labels, uncond=torch.tensor([0]), guidance_scale=scale)

    x = X_T
    for level, before in itertools.pairwise(FLOW.levels(4)):
        pred = denoiser(0.6)(x, level)
        x = before.alpha * pred.x_0 + before.sigma * pred.eps_uncond
    torch.testing.assert_close(final(inverse.cfg_pp(denoiser(0.6), X_T, FLOW.levels(4))), x, **CLOSE)
    without = final(samplers.ddim(denoiser(0.0), X_T, FLOW.levels(4)))  # lambda = 0 is unconditional
    torch.testing.assert_close(final(inverse.cfg_pp(denoiser(0.0), X_T, FLOW.levels(4))), without, **CLOSE)
    with pytest.raises(ValueError, match="does not guide"):
        final(inverse.cfg_pp(denoiser(1.0), X_T, FLOW.levels(4)))


def test_the_measurements():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(inverse.shrink(4)(x)[0, 1, 1, 0], x[0, 1, 4:, :4].mean())
    torch.testing.assert_close(inverse.grey()(x)[:, 0], x.mean(1))
    flat = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(inverse.blur(1.5)(flat), flat)  # also at the edge
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 4, 4] = 1
    spread = inverse.blur(1.0)(dot)[0, 0]
    torch.testing.assert_close(spread, spread.T)
    torch.testing.assert_close(spread[4, 5] / spread[4, 4], torch.tensor(-0.5).exp())
    hidden = torch.zeros(8, 8)
    hidden[:4] = 1
    assert not inverse.painted_over(hidden)(x)[:, :, :4].any() and bool(
        (inverse.painted_over(hidden)(x) == x)[:, :, 4:].all()
    )
    for make, words in (
        (lambda: inverse.shrink(3)(x), "cannot be divided"),
        (lambda: inverse.shrink(0), "factor"),
        (lambda: inverse.blur(0), "above 0"),
        (lambda: inverse.grey()(x[:, :1]), "images"),
        (lambda: inverse.painted_over(hidden / 2), "A mask is 1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


MIXTURE = GaussianMixture(torch.tensor([[0.9, 1.1], [0.5, -0.9], [-1.0, 0.3]]), 0.2, weights=[0.3, 0.5, 0.2])


def test_the_conditional_of_a_mixture_is_bayes_rule_on_a_grid():
    value, noise_std = 0.75, 0.1
    x, y = torch.meshgrid(torch.linspace(-2, 2, 401), torch.linspace(-2, 2, 401), indexing="ij")
    joint = MIXTURE.log_density(torch.stack([x, y], -1).flatten(0, 1), FLOW.clean).reshape(401, 401)
    density = (joint - (x - value).square() / (2 * noise_std**2)).exp().sum(0)
    density = density / (density.sum() * 0.01)
    got = inverse.conditional(MIXTURE, [0], [value], std=noise_std)
    torch.testing.assert_close(got.log_density(y[0][:, None], FLOW.clean).exp(), density, rtol=0, atol=2e-3)
    for known, values in (([0, 1], [0, 0]), ([], []), ([0], [0, 1]), ([2], [0]), ([0, 0], [1, 1])):
        with pytest.raises(ValueError, match=r"known|values|coordinate"):
            inverse.conditional(MIXTURE, known, values)
    points = GaussianMixture(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="no probability at this measurement"):
        inverse.conditional(points, [0], [0.5])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"known": KNOWN[:1]}, "x_t and known"),
        ({"mask": MASK / 2}, "A mask is 1"),
        ({"mask": 1}, "mask"),
        ({"resamplings": 0}, "resamplings"),
        ({"known": KNOWN * torch.nan}, "finite"),
    ],
)
def test_what_repaint_refuses(toy_network, options, words):
    with pytest.raises(ValueError, match=words):
        given = {"known": KNOWN, "mask": MASK, **options}
        list(inverse.repaint(NetworkDenoiser(toy_network, LINEAR, "eps"), X_T, LEVELS, **given))


def test_what_dps_refuses(toy_network):
    denoise, A = NetworkDenoiser(toy_network, LINEAR, "eps"), inverse.shrink(2)
    for options, words in (
        ({"y": KNOWN}, "y and the measurement"),
        ({"scale": -1}, "scale"),
        ({"measure": 3}, "measure"),
        ({"y": A(KNOWN) * torch.nan}, "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            list(inverse.dps(denoise, X_T, LEVELS, **{"measure": A, "y": A(KNOWN), **options}))
