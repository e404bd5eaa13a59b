"""The exercises of notebook 00, Warm-up and tour."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near
from diffusion_explained.forward import add_noise
from diffusion_explained.schedules import DDPMSchedule


@exercise("00.1", "One level per picture", "my_mix(x_0, eps, alpha, sigma)")
def mixes_each_by_its_level(answer: object, given: Given) -> None:
    """The noisy batch of points, of sequences and of pictures, where the batch is as long as another dimension."""
    for shape in ((5, 5), (4, 2, 4), (6, 1, 6, 6), (3, 2, 4, 5)):
        x_0, eps = given.randn(2, *shape)
        alpha, sigma = 0.1 + given.rand(2, shape[0])
        each = (shape[0], *[1] * (len(shape) - 1))
        got = given.tensor(answer, x_0, eps, alpha, sigma, shape=shape)
        if shape[0] == shape[-1]:
            assert not near(got, alpha * x_0 + sigma * eps), (
                f"for data of shape {shape} the levels are aligned with the last dimension: give them the shape {each}"
            )
        expected = add_noise(x_0, eps, (alpha, alpha, sigma))
        assert near(got, expected), f"for data of shape {shape} this is not αx_0 + σε with one α and one σ per picture"


@exercise("00.2", "What was x_0?", "my_posterior(x_t, m, s, alpha, sigma)")
def is_the_posterior(answer: object, given: Given) -> None:
    """The posterior's mean and standard deviation, for other data at each level, pure noise included."""
    for alpha in (0.0, 0.6, *(0.2 + 0.7 * given.rand(3)).tolist()):
        m, s, sigma = (0.3 + given.rand(3)).tolist()
        x_t, variance = given.randn(7), alpha**2 * s**2 + sigma**2
        result = given.call(answer, x_t, m, s, alpha, sigma)
        assert isinstance(result, tuple | list) and len(result) == 2, (
            "the answer returns a pair, the posterior's mean and its standard deviation"
        )
        mean, std = result
        expected = m + alpha * s**2 / variance * (x_t - alpha * m)
        assert isinstance(mean, Tensor) and mean.shape == x_t.shape, "the mean is a tensor of the shape of x_t"
        assert near(mean, expected), (
            f"at α = {alpha:.2f} this is not the mean: the prior's mean, corrected by a gain times (x_t - αm)"
        )
        got = given.number(std)
        assert abs(got - s**2 * sigma**2 / variance) > 1e-4, "this is the variance: take its root"
        assert abs(got - s * sigma / variance**0.5) < 1e-4, (
            f"at α = {alpha:.2f} this is not the standard deviation: precisions add, 1/s² + α²/σ²"
        )


@exercise("00.3", "Euler's method", "my_euler(v, x, start, end, n)")
def steps_like_euler(answer: object, given: Given) -> None:
    """n steps along a velocity that depends on place and time, forwards and backwards; v is called n times."""
    for start, end, n in ((0.0, 1.0, 4), (1.0, 0.0, 5), (0.5, 2.0, 1), (2.0, 0.25, 7)):
        x, rate = to_float64(given.randn(6, 2)), 0.5 + float(given.rand(1))
        calls: list[float] = []

        def v(x: Tensor, t: Any, rate: float = rate, calls: list[float] = calls) -> Tensor:
            calls.append(float(t))
            return -rate * x + torch.cos(x) * float(t) ** 2

        h, expected = (end - start) / n, x
        for i in range(n):
            expected = expected + h * v(expected, start + i * h)
        times = list(calls)
        calls.clear()
        got = given.tensor(answer, v, x, start, end, n, shape=(6, 2))
        where = f"from {start:g} to {end:g} in {n} step{'s' * (n > 1)}"
        assert len(calls) == n, f"{where} v is called {len(calls)} times, not {n}"
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(calls, times, strict=True)), (
            f"{where} v is called at the times {', '.join(f'{t:.2f}' for t in calls)}: a step uses its start's time"
        )
        assert near(got, expected, 1e-6), f"{where} this is not Euler's x: each step adds (end - start) / n times v"


@exercise("00.4", "Translate")
def is_the_same_noise(answer: object, given: Given) -> None:
    """EDM's sigma, within 0.01, at the noise level of DDPM's linear schedule at t = 500."""
    sigma, level = given.number(answer), DDPMSchedule.linear().level(500)
    ratio = level.sigma / level.alpha
    assert abs(sigma - level.sigma) > 1e-3, "this is σ beside the shrunken picture αx_0; in EDM's notation α is 1"
    assert abs(sigma - ratio**2) > 0.02, "this is a quotient of variances: take its root"
    assert abs(sigma - 1 / ratio) > 1e-3, "this is α/σ, the signal-to-noise ratio's root: EDM's σ grows with the noise"
    assert abs(sigma - ratio) < 0.01, "two levels are the same noise if σ/α is the same, and EDM's α is 1"
