"""Answers to the exercises of notebook 08."""

import math

import numpy as np
import torch


def distance(a, b):
    return (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2


def limit(n_1, d_1, n_2, d_2):
    return (n_1 * d_1 - n_2 * d_2) / (n_1 - n_2)


def copied(distances, real_distances):
    return (distances < real_distances.min()).double().mean()


def in_place(distances, real_distances):
    return (distances.sub_(real_distances.min()) < 0).double().mean()


RIGHT = {
    "08.1": [
        distance,
        lambda a, b: float(distance(a, b)),
        lambda a, b: (np.mean(a.numpy()) - np.mean(b.numpy())) ** 2 + (np.std(a.numpy()) - np.std(b.numpy())) ** 2,
    ],
    "08.2": [limit, lambda n_1, d_1, n_2, d_2: d_1 - (d_1 - d_2) / (1 / n_1 - 1 / n_2) / n_1],
    "08.3": [
        copied,
        lambda distances, real: (distances[:, None] < real).all(1).float().mean(),
        lambda distances, real: sum(one < min(real.tolist()) for one in distances.tolist()) / len(distances),
    ],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "08.1": [
        (lambda a, b: 4.0, "means"),
        (lambda a, b: (a.mean() - b.mean()) ** 2, "the widths are not"),
        (lambda a, b: distance(a, b).sqrt(), "means"),
        (lambda a, b: (a.mean() - b.mean()).abs() + (a.std() - b.std()).abs(), "means"),
        (lambda a, b: (a.mean() - b.mean()) ** 2 + (a.var() - b.var()) ** 2, "the widths are not"),
        (lambda a, b: (a.mean() - b.mean()) ** 2 + (a.std() - b.std()).abs(), "the widths are not"),
        (lambda a, b: a.mean() ** 2 + a.std() ** 2, "means"),
        (lambda a, b: (a - b).square().mean(), "ended with RuntimeError"),
        (lambda a, b: torch.stack([a.mean() - b.mean(), a.std() - b.std()]) ** 2, "one number"),
        (5.0, "the answer is a function"),
    ],
    "08.2": [
        (lambda n_1, d_1, n_2, d_2: d_1, "the bias of n_1 samples"),
        (lambda n_1, d_1, n_2, d_2: min(d_1, d_2), "the smaller distance has a bias too"),
        (lambda n_1, d_1, n_2, d_2: (d_1 + d_2) / 2, "so is their mean"),
        (lambda n_1, d_1, n_2, d_2: (n_1 * d_1 + n_2 * d_2) / (n_1 + n_2), "so is any mean"),
        (lambda n_1, d_1, n_2, d_2: (n_1 * d_1 - n_2 * d_2) / (n_2 - n_1), "no bias"),
        (lambda n_1, d_1, n_2, d_2: 5.0, "no bias"),
        (lambda n_1, d_1, n_2, d_2: (n_1 * d_2 - n_2 * d_1) / (n_1 - n_2), "should become"),
        (lambda n_1, d_1, n_2, d_2: (1000 * d_1 - 4000 * d_2) / (1000 - 4000), "should become"),
        (lambda n_1, d_1, n_2, d_2: math.nan, "one number"),
    ],
    "08.3": [
        (lambda distances, real: (distances == 0).double().mean(), "the share is 0.1"),
        (lambda distances, real: 0.1, "the share is 0.45"),
        (lambda distances, real: (distances < real.median()).double().mean(), "the share is 0.1"),
        (lambda distances, real: (distances < real.mean()).double().mean(), "the share is 0.1"),
        (lambda distances, real: (distances < real.max()).double().mean(), "the share is 0.1"),
        (lambda distances, real: (distances < 2.0).double().mean(), "the share is 0.45"),
        (lambda distances, real: (distances < real.min()).sum(), "the share is 0.1"),
        (lambda distances, real: 100 * copied(distances, real), "the share is 0.1"),
        (lambda distances, real: 1 - copied(distances, real), "the share is 0.1"),
        (lambda distances, real: (distances < real).double().mean(), "ended with RuntimeError"),
        (lambda distances, real: distances < real.min(), "one number"),
        (in_place, "in place"),
    ],
}
