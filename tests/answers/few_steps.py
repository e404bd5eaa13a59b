"""Answers to the exercises of notebook 13."""

import torch

from diffusion_explained.training import few_steps


def my_chord(x_t, x_s, level, next_level):
    ratio = next_level.sigma / level.sigma
    x_0 = (x_s - ratio * x_t) / (next_level.alpha - ratio * level.alpha)
    return x_0, (x_t - level.alpha * x_0) / level.sigma


def along_the_straight_path(x_t, x_s, level, next_level):
    v = (x_t - x_s) / (level.t - next_level.t)
    return x_t - level.t * v, x_t + (1 - level.t) * v


def target(f, x_0, eps, t, s):
    return f((1 - s) * x_0 + s * eps, s)


def shortcut(u, x_t, t, s):
    m = (t + s) / 2
    first = u(x_t, t, m)
    return (first + u(x_t - (t - m) * first, m, s)) / 2


def meanflow(u, x_t, t, s, v):
    t = torch.tensor(t, dtype=x_t.dtype)
    _, slope = torch.func.jvp(lambda x, time: u(x, time, s), (x_t, t), (v, torch.ones_like(t)))
    return v - (t - s) * slope


def by_a_difference(u, x_t, t, s, v, h=1e-6):
    return v - (t - s) * (u(x_t + h * v, t + h, s) - u(x_t - h * v, t - h, s)) / (2 * h)


def with_slope(change):
    """MeanFlow's target with another combination of v, the step's length and both derivatives."""

    def answer(u, x_t, t, s, v, h=1e-6):
        by_x = (u(x_t + h * v, t, s) - u(x_t - h * v, t, s)) / (2 * h)
        by_t = (u(x_t, t + h, s) - u(x_t, t - h, s)) / (2 * h)
        return change(v, t - s, by_x, by_t)

    return answer


def in_place(u, x_t, t, s):
    return shortcut(u, x_t.mul_(1.1), t, s)


def by_the_places(u, x_t, t, s):
    """By the two places: (x_t - x_s) / (t - s)."""
    m = (t + s) / 2
    x_m = x_t - (t - m) * u(x_t, t, m)
    x_s = x_m - (m - s) * u(x_m, m, s)
    return (x_t - x_s) / (t - s)


RIGHT = {
    "13.1": [my_chord, few_steps.chord],
    "13.2": [target, lambda f, x_0, eps, t, s: f(x_0 + s * (eps - x_0), torch.tensor(s, dtype=torch.float64))],
    "13.3": [shortcut, by_the_places],
    "13.4": [meanflow, by_a_difference],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "13.1": [
        (along_the_straight_path, "does not pass through"),  # right on the straight path only
        (lambda x_t, x_s, level, next_level: my_chord(x_t, x_s, level, next_level)[::-1], "in this order"),
        (lambda x_t, x_s, level, next_level: (x_s, x_t), "does not pass through x_s"),
        (lambda x_t, x_s, level, next_level: (x_s, (x_t - level.alpha * x_s) / level.sigma), "pass through x_s"),
        (lambda x_t, x_s, level, next_level: my_chord(x_s, x_t, level, next_level), "does not pass through"),
        (lambda x_t, x_s, level, next_level: my_chord(x_t, x_s, next_level, level), "does not pass through"),
        (lambda x_t, x_s, level, next_level: my_chord(x_t, x_s, level, next_level)[0], "returns a pair"),
        (lambda x_t, x_s, level, next_level: (0.5, 0.5), "tensors of the shape"),
        (lambda x_t, x_s: x_t, "ended with TypeError"),
        (1.0, "the answer is a function"),
    ],
    "13.2": [
        (lambda f, x_0, eps, t, s: f((1 - t) * x_0 + t * eps, t), "the student's side"),
        (lambda f, x_0, eps, t, s: f((1 - s) * x_0 + s * eps, t), "not once at s"),
        (lambda f, x_0, eps, t, s: f((1 - t) * x_0 + t * eps, s), "the same x_0 and the same ε"),
        (lambda f, x_0, eps, t, s: f((1 - s) * x_0 + s * torch.randn_like(eps), s), "the same x_0 and the same ε"),
        (lambda f, x_0, eps, t, s: f(s * x_0 + (1 - s) * eps, s), "the same x_0 and the same ε"),
        (lambda f, x_0, eps, t, s: x_0, "not once at s"),
        (lambda f, x_0, eps, t, s: f(x_0, 0.0), "not once at s"),
        (lambda f, x_0, eps, t, s: target(f, x_0, eps.zero_(), t, s), "in place"),
        (lambda f, x_0: x_0, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "13.3": [
        (lambda u, x_t, t, s: u(x_t, t, s), "take two half steps"),
        (lambda u, x_t, t, s: (u(x_t, t, (t + s) / 2) + u(x_t, (t + s) / 2, s)) / 2, "where the first one ends"),
        (lambda u, x_t, t, s: 2 * shortcut(u, x_t, t, s), "take their mean"),
        (lambda u, x_t, t, s: -shortcut(u, x_t, t, s), "mean of two half steps"),
        (lambda u, x_t, t, s: u(x_t, t, (t + s) / 2), "mean of two half steps"),
        (lambda u, x_t, t, s: shortcut(u, x_t, t, 0.0), "mean of two half steps"),
        (lambda u, x_t, t, s: (u(x_t, t, s) + u(x_t - (t - s) / 2 * u(x_t, t, s), (t + s) / 2, s)) / 2, "mean of two"),
        (lambda u, x_t, t, s: shortcut(u, x_t, t, s)[0], "shape"),
        (in_place, "in place"),
        (lambda u, x_t: x_t, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "13.4": [
        (with_slope(lambda v, length, by_x, by_t: v - length * by_t), "x_t moves with v too"),
        (with_slope(lambda v, length, by_x, by_t: v - length * by_x), "t changes too"),
        (with_slope(lambda v, length, by_x, by_t: v + length * (by_x + by_t)), "the sign"),
        (with_slope(lambda v, length, by_x, by_t: v - (by_x + by_t)), "factor t - s"),
        (lambda u, x_t, t, s, v: v, "this is not v"),
        (lambda u, x_t, t, s, v: u(x_t, t, s), "this is not v"),
        (lambda u, x_t, t, s, v: meanflow(u, x_t, t, s, v)[0], "shape"),
        (lambda u, x_t, t, s, v: meanflow(u, x_t.mul_(2), t, s, v), "in place"),
        (lambda u, x_t: x_t, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
}
