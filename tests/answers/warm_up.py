"""Answers to the exercises of notebook 00."""

from itertools import pairwise

import numpy as np
import torch

from diffusion_explained.forward import add_noise, like
from diffusion_explained.schedules import DDPMSchedule

level = DDPMSchedule.linear().level(500)
ratio = level.sigma / level.alpha


def mix(x_0, eps, alpha, sigma):
    each = (len(x_0), *[1] * (x_0.ndim - 1))
    return alpha.reshape(each) * x_0 + sigma.reshape(each) * eps


def posterior(x_t, m, s, alpha, sigma):
    variance = alpha**2 * s**2 + sigma**2
    return m + alpha * s**2 / variance * (x_t - alpha * m), s * sigma / variance**0.5


def by_precisions(x_t, m, s, alpha, sigma):
    precision = 1 / s**2 + alpha**2 / sigma**2
    return [(m / s**2 + alpha * x_t / sigma**2) / precision, torch.tensor(precision**-0.5)]


def euler(v, x, start, end, n):
    h = (end - start) / n
    for i in range(n):
        x = x + h * v(x, start + i * h)
    return x


def euler_by_times(v, x, start, end, n):
    times = torch.linspace(start, end, n + 1, dtype=torch.float64)
    for t, after in pairwise(times):
        x = x + (after - t) * v(x, t)
    return x


def euler_with(h_of, time_of=lambda start, i, h: start + i * h, calls=lambda n: n):
    def walk(v, x, start, end, n):
        h = h_of(start, end, n)
        for i in range(calls(n)):
            x = x + h * v(x, time_of(start, i, h))
        return x

    return walk


def usual(start, end, n):
    return (end - start) / n


def in_place(v, x, start, end, n):
    for i in range(n):
        x += (end - start) / n * v(x, start + i * (end - start) / n)
    return x


def heun(v, x, start, end, n):
    h = (end - start) / n
    for i in range(n):
        t, slope = start + i * h, v(x, start + i * h)
        x = x + h / 2 * (slope + v(x + h * slope, t + h))
    return x


RIGHT = {
    "00.1": [
        mix,
        lambda x_0, eps, alpha, sigma: like(alpha, x_0) * x_0 + like(sigma, x_0) * eps,
        lambda x_0, eps, alpha, sigma: (alpha * x_0.movedim(0, -1) + sigma * eps.movedim(0, -1)).movedim(-1, 0),
        lambda x_0, eps, alpha, sigma: add_noise(x_0, eps, (alpha, alpha, sigma)),
    ],
    "00.2": [posterior, by_precisions],
    "00.3": [euler, euler_by_times],
    "00.4": [ratio, 3.44, np.float64(ratio), torch.tensor(ratio)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "00.1": [
        (lambda x_0, eps, alpha, sigma: alpha * x_0 + sigma * eps, "aligned with the last dimension"),
        (lambda x_0, eps, alpha, sigma: alpha[:, None] * x_0 + sigma[:, None] * eps, "ended with RuntimeError"),
        (lambda x_0, eps, alpha, sigma: mix(x_0, eps, sigma, alpha), "one α and one σ per picture"),
        (lambda x_0, eps, alpha, sigma: mix(x_0, eps, alpha, alpha), "one α and one σ per picture"),
        (lambda x_0, eps, alpha, sigma: alpha[0] * x_0 + sigma[0] * eps, "one α and one σ per picture"),
        (lambda x_0, eps, alpha, sigma: alpha.mean() * x_0 + sigma.mean() * eps, "one α and one σ per picture"),
        (
            lambda x_0, eps, alpha, sigma: alpha[:, None, None, None] * x_0 + sigma[:, None, None, None] * eps,
            "shape",
        ),
        (lambda x_0, eps, alpha, sigma: mix(x_0.mul_(1.5), eps, alpha, sigma), "in place"),
        (lambda x_0, eps: x_0, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "00.2": [
        (lambda x_t, m, s, alpha, sigma: posterior(x_t, m, s, alpha, sigma)[0], "returns a pair"),
        (lambda x_t, m, s, alpha, sigma: (x_t / alpha, s), "not the mean"),
        (lambda x_t, m, s, alpha, sigma: (0 * x_t + m, posterior(x_t, m, s, alpha, sigma)[1]), "not the mean"),
        (
            lambda x_t, m, s, alpha, sigma: (
                m + alpha * s / (alpha * s + sigma) * (x_t - alpha * m),
                posterior(x_t, m, s, alpha, sigma)[1],
            ),
            "not the mean",
        ),
        (
            lambda x_t, m, s, alpha, sigma: (
                m + s**2 / (alpha**2 * s**2 + sigma**2) * (x_t - alpha * m),
                posterior(x_t, m, s, alpha, sigma)[1],
            ),
            "not the mean",
        ),
        (lambda x_t, m, s, alpha, sigma: (posterior(x_t, m, s, alpha, sigma)[0], s), "precisions add"),
        (
            lambda x_t, m, s, alpha, sigma: (
                posterior(x_t, m, s, alpha, sigma)[0],
                posterior(x_t, m, s, alpha, sigma)[1] ** 2,
            ),
            "this is the variance",
        ),
        (
            lambda x_t, m, s, alpha, sigma: (
                posterior(x_t, m, s, alpha, sigma)[0],
                (alpha**2 * s**2 + sigma**2) ** 0.5,
            ),
            "precisions add",
        ),
        (lambda x_t, m, s, alpha, sigma: posterior(x_t[0], m, s, alpha, sigma), "shape of x_t"),
        ((1.0, 0.5), "the answer is a function"),
    ],
    "00.3": [
        (euler_with(lambda start, end, n: (start - end) / n), "is called at the times"),
        (euler_with(lambda start, end, n: 1 / n), "is called at the times"),
        (euler_with(usual, lambda start, i, h: start), "is called at the times"),
        (euler_with(usual, lambda start, i, h: start + (i + 1) * h), "is called at the times"),
        (euler_with(usual, calls=lambda n: n + 1), "v is called 5 times, not 4"),
        (euler_with(usual, calls=lambda n: 1), "v is called 1 times, not 4"),
        (lambda v, x, start, end, n: (euler(v, x, start, end, n) + x) / 2, "not Euler's x"),
        (lambda v, x, start, end, n: 0 * euler(v, x, start, end, n) + x, "not Euler's x"),
        (heun, "v is called 8 times, not 4"),
        (in_place, "in place"),
        (lambda v, x: x, "ended with TypeError"),
        (3, "the answer is a function"),
    ],
    "00.4": [
        (level.sigma, "α is 1"),
        (ratio**2, "take its root"),
        (1 / ratio, "grows with the noise"),
        (0.5, "σ/α is the same"),
        (500, "σ/α is the same"),
        ("3.4", "one number"),
        ((ratio, level.alpha), "one number"),
    ],
}
