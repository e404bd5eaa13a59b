"""Answers to the exercises of notebook 05."""

import numpy as np
import torch

from diffusion_explained.predictions import to_x0_eps

kept = torch.randn(20, 2)


def in_place(x_t, v, t):
    x_t -= t * v
    return x_t


RIGHT = {
    "05.1": [lambda x_t, v, t: x_t - t * v, lambda x_t, v, t: to_x0_eps("flow", v, x_t, 1 - t, t)[0]],
    "05.2": [lambda u, x, t: -u(x, 1 - t), lambda u, x, t: -u(x, torch.tensor(1.0 - t))],
    "05.3": [3.0, 3, np.float64(3.0), torch.tensor(3)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "05.1": [
        (lambda x_t, v, t: x_t + t * v, "towards the noise"),
        (lambda x_t, v, t: x_t - (1 - t) * v, "not 1 - t"),
        (lambda x_t, v, t: x_t + (1 - t) * v, "this is ε"),  # ε
        (lambda x_t, v, t: x_t - v, "for a time 1"),
        (lambda x_t, v, t: x_t - 0.5 * v, "for a time 0.5"),
        (lambda x_t, v, t: (x_t - t * v) / (1 - t) if t < 1 else x_t - t * v, "go back along v"),
        (lambda x_t, v, t: x_t, "x_t itself"),
        (lambda x_t, v, t: kept, "go back along v"),
        (lambda x_t, v, t: (x_t - t * v).mean(0), "shape"),
        (in_place, "in place"),
        (lambda x_t, v: x_t - v, "ended with TypeError"),
        (kept, "the answer is a function"),
    ],
    "05.2": [
        (lambda u, x, t: u(x, 1 - t), "check the sign"),
        (lambda u, x, t: -u(x, t), "at which time"),
        (lambda u, x, t: u(x, t), "at which time"),
        (lambda u, x, t: -u(x, 0.5), "at which time"),
        (lambda u, x, t: -u(-x, 1 - t), "at which time"),
        (lambda u, x, t: kept, "at which time"),
        (lambda u, x, t: -u(x, t - 1), "u is called at the time -0.8"),
        (lambda u, x, t: -u(x, 1 - t)[0], "shape"),
        (lambda u, x, t: -u(x.mul_(1), 1 - t).add_(x.add_(1) * 0), "in place"),
        (lambda x, t: x, "ended with TypeError"),
        (kept, "the answer is a function"),
    ],
    "05.3": [
        (1 / 3, "σ/α is 0.33"),
        (3**0.5, "σ/α is 1.73"),
        (9, "σ/α is 9.00"),
        (1.0, "σ/α is 1.00"),
        (0.75, "σ/α is 0.75"),  # the time where σ/α = 3
        (-3, "positive factor"),
        ("3", "one number"),
    ],
}
