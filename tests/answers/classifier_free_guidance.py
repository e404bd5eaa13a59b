"""Answers to the exercises of notebook 06."""

import numpy as np
import torch

from diffusion_explained.guidance import guide


def compose(uncond, conds, weights):
    return uncond + sum(weight * (cond - uncond) for cond, weight in zip(conds, weights, strict=True))


def compose_collected(uncond, conds, weights):
    weights = torch.tensor(weights).reshape(-1, *[1] * uncond.ndim)
    return (1 - weights.sum()) * uncond + (weights * torch.stack(conds)).sum(0)


def one_after_the_other(uncond, conds, weights):
    for cond, weight in zip(conds, weights, strict=True):
        uncond = guide(cond, uncond, abs(weight)) if weight >= 0 else guide(uncond, cond, abs(weight))
    return uncond


def in_place(uncond, conds, weights):
    for cond, weight in zip(conds, weights, strict=True):
        cond -= uncond
        cond *= weight
    return uncond + sum(conds)


def emptied(uncond, conds, weights):
    result = uncond.clone()
    pairs = list(zip(conds, weights, strict=True))
    weights.clear()
    for cond, weight in pairs:
        result += weight * (cond - uncond)
    return result


def two_at_most(uncond, conds, weights):
    return compose(uncond, conds[:2], weights[:2])


def without_negative_weights(uncond, conds, weights):
    return compose(uncond, conds, [max(0.0, weight) for weight in weights])


RIGHT = {
    "06.1": [2.5, np.float32(2.5), torch.tensor([2.5])],
    "06.2": [compose, compose_collected],
    "06.3": [5.0, 5, 4.5, np.float64(5.25)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "06.1": [
        (1.5, "weaker"),
        (0.5, "weaker"),
        (3.5, "stronger"),
        (-1.5, "weaker"),
        ((2.5, 1.5), "one number"),
        ("2.5", "one number"),
    ],
    "06.2": [
        (lambda uncond, conds, weights: compose(uncond, conds, weights) - uncond, "plain guidance"),
        (lambda uncond, conds, weights: sum(w * c for c, w in zip(conds, weights, strict=True)), "plain guidance"),
        (lambda uncond, conds, weights: compose(uncond, conds, [1.0] * len(conds)), "plain guidance"),
        (lambda uncond, conds, weights: guide(uncond, conds[0], weights[0]), "plain guidance"),  # swapped
        (lambda uncond, conds, weights: (1 + weights[0]) * conds[0] - weights[0] * uncond, "plain guidance"),  # w'
        (lambda uncond, conds, weights: sum(map(guide, conds, [uncond] * len(conds), weights)), "with two conditions"),
        (lambda uncond, conds, weights: guide(sum(conds) / len(conds), uncond, weights[0]), "with two conditions"),
        (lambda uncond, conds, weights: compose(uncond, conds, [weights[0]] * len(conds)), "with two conditions"),
        (one_after_the_other, "with two conditions"),
        (without_negative_weights, "moves away"),
        (two_at_most, "with three conditions"),
        (in_place, "in place"),
        (emptied, "in place"),
        (lambda uncond, conds, weights: compose(uncond, conds, weights)[0], "shape"),
        (lambda uncond, cond_a, cond_b, w: uncond, "ended with TypeError"),
        (2.0, "the answer is a function"),
    ],
    "06.3": [
        (4.0, "a larger one"),
        (1.0, "a larger one"),
        (0, "a larger one"),
        (5.9, "a smaller scale"),
        (8.0, "a smaller scale"),
        (-1, "between 0 and 100"),
        (250, "between 0 and 100"),
        (float("nan"), "one number"),
    ],
}
