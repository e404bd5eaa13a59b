"""Answers to the exercises of notebook 03."""

import numpy as np
import torch


def drop(labels, probability, null, generator):
    dropped = torch.rand(len(labels), generator=generator) < probability
    return torch.where(dropped, null, labels)


def drop_by_bernoulli(labels, probability, null, generator):
    dropped = torch.full(labels.shape, float(probability)).bernoulli(generator=generator)
    return labels.masked_fill(dropped.bool(), null)


def drop_one_by_one(labels, probability, null, generator):
    kept = labels.clone()
    for i in range(len(labels)):
        if torch.rand(1, generator=generator) < probability:
            kept[i] = null
    return kept


def the_trap(labels, probability, null, generator):
    return torch.where(torch.rand(len(labels), generator=generator) < 1 - probability, null, labels)


def the_first(labels, probability, null, generator):
    position = torch.arange(len(labels))
    return torch.where(position < probability * len(labels), null, labels)


def every_kth(labels, probability, null, generator):
    position = torch.arange(1, len(labels) + 1)
    return torch.where((position * probability).floor() > ((position - 1) * probability).floor(), null, labels)


def always_10(labels, probability, null, generator):
    return drop(labels, probability, 10, generator)


def always_a_tenth(labels, probability, null, generator):
    return drop(labels, 0.1, null, generator)


def in_place(labels, probability, null, generator):
    labels[torch.rand(len(labels), generator=generator) < probability] = null
    return labels


def the_others_too(labels, probability, null, generator):
    return torch.where(torch.rand(len(labels), generator=generator) < probability, null, 0)


def a_seed_inside(labels, probability, null, generator):
    return drop(labels, probability, null, torch.Generator().manual_seed(0))


def without_the_generator(labels, probability, null, generator):
    return drop(labels, probability, null, None)


def a_fixed_number(labels, probability, null, generator):
    order = torch.randperm(len(labels), generator=generator)
    return torch.where(order < probability * len(labels), null, labels)


def all_or_nothing(labels, probability, null, generator):
    return torch.where(torch.rand(1, generator=generator) < probability, null, labels)


def only_the_kept(labels, probability, null, generator):
    return labels[torch.rand(len(labels), generator=generator) >= probability]


def as_floats(labels, probability, null, generator):
    return drop(labels, probability, null, generator).float()


RIGHT = {
    "03.1": [drop, drop_by_bernoulli, drop_one_by_one],
    "03.2": [
        lambda t: 1 / t**2,
        lambda t: ((1 - t) / t + 1) ** 2,
        lambda t: np.float64(t) ** -2,
        lambda t: torch.tensor(t) ** -2,
    ],
    "03.3": [1.0, 1, np.float32(0.98), torch.tensor(1.0)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "03.1": [
        (the_trap, "at probability 0.1, 90% are replaced: the trap"),
        (the_first, "position of a label"),
        (every_kth, "position of a label"),
        (always_10, "must not change"),
        (always_a_tenth, "at probability 0.4"),
        (in_place, "in place"),
        (the_others_too, "must not change"),
        (a_seed_inside, "position of a label"),
        (without_the_generator, "draw from the given generator"),
        (a_fixed_number, "one random number per label"),
        (all_or_nothing, "one random number per label"),
        (only_the_kept, "shape (25,)"),
        (as_floats, "whole numbers"),
        (lambda labels, probability, null, generator: labels, "0% are replaced"),
        (lambda labels: labels, "ended with TypeError"),
        (drop(torch.arange(9), 0.1, 10, None), "the answer is a function"),
    ],
    "03.2": [
        (lambda t: 1 / t, "insert α = 1 - t"),
        (lambda t: t**2, "insert α = 1 - t"),
        (lambda t: ((1 - t) / t) ** 2, "insert α = 1 - t"),  # of ε
        (lambda t: ((1 - t) / t) ** 2 + 1, "insert α = 1 - t"),  # of v
        (lambda t: (1 - t) ** -2, "insert α = 1 - t"),
        (lambda t: 4.0, "insert α = 1 - t"),
        (lambda t: (1 / t**2, t), "one number"),
        (lambda alpha, sigma: (alpha / sigma + 1) ** 2, "ended with TypeError"),
        (1.0, "the answer is a function"),
    ],
    "03.3": [
        (0, "the picture is not"),
        (0.0, "the picture is not"),
        (2.0, "not their sum"),
        (0.5, "mean of the data"),
        (1.4, "mean of the data"),
        ("1", "one number"),
        ((1.0, 1.0), "one number"),
    ],
}
