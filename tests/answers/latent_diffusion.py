"""Answers to the exercises of notebook 10."""

import math

import torch
from torch.distributions import Normal, kl_divergence


def kl(mean, std):
    return 0.5 * (mean**2 + std**2 - 1 - 2 * std.log())


def log_snr(level, spread):
    return 2 * math.log(level.alpha * spread / level.sigma)


def in_place(mean, std):
    return 0.5 * (mean.square_().add_(std**2) - 1 - 2 * std.log())


RIGHT = {
    "10.1": [
        lambda raw: 1 / float(raw.std()),
        lambda raw: 1 / raw.std(unbiased=False),
        lambda raw: raw.numpy().var() ** -0.5,
    ],
    "10.2": [kl, lambda mean, std: kl_divergence(Normal(mean, std), Normal(0.0, 1.0))],
    "10.3": [
        log_snr,
        lambda level, spread: level.log_snr + 2 * math.log(spread),
        lambda level, spread: torch.tensor(level.snr * spread**2).log(),
    ],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "10.1": [
        (lambda raw: raw.std(), "the variance becomes"),
        (lambda raw: 1 / raw.var(), "the variance becomes"),
        (lambda raw: 1 / raw.square().mean().sqrt(), "taken around the mean"),
        (lambda raw: 1 / raw.abs().mean(), "the variance becomes"),
        (lambda raw: 1 / raw.std((0, 2, 3)).mean(), "the variance becomes"),
        (lambda raw: 1 / raw.std((0, 2, 3)), "one number"),
        (lambda raw: 1 / raw[:, 0].std(), "the variance becomes"),
        (lambda raw: 0.18215, "the variance becomes"),
        (lambda raw: -1 / raw.std(), "positive"),
        (lambda raw: raw.div_(raw.std()).std(), "in place"),
        (0.18215, "the answer is a function"),
    ],
    "10.2": [
        (lambda mean, std: kl(mean, std).sum(), "shape"),
        (lambda mean, std: 2 * kl(mean, std), "halved"),
        (lambda mean, std: -kl(mean, std), "halved"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1 - std.log()), "variance and its logarithm"),
        (lambda mean, std: 0.5 * (mean**2 + std - 1 - std.log()), "variance and its logarithm"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 2 * std.log()), "divergence 0"),
        (lambda mean, std: 0.5 * (std**2 - 1 - 2 * std.log()), "square of the mean"),
        (lambda mean, std: 0.5 * mean**2, "variance and its logarithm"),
        (lambda mean, std: kl_divergence(Normal(0.0, 1.0), Normal(mean, std)), "variance and its logarithm"),
        (lambda mean, std: 0.5 * mean.abs() + 0.5 * (std**2 - 1 - 2 * std.log()), "square of the mean"),
        (in_place, "in place"),
    ],
    "10.3": [
        (lambda level, spread: math.log(level.alpha * spread / level.sigma), "own log SNR"),
        (lambda level, spread: 2 * math.log10(level.alpha * spread / level.sigma), "own log SNR"),
        (lambda level, spread: -log_snr(level, spread), "own log SNR"),
        (lambda level, spread: 2 * math.log(level.alpha * spread), "own log SNR"),
        (lambda level, spread: (level.alpha * spread / level.sigma) ** 2, "own log SNR"),
        (lambda level, spread: level.log_snr, "5.49² times the power"),
        (lambda level, spread: log_snr(level, 1 / spread), "5.49² times the power"),
        (lambda level, spread: level.log_snr + math.log(spread), "5.49² times the power"),
        (lambda level, spread: log_snr(level, 1 / 0.18215 if spread > 1 else spread), "times the power"),
        (lambda level: level.log_snr, "ended with TypeError"),
    ],
}
