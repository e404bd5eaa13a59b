"""Answers to the exercises of notebook 04."""

import numpy as np
import torch

from diffusion_explained.forward import add_noise, posterior
from diffusion_explained.samplers import dpm_solver_pp_2m
from diffusion_explained.schedules import DDPMSchedule

schedule = DDPMSchedule.linear()
zero = torch.zeros(1, 2)
fresh_std = posterior(zero, zero, schedule.level(600), schedule.level(300))[1]
share = (fresh_std / schedule.level(300).sigma) ** 2
share_of_one_step = (
    posterior(zero, zero, schedule.level(600), schedule.level(599))[1] / schedule.level(599).sigma
) ** 2


def by_add_noise(pred, next_level):
    return add_noise(pred.x_0, pred.eps, next_level)


def in_place(pred, next_level):
    pred.x_0.mul_(next_level.alpha)
    return pred.x_0 + next_level.sigma * pred.eps


RIGHT = {
    "04.1": [lambda pred, next_level: next_level.alpha * pred.x_0 + next_level.sigma * pred.eps, by_add_noise],
    "04.2": [share, 0.96, 0.955, np.float32(share), torch.tensor(share)],
    "04.3": [
        ("DPM-Solver++ 2M", 40),
        ("dpm_solver_pp_2m", 40),
        ["dpm-solver++ 2m", 40.0],
        (dpm_solver_pp_2m, np.int64(40)),
    ],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "04.1": [
        (lambda pred, next_level: pred.x_0, "the predicted picture"),
        (lambda pred, next_level: next_level.alpha * pred.x_0, "the noise is missing"),
        (lambda pred, next_level: next_level.sigma * pred.x_0 + next_level.alpha * pred.eps, "are exchanged"),
        (lambda pred, next_level: next_level.alpha * pred.x_0 - next_level.sigma * pred.eps, "added, not subtracted"),
        (lambda pred, next_level: next_level.alpha * pred.x_0 + next_level.sigma**2 * pred.eps, "not by the variance"),
        (lambda pred, next_level: next_level.alpha * pred.x_0 + next_level.sigma * pred.eps_cond, "before guidance"),
        (
            lambda pred, next_level: next_level.alpha * pred.x_0 + (1 - next_level.alpha**2) ** 0.5 * pred.eps,
            "one kind of path",
        ),
        (
            lambda pred, next_level: (1 - next_level.sigma) * pred.x_0 + next_level.sigma * pred.eps,
            "straight path only",
        ),
        (lambda pred, next_level: schedule.level(300).alpha * pred.x_0 + schedule.level(300).sigma * pred.eps, "x_s"),
        (lambda pred, next_level: (next_level.alpha * pred.x_0 + next_level.sigma * pred.eps)[0], "shape"),
        (in_place, "in place"),
        (lambda pred: pred.x_0, "ended with TypeError"),
        (zero, "the answer is a function"),
    ],
    "04.2": [
        (share**0.5, "square it"),
        (share_of_one_step, "from 600 to 599"),
        (1 - share, "already contained"),
        (fresh_std**2, "divide ς²"),
        (fresh_std, "divide ς²"),
        (0.9, "divide ς²"),
        (96, "between 0 and 1"),
        ((share, share_of_one_step), "one number"),
    ],
    "04.3": [
        (("Heun", 40), "takes 80 network evaluations"),
        (("DPM-Solver++ 2M", 41), "between 1 and 40"),
        (("Heun", 20), "another choice gets nearer"),
        (("DDIM", 40), "another choice gets nearer"),
        (("DPM-Solver++ 2M", 20), "another choice gets nearer"),
        (("Euler", 40), "is none of them"),
        ((40, "DDIM"), "name of a solver, not 40"),
        ("DPM-Solver++ 2M", "a pair (name, n)"),
        (40, "a pair (name, n)"),
        (("Heun", "20"), "one number"),
        (("Heun", 19.5), "whole number"),
    ],
}
