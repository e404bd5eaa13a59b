"""Answers to the exercises of notebook 07."""

import numpy as np
import torch
import torch.nn.functional as F

from diffusion_explained import load_pretrained
from diffusion_explained.comparisons import rms_distance
from diffusion_explained.forward import add_noise
from diffusion_explained.inside import cut, skip_connections


def predicted_x_0(model, pictures, labels, noise, time, skips):
    level = model.schedule.level(time)
    with cut(model.network, skips):
        return model.denoiser(labels, guidance_scale=1)(add_noise(pictures, noise, level), level).x_0


def error(model, x_0, labels, eps, time, skips):
    return rms_distance(predicted_x_0(model, x_0, labels, eps, time, skips), x_0)


def factors(model, x_0, labels, eps, time):
    uncut = error(model, x_0, labels, eps, time, [])
    return [error(model, x_0, labels, eps, time, [skip]) / uncut for skip in skip_connections(model.network)]


def errors(*given):
    return [error(*given, [skip]) for skip in skip_connections(given[0].network)]


def growing_cuts(*given):
    skips = skip_connections(given[0].network)
    return [error(*given, skips[: k + 1]) / error(*given, []) for k in range(len(skips))]


def tokens(x, p):
    B, C, H, W = x.shape
    cut_up = x.reshape(B, C, H // p, p, W // p, p)
    return cut_up.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // p) * (W // p), C * p * p)


def arranged(*order):
    """The tokens with the six axes [B, C, row, y, column, x] in another order."""

    def wrong(x, p):
        B, C, H, W = x.shape
        cut_up = x.reshape(B, C, H // p, p, W // p, p)
        return cut_up.permute(*order).reshape(B, (H // p) * (W // p), C * p * p)

    return wrong


def zeroed(x, p):
    found = tokens(x, p)
    x.zero_()
    return found


RIGHT = {
    "07.1": [4, 4.0, np.int64(4), torch.tensor(4)],
    "07.2": [factors, lambda *given: torch.tensor(factors(*given)), lambda *given: tuple(factors(*given))],
    "07.3": [tokens, lambda x, p: F.unfold(x, p, stride=p).transpose(1, 2)],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "07.1": [
        (2, "a larger patch"),
        (8, "so is one with a smaller patch"),
        (3, "divisor of 32"),
        (-4, "between 1 and 32"),
        (0.25, "whole number"),
        ("4", "one number"),
        ((4, 4), "one number"),
    ],
    "07.2": [
        ("encoder.0", "the answer is a function"),
        (lambda *given: "encoder.0", "the answer is 2 numbers"),
        (lambda *given: [9.2, 1.09, 1.04, 1.02], "the answer is 2 numbers"),
        (errors, "not the factor"),
        (growing_cuts, "not the factor of the skip from encoder.2"),
        (lambda *given: [one**2 for one in factors(*given)], "not the factor"),
        (lambda *given: factors(*given)[::-1], "not the factor"),
        (lambda *given: [one - 1 for one in factors(*given)], "not the factor"),
        (lambda model, x_0, labels, eps, time: factors(model, x_0, labels, eps, 0.1), "at t = 0.6"),
        (
            lambda model, x_0, labels, eps, time: factors(model, x_0, labels, eps.roll(1, 0), time),
            "not the factor",
        ),
        (lambda model, *given: factors(load_pretrained("cifar10_unet_flow"), *given), "ended with ValueError"),
        (lambda *given: max(factors(*given)), "the answer is 2 numbers"),
    ],
    "07.3": [
        (lambda x, p: x.reshape(len(x), -1, x.shape[1] * p * p), "the order is not"),
        (arranged(0, 4, 2, 1, 3, 5), "the order is not"),
        (arranged(0, 2, 4, 3, 5, 1), "the order is not"),
        (arranged(0, 2, 4, 1, 5, 3), "the order is not"),
        (lambda x, p: tokens(x, 2), "the result has the shape"),
        (lambda x, p: F.pixel_unshuffle(x, p).flatten(2), "the result has the shape"),
        (lambda x, p: F.pixel_unshuffle(x, p), "the result has the shape"),
        (zeroed, "in place"),
        (tokens(torch.randn(2, 3, 8, 8), 2), "the answer is a function"),
    ],
}
