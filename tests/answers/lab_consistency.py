"""Answers to the exercises of lab 36, `exercises.lab_consistency`."""

from itertools import pairwise

import torch


def my_f(network, x, sigma, sigma_data, sigma_min, *, low=None, c_in=True, swap=False):
    sigma = sigma[:, None]
    away, root = sigma - (sigma_min if low is None else low), (sigma**2 + sigma_data**2) ** 0.5
    c_skip, c_out = sigma_data**2 / (away**2 + sigma_data**2), sigma_data * away / root
    if swap:
        c_skip, c_out = c_out, c_skip
    return c_skip * x + c_out * network(x / root if c_in else x, sigma[:, 0])


def edm(network, x, sigma, sigma_data, sigma_min):
    s = sigma[:, None]
    root = (s**2 + sigma_data**2) ** 0.5
    return sigma_data**2 / root**2 * x + s * sigma_data / root * network(x / root, sigma)


def my_sigmas(n, sigma_min, sigma_max, rho):
    first, last = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(first + i / (n - 1) * (last - first)) ** rho for i in range(n)]


def my_loss(
    f, x_0, eps, low, high, *, stop="target", same=True, c=lambda D: 0.00054 * D**0.5, weight=lambda a, b: 1 / (b - a),
    squared=False, target=None,
):  # fmt: skip
    guess = f(x_0 + high[:, None] * eps, high)
    other = (
        f(x_0 + low[:, None] * (eps if same else torch.randn_like(eps)), low) if target is None else target(f, x_0, low)
    )
    if stop == "target":
        other = other.detach()
    elif stop == "guess":
        guess = guess.detach()
    c, squares = c(x_0.shape[1]), (guess - other).square().sum(dim=1)
    distance = squares if squared else (squares + c**2).sqrt() - c
    return (weight(low, high) * distance).mean()


def exchanged(f, x_0, eps, low, high):
    return my_loss(f, x_0, eps, high, low, weight=lambda a, b: 1 / (a - b))


def my_sample(f, noise, sigmas, sigma_min, generator, *, scale=True, again=True, spread=None, old=False, late=False):
    x = f(sigmas[0] * noise if scale else noise, torch.full((len(noise),), sigmas[0], dtype=noise.dtype))
    for before, sigma in pairwise(sigmas if again else sigmas[:1]):
        z = noise if old else torch.randn(x.shape, generator=generator)
        std = (sigma**2 - sigma_min**2) ** 0.5 if spread is None else spread(sigma)
        x = f(x + std * z, torch.full((len(x),), before if late else sigma, dtype=noise.dtype))
    return x


RIGHT = {
    "36.1": [my_f],
    "36.2": [
        my_sigmas,
        lambda n, a, b, rho: torch.linspace(a ** (1 / rho), b ** (1 / rho), n, dtype=torch.float64) ** rho,
    ],
    "36.3": [my_loss],
    "36.4": [my_sample],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "36.1": [
        (lambda *a: my_f(*a, low=0.0), "the boundary is at σ = 0"),
        (edm, "as with EDM's factors"),
        (lambda *a: my_f(*a, c_in=False), "not c_in x"),
        (lambda n, x, s, d, low: n(x / (s[:, None] ** 2 + d**2) ** 0.5, s), "this is the network's output"),
        (lambda *a: my_f(*a, swap=True), "are exchanged"),
        (lambda n, x, s, d, low: x + n(x, s), "at sigma_min the answer is not x"),
        (lambda n, x, s, d, low: my_f(n, x, s, 2 * d, low), "this is not c_skip x"),
        (lambda n, x, s, d, low: my_f(n, x.mul_(2), s, d, low), "in place"),
        (lambda n: n, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "36.2": [
        (lambda *a: my_sigmas(*a)[::-1], "the levels fall"),
        (lambda n, a, b, rho: my_sigmas(n, a, b, 1.0), "evenly spaced in σ:"),
        (lambda n, a, b, rho: [a * (b / a) ** (i / (n - 1)) for i in range(n)], "in log σ"),
        (lambda n, a, b, rho: my_sigmas(n, a, b, 1 / rho), "upside down"),
        (lambda n, a, b, rho: my_sigmas(n, 2 * a, b, rho), "not sigma_min"),
        (lambda n, a, b, rho: my_sigmas(n, a, 2 * b, rho), "not sigma_max"),
        (lambda n, a, b, rho: my_sigmas(n, a, b, 2.0), "is not evenly spaced"),
        (lambda n, a, b, rho: my_sigmas(n + 1, a, b, rho), "numbers in a pair of brackets"),
        (lambda n: n, "ended with TypeError"),
        (7, "the answer is a function"),
    ],
    "36.3": [
        (lambda *a: my_loss(*a, stop=""), "the target has a gradient too"),
        (lambda *a: my_loss(*a, stop="guess"), "the gradient comes from the target"),
        (exchanged, "the gradient comes from the target"),
        (lambda *a: my_loss(*a, target=lambda f, x_0, low: x_0), "as for a denoiser"),
        (lambda *a: my_loss(*a, target=lambda f, x_0, low: f(x_0, low)), "the target's input has no noise"),
        (lambda *a: my_loss(*a, squared=True), "this is the squared distance"),
        (lambda *a: my_loss(*a, c=lambda D: 0.00054), "the root of the dimension"),
        (lambda *a: my_loss(*a, weight=lambda a, b: 1.0), "is missing"),
        (lambda *a: my_loss(*a, weight=lambda a, b: b - a), "the weight is upside down"),
        (lambda *a: my_loss(*a, same=False), "this is not the mean of"),
        (lambda *a: my_loss(*a).detach(), "has no gradient"),
        (lambda f, x_0, eps, low, high: my_loss(f, x_0.mul_(2), eps, low, high), "in place"),
        (lambda f: f, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "36.4": [
        (lambda *a: my_sample(*a, scale=False), "multiply it by the first level"),
        (lambda *a: my_sample(*a, again=False), "only one jump was made"),
        (lambda *a: my_sample(*a, spread=lambda sigma: 0.0), "no noise is added"),
        (lambda *a: my_sample(*a, spread=lambda sigma: sigma), "f ends at sigma_min"),
        (lambda *a: my_sample(*a, old=True), "draw new noise"),
        (lambda *a: my_sample(*a, late=True), "f is asked at the level before"),
        (lambda f, n, s, low, g: my_sample(f, n, s, low, torch.Generator().manual_seed(0)), "with the new noise by"),
        (lambda f, n, s, low, g: f(n, s[0]), "ended with ValueError"),
        (lambda f, n, s, low, g: my_sample(f, n.mul_(2), s, low, g), "in place"),
        (lambda f: f, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
}
