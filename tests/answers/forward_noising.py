"""Answers to the exercises of notebook 01."""

import math

import numpy as np
import torch

from diffusion_explained.forward import transition
from diffusion_explained.schedules import DDPMSchedule

linear = DDPMSchedule.linear()
jump = transition(linear.level(300), linear.level(600))
kept = torch.randn(3, 1, 4, 4)


def in_place(x_t, x_0, level):
    x_t -= level.alpha * x_0
    return x_t / level.sigma


RIGHT = {
    "01.1": [259, 259.0, np.int64(259), torch.tensor(259)],
    "01.2": [lambda x_t, x_0, level: (x_t - level.alpha * x_0) / level.sigma],
    "01.3": [jump, list(jump), torch.tensor(jump), np.array(jump)],
    "01.4": [linear.level(550).log_snr, -3, np.float32(-3.1)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "01.1": [
        (258, "larger t"),
        (260, "smaller t"),
        (-741, "between 1 and 999"),
        (259.5, "whole number"),
        ("259", "one number"),
        (math.nan, "one number"),
        ((259, 1), "one number"),
        (torch.tensor([259, 1]), "not a tensor of shape (2,)"),
        (torch.tensor(True), "one number"),
    ],
    "01.2": [
        (lambda x_t, x_0, level: kept, "not the noise"),
        (lambda x_t, x_0, level: x_t - x_0, "contains α x_0, not x_0"),
        (lambda x_t, x_0, level: (x_t - level.alpha * x_0) / level.sigma**2, "the noise over σ"),
        (lambda x_t, x_0, level: (x_t - linear.level(300).alpha * x_0) / linear.level(300).sigma, "not the noise"),
        (lambda x_t, x_0, level: ((x_t - level.alpha * x_0) / level.sigma)[0], "shape"),
        (lambda x_t, x_0: x_t, "my_eps(x_t, x_0, level) ended with TypeError"),
        (in_place, "in place"),
        (kept, "the answer is a function"),
        (lambda x_t, x_0, level: None, "returns a tensor, not None"),
    ],
    "01.3": [
        (jump[0], "2 numbers"),
        ((*jump, 0.0), "2 numbers"),
        ((jump[0] ** 2, jump[1]), "root of a quotient"),
        ((jump[0], jump[1] ** 2), "variances must add up"),
        ((jump[1], jump[0]), "root of a quotient"),
    ],
    "01.4": [(0.0, "lower"), (-9.0, "higher"), (550, "between about"), (float("inf"), "one number")],
}
