"""Answers to the exercises of notebook 12."""

import math

import numpy as np
import torch


def g_squared(alpha, sigma, d_alpha, d_sigma):
    return 2 * sigma * d_sigma - 2 * d_alpha / alpha * sigma**2


def g_squared_by_log_snr(alpha, sigma, d_alpha, d_sigma):  # g^2 = -sigma^2 d(log SNR)/dt
    return torch.tensor(sigma**2 * 2 * (d_sigma / sigma - d_alpha / alpha))


def step_back(x, score, f, g, dt, strength, z):
    return x - f * x * dt + (1 + strength**2) / 2 * g**2 * score * dt + strength * g * dt**0.5 * z


def forwards(x, score, f, g, dt, strength, z):
    return x + f * x * dt - (1 + strength**2) / 2 * g**2 * score * dt + strength * g * dt**0.5 * z


def without_the_half(x, score, f, g, dt, strength, z):
    return x - f * x * dt + (1 + strength**2) * g**2 * score * dt + strength * g * dt**0.5 * z


def noise_by_dt(x, score, f, g, dt, strength, z):
    return x - f * x * dt + (1 + strength**2) / 2 * g**2 * score * dt + strength * g * dt * z


def one_half_always(x, score, f, g, dt, strength, z):
    return x - f * x * dt + g**2 / 2 * score * dt + strength * g * dt**0.5 * z


def only_strength_one(x, score, f, g, dt, strength, z):
    return step_back(x, score, f, g, dt, min(strength, 1.0), z)


def divergence(function, x, probes):
    at = x.clone().requires_grad_()
    y = function(at)
    return sum((e * torch.autograd.grad(y, at, e, retain_graph=True)[0]).sum(1) for e in probes) / len(probes)


def by_jvp(function, x, probes):
    products = [(e * torch.func.jvp(function, (x,), (e,))[1]).sum(1) for e in probes]
    return torch.stack(products).mean(0)


def added_up(function, x, probes):
    return divergence(function, x, probes) * len(probes)


def first_probe(function, x, probes):
    return divergence(function, x, probes[:1])


def at_zero(function, x, probes):
    return divergence(function, torch.zeros_like(x), probes)


def without_e(function, x, probes):
    at = x.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0].sum(1)


def changes_x(function, x, probes):
    x += 0.1
    return divergence(function, x, probes)


BITS = 2400 / 784 / math.log(2) + 8

RIGHT = {
    "12.1": [g_squared, g_squared_by_log_snr],
    "12.2": [step_back],
    "12.3": [divergence, by_jvp],
    "12.4": [BITS, np.float32(BITS), torch.tensor([12.42])],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "12.1": [
        (lambda alpha, sigma, d_alpha, d_sigma: d_sigma**2, "growth of σ²"),
        (lambda alpha, sigma, d_alpha, d_sigma: sigma * d_sigma, "growth of σ²"),
        (lambda alpha, sigma, d_alpha, d_sigma: 2 * sigma * d_sigma, "shrinks with the data"),
        (lambda alpha, sigma, d_alpha, d_sigma: 2 * sigma * d_sigma + 2 * d_alpha / alpha * sigma**2, "shrinks"),
        (lambda alpha, sigma, d_alpha, d_sigma: 2 * sigma * d_sigma - d_alpha / alpha * sigma**2, "shrinks"),
        (lambda alpha, sigma: 2 * sigma, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "12.2": [
        (forwards, "time runs backwards"),
        (without_the_half, "g²/2"),
        (noise_by_dt, "g √dt"),
        (one_half_always, "at strength 1"),
        (only_strength_one, "(1 + λ²)/2"),
        (lambda x, *others: x, "time runs backwards"),
    ],
    "12.3": [
        (without_e, "e · (A e)"),
        (added_up, "mean over the probes"),
        (first_probe, "mean over the probes"),
        (at_zero, "at x"),
        (changes_x, "in place"),
        (lambda function, x, probes: function(x), "shape"),
    ],
    "12.4": [
        (BITS - 8, "the density's part alone"),
        (BITS * math.log(2), "in nats"),
        (8 - (BITS - 8), "mind the sign"),
        (BITS + 1, "divide -log p"),
        ("12.4", "one number"),
    ],
}
