"""Answers to the exercises of notebook 15."""

import math

import torch
import torch.nn.functional as F

from diffusion_explained.discrete import Chain, Level


def noise(x_0, u, keep, mask):
    return torch.where(u < keep, x_0, mask)


def noise_by_product(x_0, u, keep, mask):
    kept = (u < keep).long()
    return x_0 * kept + mask * (1 - kept)


def noise_in_place(x_0, u, keep, mask):
    x_0[u >= keep] = mask
    return x_0


def reveal(keep_t, keep_s):
    return (keep_s - keep_t) / (1 - keep_t)


def reveal_by_the_chain(keep_t, keep_s):
    """From the posterior of a chain of two kinds at a mask."""
    chain, masked = Chain(2), torch.tensor([[2]])
    levels = (Level(1 - keep_t, keep_t), Level(1 - keep_s, keep_s))
    p = chain.posterior(masked, torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), *levels)
    return p[0, 0, 0]


def losses(log_p, x_0):
    return -log_p.gather(-1, x_0[..., None])[..., 0]


def bits(log_p, x_0, x_t, t, mask):
    return (losses(log_p, x_0) * (x_t == mask)).sum(1) / t / x_0.shape[1] / math.log(2)


def bits_by_loop(log_p, x_0, x_t, t, mask):
    rows = []
    for b in range(len(x_0)):
        hidden = (x_t[b] == mask).nonzero().flatten()
        rows.append(-(log_p[b, hidden, x_0[b, hidden]] / math.log(2)).sum() / (t[b] * x_0.shape[1]))
    return torch.stack(rows)


def masked_mean(log_p, x_0, x_t, t, mask):
    hidden = x_t == mask
    return (losses(log_p, x_0) * hidden).sum(1) / t / hidden.sum(1) / math.log(2)


def prediction(prior, x_t, keep):
    likely = torch.full_like(prior, (1 - keep) / len(prior))
    likely[x_t] += keep
    return prior * likely / (prior * likely).sum()


def prediction_by_the_chain(prior, x_t, keep):
    chain = Chain(len(prior), masked=False)
    return chain.informed(prior.log()[None, None], torch.tensor([[x_t]]), torch.tensor([float(keep)]))[0, 0]


def here(prior, x_t):
    return F.one_hot(torch.tensor(x_t), len(prior)).to(prior)


RIGHT = {
    "15.1": [noise, noise_by_product],
    "15.2": [reveal, reveal_by_the_chain],
    "15.3": [bits, bits_by_loop],
    "15.4": [prediction, prediction_by_the_chain],
}
WRONG = {
    "15.1": [
        (lambda x_0, u, keep, mask: torch.where(u < keep, mask, x_0), "keep is the share that stays"),
        (lambda x_0, u, keep, mask: torch.where(u[:1] < keep, x_0, mask), "numbers u of its own"),
        (lambda x_0, u, keep, mask: torch.where(u < keep, x_0, 36), "not always 36"),
        (lambda x_0, u, keep, mask: noise(x_0, u, keep, mask).float(), "whole numbers"),
        (lambda x_0, u, keep, mask: torch.where(u < 0.5, x_0, mask), "kept where u is below keep"),
        (lambda x_0, u, keep, mask: x_0, "kept where u is below keep"),
        (lambda x_0, u, keep, mask: noise(x_0, u, keep, mask)[0], "shape"),
        (noise_in_place, "in place"),
        (lambda x_0: x_0, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "15.2": [
        (lambda t, s: s - t, "divide by the probability of that"),
        (lambda t, s: (1 - s) / (1 - t), "stays masked"),
        (lambda t, s: (s - t) / s, "not by the share that is known"),
        (lambda t, s: t / s, "the forward chain"),
        (lambda t, s: (t - s) / (1 - t), "the sign is wrong"),
        (lambda t, s: 0.375, "not the share of masked positions"),
        (lambda t: t, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "15.3": [
        (lambda *ones: bits(*ones) * math.log(2), "these are nats"),
        (lambda log_p, x_0, x_t, t, mask: bits(log_p, x_0, x_t, torch.ones_like(t), mask), "1 / t is missing"),
        (lambda log_p, x_0, x_t, t, mask: bits(log_p, x_0, torch.full_like(x_t, mask), t, mask), "only masked"),
        (lambda log_p, x_0, x_t, t, mask: bits(log_p, x_0, torch.where(x_t == mask, 0, mask), t, mask), "are seen"),
        (lambda *ones: 40 * bits(*ones), "per letter"),
        (lambda *ones: -bits(*ones), "the sign is wrong"),
        (masked_mean, "not by the masked ones"),
        (lambda log_p, x_0, x_t, t, mask: bits(log_p, x_0, x_t, 1 - t, mask), "not 1 / (1 - t)"),
        (lambda *ones: bits(*ones).mean().expand(5), "not their mean"),
        (lambda log_p, x_0, x_t, t, mask: bits(log_p, x_0, x_t, t, 6), "this is not the sum of -log2"),
        (lambda *ones: bits(*ones).mean(), "shape"),
        (lambda log_p: log_p, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "15.4": [
        (lambda prior, x_t, keep: prior * (keep * here(prior, x_t) + (1 - keep) / len(prior)), "the sum 1"),
        (lambda prior, x_t, keep: prior, "x_t says something"),
        (lambda prior, x_t, keep: here(prior, x_t), "it is not certain"),
        (lambda prior, x_t, keep: keep * here(prior, x_t) + (1 - keep) / len(prior), "leaves the prior out"),
        (lambda prior, x_t, keep: keep * here(prior, x_t) + (1 - keep) * prior, "Bayes' rule multiplies"),
        (lambda prior, x_t, keep: prediction(prior, x_t, keep / (keep + (1 - keep) * len(prior))), "1 / K"),
        (lambda prior, x_t, keep: prediction(prior, x_t, 1 - keep), "not the lost one"),
        (lambda prior, x_t, keep: prior.flip(0), "divided by its sum"),
        (lambda prior, x_t, keep: prediction(prior, x_t, keep)[:2], "shape"),
        (lambda prior: prior, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
}
