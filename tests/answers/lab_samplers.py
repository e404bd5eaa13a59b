"""Answers to the exercises of lab 31."""

from itertools import pairwise

import torch

from diffusion_explained.forward import posterior, posterior_std
from diffusion_explained.samplers import ddim, ddpm, dpm_solver_pp_2m, final, heun
from diffusion_explained.schedules import DDPMSchedule, Level


def levels(betas, n, *, offset=-1, alpha=lambda a: a**0.5, sigma=lambda a: (1 - a) ** 0.5, clean=((-1, 1, 0),), step=1):
    T, alpha_bar = len(betas), torch.cumprod(1 - betas, 0)
    times = [round(T - k * T / n) + offset for k in range(n)]
    return [
        *((t, alpha(float(alpha_bar[min(t, T - 1)])), sigma(float(alpha_bar[min(t, T - 1)]))) for t in times),
        *clean,
    ][::step]


def leading(betas, n):
    schedule = DDPMSchedule(betas)
    return [*schedule.levels(n, "leading")[:-1], Level(-1.0, 1.0, 0.0)]


def own_alpha(betas, n):
    return [(t, (1 - float(betas[int(t)])) ** 0.5 if t >= 0 else 1.0, s) for t, _, s in levels(betas, n)]


def my_ddpm(denoise, x, levels, generator, *, std=posterior_std, last=False, draw=True, keep=False):
    for level, next_level in pairwise(levels):
        pred = denoise(x, level)
        right = posterior_std(level, next_level)
        mean = next_level.alpha * pred.x_0 + (next_level.sigma**2 - (not keep) * right**2) ** 0.5 * pred.eps
        z = torch.randn(x.shape, generator=generator) if draw and (last or next_level.sigma > 0) else 0.0
        x = mean + std(level, next_level) * z
    return x


def forward_std(level, next_level):
    return (1 - (level.alpha / next_level.alpha) ** 2) ** 0.5


def textbook(denoise, x, levels, generator):
    for level, next_level in pairwise(levels):
        mean, std = posterior(denoise(x, level).x_0, x, level, next_level)
        x = mean if next_level.sigma == 0 else mean + std * torch.randn(x.shape, generator=generator)
    return x


def my_ddim(denoise, x, levels, eta, generator, *, std=posterior_std, keep=False, only=None, power=1):
    eta_of_z = eta if only is None else only
    for level, next_level in pairwise(levels):
        pred, s = denoise(x, level), eta * posterior_std(level, next_level)
        x = next_level.alpha * pred.x_0 + (next_level.sigma**2 - (not keep) * s**2) ** 0.5 * pred.eps
        if next_level.sigma > 0 and eta_of_z > 0:
            x = x + (eta_of_z * std(level, next_level)) ** power * torch.randn(x.shape, generator=generator)
    return x


def my_heun(denoise, x, levels, *, mix=lambda a, b: (a + b) / 2, old_level=False, old_place=False, in_x=False):
    for level, next_level in pairwise(levels):
        s, next_s = level.sigma / level.alpha, next_level.sigma / next_level.alpha
        y = x / level.alpha
        slope = denoise(x, level).eps
        trial = y + (next_s - s) * slope
        if next_level.sigma > 0:
            at = level if old_level else next_level
            slope = mix(slope, denoise(x if old_place else (1 if in_x else next_level.alpha) * trial, at).eps)
        x = next_level.alpha * (y + (next_s - s) * slope)
    return x


def wasteful(denoise, x, levels):
    denoise(x, levels[0])
    return my_heun(denoise, x, levels)


def my_2m(denoise, x, levels, *, share=lambda r: 1 / (2 * r), half=0.5, often=1):
    before = h_before = None
    for level, next_level in pairwise(levels):
        for _ in range(often):
            x_0 = denoise(x, level).x_0
        D, shrink, h = x_0, 0.0, None
        if next_level.sigma > 0:
            h = half * (next_level.log_snr - level.log_snr)
            shrink = float(torch.tensor(-h).exp())
            if before is not None:
                D = x_0 + share(h_before / h) * (x_0 - before)
        x = next_level.sigma / level.sigma * x + next_level.alpha * (1 - shrink) * D
        before, h_before = x_0, h
    return x


RIGHT = {
    "31.1": [levels, lambda betas, n: DDPMSchedule(betas).levels(n)],
    "31.2": [my_ddpm, textbook, lambda d, x, levels, g: final(ddpm(d, x, levels, generator=g))],
    "31.3": [my_ddim, lambda d, x, levels, eta, g: final(ddim(d, x, levels, eta=eta, generator=g))],
    "31.4": [my_heun, lambda d, x, levels: final(heun(d, x, levels))],
    "31.5": [my_2m, lambda d, x, levels: final(dpm_solver_pp_2m(d, x, levels))],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "31.1": [
        (lambda betas, n: levels(betas, n, clean=()), "clean level is missing"),
        (lambda betas, n: levels(betas, n, step=-1), "the levels rise"),
        (lambda betas, n: levels(betas, n, offset=0), "t is one too large"),
        (leading, "trailing timesteps begin at T - 1"),
        (lambda betas, n: levels(betas, n, alpha=lambda a: a), "its square root"),
        (own_alpha, "α_t is of one step here"),
        (lambda betas, n: levels(betas, n, sigma=lambda a: 1 - a**0.5), "holds on the straight path"),
        (lambda betas, n: levels(betas, n, sigma=lambda a: 1 - a), "this is the variance"),
        (lambda betas, n: levels(betas, n + 1), "and then the clean one"),
        (lambda betas, n: 1.0, "a list of (t, alpha, sigma)"),
        (lambda betas, n: levels(betas.mul_(0.5), n), "in place"),
        (lambda betas: betas, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "31.2": [
        (lambda *a: my_ddpm(*a, std=lambda b, c: forward_std(b, c) if c.sigma == 0 else posterior_std(b, c), last=True),
         "at σ = 0 nothing is drawn"),
        (lambda *a: my_ddpm(*a, draw=False), "the noise z is missing"),
        (lambda *a: my_ddpm(*a, std=forward_std), "that of a step forward"),
        (lambda *a: my_ddpm(*a, std=lambda b, c: posterior_std(b, c) ** 2), "take its standard deviation"),
        (lambda *a: my_ddpm(*a, keep=True), "too much noise"),
        (lambda d, x, levels, g: final(ddim(d, x, levels)), "this is DDIM"),
        (lambda d, x, levels, g: my_ddpm(d, x, levels, torch.Generator().manual_seed(99)), "drawn once per step"),
        (lambda d, x, levels, g: my_ddpm(d, x.mul_(1.0).add_(1), levels, g), "in place"),
        (lambda d, x, levels, g: my_ddpm(d, x, levels, g)[0], "shape"),
        (lambda d, x: x, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
    "31.3": [
        (lambda *a: my_ddim(*a, keep=True), "keeps its whole σ"),
        (lambda d, x, levels, eta, g: my_ddim(d, x, levels, 1.0, g), "this is the result of η = 1"),
        (lambda d, x, levels, eta, g: my_ddim(d, x, levels, 0.0, g), "this is the result of η = 0"),
        (lambda d, x, levels, eta, g: my_ddim(d, x, levels, eta, g, only=float(eta > 0)), "η is missing"),
        (lambda *a: my_ddim(*a, std=forward_std), "that of a step forward"),
        (lambda *a: my_ddim(*a, power=2), "not its variance"),
        (lambda d, x, levels, eta, g: my_ddim(d, x, levels, eta, torch.Generator().manual_seed(9)), "this is not α_s"),
        (lambda d, x, levels, eta, g: my_ddim(d, x.add_(1), levels, eta, g), "in place"),
        (lambda d, x, levels: x, "ended with TypeError"),
        (0, "the answer is a function"),
    ],
    "31.4": [
        (lambda d, x, levels: final(ddim(d, x, levels)), "this is Euler's method"),
        (lambda *a: my_heun(*a, old_level=True), "asked at the old level"),
        (lambda *a: my_heun(*a, old_place=True), "asked at the old x"),
        (lambda *a: my_heun(*a, mix=lambda a, b: b), "only the second slope"),
        (lambda *a: my_heun(*a, mix=lambda a, b: a + b), "take their mean"),
        (lambda *a: my_heun(*a, in_x=True), "this is not Heun's method"),
        (wasteful, "network evaluations"),
        (lambda d, x, levels: my_heun(d, x.add_(1), levels), "in place"),
        (lambda d, x: x, "ended with TypeError"),
        (0, "the answer is a function"),
    ],
    "31.5": [
        (lambda d, x, levels: final(ddim(d, x, levels)), "this is DDIM"),
        (lambda *a: my_2m(*a, share=lambda r: -1 / (2 * r)), "the sign of the correction"),
        (lambda *a: my_2m(*a, share=lambda r: r / 2), "r is upside down"),
        (lambda *a: my_2m(*a, share=lambda r: 1 / r), "the factor 1/2"),
        (lambda *a: my_2m(*a, share=lambda r: 0.5), "not equally long"),
        (lambda *a: my_2m(*a, half=1.0), "h is twice too large"),
        (lambda *a: my_2m(*a, often=2), "network evaluations"),
        (lambda d, x, levels: my_2m(d, 1.1 * x, levels), "this is not DPM-Solver++"),
        (lambda d, x, levels: my_2m(d, x.add_(1), levels), "in place"),
        (lambda d, x: x, "ended with TypeError"),
        (0, "the answer is a function"),
    ],
}  # fmt: skip
