"""The exercises of notebook 12, Scores, SDEs and likelihood."""

import math

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise


@exercise("12.1", "The SDE of a schedule", "my_g_squared(alpha, sigma, d_alpha, d_sigma)")
def is_the_diffusion(answer: object, given: Given) -> None:
    """g^2 for a variance-exploding, a straight and a random level."""
    exploding, (sigma, t) = given.rand(1).tolist()[0], given.rand(2).tolist()
    sigma, t = sigma + 0.5, 0.2 + t / 2
    hint = "where α does not change, g² is the growth of σ², which is 2 σ dσ/dt"
    given.returns(answer, 1.0, sigma, 0.0, exploding + 1, expected=2 * sigma * (exploding + 1), hint=hint)
    hint = (
        "where α falls, g² must also make up for the noise that shrinks with the data: subtract 2 f σ², f = dα/dt / α"
    )
    given.returns(answer, 1 - t, t, -1.0, 1.0, expected=2 * t / (1 - t), hint=hint)
    alpha, sigma, d_alpha, d_sigma = (given.rand(4) + 0.2).tolist()
    expected = 2 * sigma * d_sigma + 2 * d_alpha / alpha * sigma**2
    given.returns(answer, alpha, sigma, -d_alpha, d_sigma, expected=expected, hint=hint)


@exercise("12.2", "A step back", "my_step_back(x, score, f, g, dt, strength, z)")
def steps_back(answer: object, given: Given) -> None:
    """One Euler-Maruyama step backwards: the drift alone, the score without noise, noise of two strengths."""
    x, score, z = given.randn(3, 4, 2)
    f, g, dt = -0.5 - given.rand(1).item(), 0.5 + given.rand(1).item(), 0.01 + given.rand(1).item() / 10
    zero = torch.zeros_like(score)
    cases = (
        (zero, 0.0, "without score and noise, time runs backwards: x - f x dt"),
        (score, 0.0, "without noise the score has the factor g²/2, and backwards its sign is +"),
        (score, 1.0, "at strength 1 the score has the factor g², and the noise the standard deviation g √dt"),
        (score, 2.0, "the score's factor is (1 + λ²)/2 g², the noise's is λ g √dt"),
    )
    for of_case, strength, hint in cases:
        expected = x - f * x * dt + (1 + strength**2) / 2 * g**2 * of_case * dt + strength * g * math.sqrt(dt) * z
        given.returns(answer, x, of_case, f, g, dt, strength, z, expected=expected, hint=hint, close=1e-5)


@exercise("12.3", "Hutchinson's estimator", "my_divergence(function, x, probes)", minutes=20)
def estimates_the_divergence(answer: object, given: Given) -> None:
    """The mean of e^T J e for a linear map, whose Jacobian is known, and for a nonlinear one; one probe and several."""
    A = given.randn(3, 3)
    x, probes = given.randn(4, 3), given.randn(5, 4, 3).sign()

    def linear(x: Tensor) -> Tensor:
        return x @ A.T

    def bent(x: Tensor) -> Tensor:
        return (x @ A.T).tanh()

    def products(J: Tensor, probes: Tensor) -> Tensor:  # J [B, 3, 3]
        return torch.einsum("kbi,bij,kbj->kb", probes, J, probes).mean(0)

    J = A.expand(4, 3, 3)
    of_one = "for a linear function x -> A x and one probe, the estimate is e · (A e)"
    given.returns(answer, linear, x, probes[:1], expected=products(J, probes[:1]), hint=of_one)
    given.returns(answer, linear, x, probes, expected=products(J, probes), hint="take the mean over the probes")
    J = (1 - bent(x).square())[:, :, None] * A
    given.returns(answer, bent, x, probes, expected=products(J, probes), hint="the Jacobian is that at x")


@exercise("12.4", "Units", minutes=5)
def is_in_bits(answer: object, given: Given) -> None:
    """-2400 nats of 784 values in bins of width 1/256, in bits per dimension, within 0.01."""
    bits, per_value = given.number(answer), 2400 / 784
    assert abs(bits - (per_value + 8 * math.log(2))) > 0.01, "this is in nats: a bit is log 2 of them"
    assert abs(bits - per_value / math.log(2)) > 0.01, (
        "this is the density's part alone: each value's bin has the width 1/256, which is 8 bits"
    )
    assert abs(bits - (8 - per_value / math.log(2))) > 0.01, "the more probable an image, the fewer bits: mind the sign"
    assert abs(bits - (per_value / math.log(2) + 8)) < 0.01, (
        "divide -log p by the number of values, add -log of the bin's width, and divide by log 2"
    )
