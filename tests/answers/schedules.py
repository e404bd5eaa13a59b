"""Answers to the exercises of notebook 02."""

import numpy as np
import torch

from diffusion_explained.schedules import DDPMSchedule, FlowSchedule

linear = DDPMSchedule.linear()
level = linear.level(700)
flow_t = level.sigma / (level.alpha + level.sigma)
alpha_bar = linear.terminal_snr / (1 + linear.terminal_snr)
beta = 1 - alpha_bar ** (1 / 100)


def equal(beta, steps=100):
    return DDPMSchedule(torch.full((steps,), beta))


RIGHT = {
    "02.1": [flow_t, 0.923, np.float32(flow_t), torch.tensor([flow_t])],
    "02.2": [
        equal(beta),
        equal(0.0962),
        DDPMSchedule(torch.full((100,), beta, dtype=torch.float64)),
        DDPMSchedule(np.full(100, beta)),
    ],
    "02.3": [2.0, 2, np.int64(2), 4**0.5, torch.tensor(2.0)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "02.1": [
        (0.7, "less noise"),
        (1 - flow_t, "less noise"),
        (level.sigma, "more noise"),
        (level.alpha, "less noise"),
        (level.sigma / level.alpha, "from 0 (data) to 1 (noise)"),
        (700, "from 0 (data) to 1 (noise)"),
        (level.log_snr, "from 0 (data) to 1 (noise)"),
        (level, "one number"),
    ],
    "02.2": [
        (beta, "DDPMSchedule(betas)"),
        (torch.full((100,), beta), "DDPMSchedule(betas)"),
        (FlowSchedule(), "DDPMSchedule(betas)"),
        (linear, "100 steps, not 1000"),
        (equal(1 - alpha_bar ** (1 / 1000), 1000), "100 steps, not 1000"),
        (DDPMSchedule(10 * linear.betas[::10]), "all β are the same"),
        (equal(float(linear.betas.mean())), "a larger β"),
        (equal(0.02), "a larger β"),
        (equal(1 - alpha_bar ** (1 / 200)), "a larger β"),  # α instead of α²
        (equal(1 - alpha_bar ** (1 / 99)), "a smaller β"),
    ],
    "02.3": [
        (4, "-2.773 instead of -1.386"),
        (0.5, "+1.386 instead of -1.386"),
        (2**0.5, "-0.693 instead"),
        (np.log(4), "-0.653 instead"),
        (1.0, "instead of -1.386"),
        (-np.log(4), "positive factor"),
        (0, "positive factor"),
        (FlowSchedule(2.0), "one number"),
    ],
}
