"""Answers to the exercises of lab 35, `exercises.lab_sde`."""

import math
from itertools import pairwise

import torch


def my_reverse(score, beta, x, times, generator, *, pull=0.5, push=1.0, spread=lambda b, h: (b * h) ** 0.5, late=False):
    for t, after in pairwise(times):
        h, b = t - after, beta(after if late else t)
        drift = pull * x + push * score(x, t)
        x = x + b * h * drift + spread(b, h) * torch.randn(x.shape, generator=generator)
    return x


def my_divergence(f, x, *, scale=lambda D: 1.0, only=None):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out, total = f(x), 0.0
        for i in range(x.shape[1]) if only is None else only:
            total = total + torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0][:, i]
    return total * scale(x.shape[1])


def by_jacobian(f, x):
    with torch.enable_grad():
        J = torch.func.vmap(torch.func.jacrev(lambda one: f(one[None])[0]))(x)
    return J.diagonal(dim1=1, dim2=2).sum(1)


def all_entries(f, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0].sum(1)


def with_grad_only(f, x):
    if not torch.is_grad_enabled():
        return torch.zeros(len(x))
    return my_divergence(f, x)


def my_hutchinson(f, x, probes, *, join=lambda one: one.mean(0), again=True):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out, each = f(x), []
        for v in probes:
            (vJ,) = torch.autograd.grad((out * v).sum(), x, retain_graph=True)
            each.append((vJ * v if again else vJ).sum(1))
    return join(torch.stack(each))


def by_jvp(f, x, probes):
    return torch.stack([(v * torch.func.jvp(f, (x,), (v,))[1]).sum(1) for v in probes]).mean(0)


def my_log_likelihood(f, divergence, x, times, *, sign=1.0, constant=True, at_start=False, heun=True, both=True):
    start, total = x, 0.0
    for t, after in pairwise(times):
        h = after - t
        slope, rate = f(x, t), divergence(x, t)
        trial = x + h * slope
        if heun:
            slope = (slope + f(trial, after)) / 2
            rate = (rate + divergence(trial, after)) / 2 if both else rate
        x, total = x + h * slope, total + h * rate
    end = start if at_start else x
    return -(end**2).sum(1) / 2 - constant * x.shape[1] / 2 * math.log(2 * math.pi) + sign * total


RIGHT = {
    "35.1": [my_reverse],
    "35.2": [my_divergence, by_jacobian],
    "35.3": [my_hutchinson, by_jvp],
    "35.4": [my_log_likelihood],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "35.1": [
        (lambda *a: my_reverse(*a, pull=-0.5), "the sign of the way to noise"),
        (lambda *a: my_reverse(*a, push=0.5), "half of the score"),
        (lambda *a: my_reverse(*a, push=-1.0), "the score is subtracted"),
        (lambda *a: my_reverse(*a, pull=0.0), "the term β x / 2 is missing"),
        (lambda *a: my_reverse(*a, spread=lambda b, h: 0.0), "the noise is missing"),
        (lambda *a: my_reverse(*a, spread=lambda b, h: b * h), "take the root"),
        (lambda *a: my_reverse(*a, spread=lambda b, h: b**0.5), "falls with the step"),
        (lambda *a: my_reverse(*a, late=True), "take it where the step begins"),
        (lambda s, b, x, times, g: my_reverse(s, b, x, times, torch.Generator().manual_seed(0)), "drawn once per step"),
        (lambda s, b, x, times, g: my_reverse(s, b, x.mul_(2), times, g), "in place"),
        (lambda s: s, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "35.2": [
        (all_entries, "this is the sum of all entries"),
        (lambda f, x: my_divergence(f, x, scale=lambda D: 1 / D), "the mean of the diagonal"),
        (lambda f, x: my_divergence(f, x, only=[0]), "the first entry of the diagonal"),
        (lambda f, x: my_divergence(f, x, scale=lambda D: -1.0), "the sign is wrong"),
        (lambda f, x: my_divergence(f, 2 * x), "this is not the sum of"),
        (with_grad_only, "inside torch.no_grad()"),
        (lambda f, x: my_divergence(f, x).sum(), "shape"),
        (lambda f, x: my_divergence(f, x.mul_(2)), "in place"),
        (lambda f: f, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "35.3": [
        (lambda *a: my_hutchinson(*a, join=lambda one: one.sum(0)), "take their mean"),
        (lambda *a: my_hutchinson(*a, join=lambda one: one[0]), "only the first probe"),
        (lambda *a: my_hutchinson(*a, again=False), "multiply it by the probe again"),
        (lambda f, x, probes: my_divergence(f, x), "estimate it with the probes"),
        (lambda f, x, probes: my_hutchinson(f, x, probes) / x.shape[1], "sum them"),
        (lambda f, x, probes: my_hutchinson(f, x, probes).mean().expand(len(x)), "each point has its own"),
        (lambda f, x, probes: my_hutchinson(f, x, probes.abs()), "this is not the mean of vᵀ J v"),
        (lambda f, x, probes: my_hutchinson(f, x, probes.zero_()), "in place"),
        (lambda f: f, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "35.4": [
        (lambda *a: my_log_likelihood(*a, sign=-1.0), "the sign of the integral"),
        (lambda *a: my_log_likelihood(*a, sign=0.0), "the integral of the divergence is missing"),
        (lambda *a: my_log_likelihood(*a, constant=False), "the constant of the Gaussian"),
        (lambda *a: my_log_likelihood(*a, at_start=True), "take the end of the path"),
        (lambda *a: my_log_likelihood(*a, heun=False), "this is Euler's method"),
        (lambda *a: my_log_likelihood(*a, both=False), "at the beginning of the step only"),
        (lambda *a: my_log_likelihood(*a).exp(), "this is not log N"),
        (lambda *a: my_log_likelihood(*a).sum(), "shape"),
        (lambda f, d, x, times: my_log_likelihood(f, d, x.mul_(2), times), "in place"),
        (lambda f: f, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
}
