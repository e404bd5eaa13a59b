"""The exercises of lab 35, Euler-Maruyama and Hutchinson."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near, refuse
from diffusion_explained.noise import randn, stream

CLOSE = 1e-5


def _reverse(
    score: Callable[..., Tensor],
    beta: Callable[[float], float],
    x: Tensor,
    times: Sequence[float],
    seed: int,
    mistake: str = "",
) -> Tensor:
    """Euler-Maruyama on the reverse-time SDE of dx = -beta x / 2 dt + sqrt(beta) dw, or with one typical mistake."""
    generator = stream(seed)
    for k in range(len(times) - 1):
        t, h = times[k], times[k] - times[k + 1]
        at = beta(times[k + 1]) if mistake == "late" else beta(t)
        pull = -x / 2 if mistake == "sign" else 0 * x if mistake == "no drift" else x / 2
        push = (0.5 if mistake == "half" else -1.0 if mistake == "away" else 1.0) * score(x, t)
        x = x + at * h * (pull + push)
        noise = randn(x.shape, generator, x.device, x.dtype)
        spread = {"no noise": 0.0, "variance": at * h, "no step": at**0.5}.get(mistake, (at * h) ** 0.5)
        x = x + spread * noise
    return x


@exercise("35.1", "Euler-Maruyama", "my_reverse(score, beta, x, times, generator)", minutes=30, difficulty=2)
def is_euler_maruyama(answer: object, given: Given) -> None:
    """The last x of the reverse-time SDE, with the noise of one generator, at uneven times."""
    for count in (1, 3, 6):
        x, rate = to_float64(given.randn(20, 2)), 0.5 + float(given.rand(1))
        times = [1.0, *sorted((0.05 + 0.9 * given.rand(count - 1)).tolist(), reverse=True), 0.01]

        def score(x: Tensor, t: float, rate: float = rate) -> Tensor:
            return -rate * x / (0.2 + t) + torch.sin(x)

        def beta(t: float, rate: float = rate) -> float:
            return 0.1 + rate * t

        seed = 11 + count
        got = given.tensor(answer, score, beta, x, times, stream(seed), shape=(20, 2))
        if near(got, _reverse(score, beta, x, times, seed), CLOSE):
            continue
        for mistake, hint in (
            ("sign", "the drift has the sign of the way to noise: backwards, x grows by β x / 2"),
            ("half", "half of the score is the drift of the flow without noise: with noise take all of it"),
            ("away", "the score is subtracted: backwards the step goes towards more density"),
            ("no drift", "the term β x / 2 is missing"),
            ("no noise", "the noise is missing: (β h)^½ z in every step"),
            ("variance", "z is multiplied by β h: take the root"),
            ("no step", "z is multiplied by β^½: its variance is β h, and falls with the step"),
            ("late", "β is taken at the end of the step: take it where the step begins, as the score"),
        ):
            assert not near(got, _reverse(score, beta, x, times, seed, mistake), CLOSE), hint
        refuse(
            "this is not x + β h (x / 2 + score) + (β h)^½ z, with z = torch.randn(x.shape, generator=generator), "
            "drawn once per step"
        )


def _field(given: Given, dimensions: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A vector field of points [B, D], and its Jacobian [B, D, D]."""
    mix, wave = to_float64(given.randn(dimensions, dimensions)), to_float64(given.randn(dimensions))

    def f(x: Tensor) -> Tensor:
        return x @ mix.T + torch.sin(wave * x) * x.sum(1, keepdim=True)

    def jacobian(x: Tensor) -> Tensor:
        own = torch.diag_embed(wave * torch.cos(wave * x) * x.sum(1, keepdim=True))
        return mix + own + torch.sin(wave * x)[:, :, None].expand(-1, -1, dimensions)

    return f, jacobian


@exercise("35.2", "The divergence", "my_divergence(f, x)", minutes=20, difficulty=2)
def is_the_divergence(answer: object, given: Given) -> None:
    """The trace of the Jacobian for each point [B], in two to five dimensions."""
    for dimensions, count in ((2, 6), (5, 3), (3, 1)):
        f, jacobian = _field(given, dimensions)
        x = to_float64(given.randn(count, dimensions))
        J = jacobian(x)
        right = J.diagonal(dim1=1, dim2=2).sum(1)
        mistakes = (
            (J.sum((1, 2)), "this is the sum of all entries of the Jacobian: take those on its diagonal"),
            (right / dimensions, "this is the mean of the diagonal: take its sum"),
            (J[:, 0, 0], "this is the first entry of the diagonal: sum over all coordinates"),
            (-right, "the sign is wrong"),
        )
        hint = "this is not the sum of ∂f_i/∂x_i over i, for each point"
        given.returns(answer, f, x, expected=right, close=CLOSE, hint=hint, mistakes=mistakes)
        with torch.no_grad():  # as a solver of ODEs calls it
            again = given.tensor(answer, f, x, shape=(count,))
        assert near(again, right, CLOSE), "inside torch.no_grad() the result is another one: use torch.enable_grad()"


@exercise("35.3", "Hutchinson's estimator", "my_hutchinson(f, x, probes)", minutes=20, difficulty=2)
def is_hutchinsons_estimate(answer: object, given: Given) -> None:
    """The mean of v J v over the probes [K, B, D], for each point."""
    for probes_count, dimensions in ((1, 3), (4, 2), (3, 5)):
        f, jacobian = _field(given, dimensions)
        x, probes = to_float64(given.randn(4, dimensions)), to_float64(given.randn(probes_count, 4, dimensions))
        J = jacobian(x)
        each = torch.einsum("kbi,bij,kbj->kb", probes, J, probes)
        pushed = torch.einsum("kbi,bij->kbj", probes, J).sum(2).mean(0)
        mistakes = [
            (each.sum(0), "the probes are summed: take their mean"),
            (each[0], "only the first probe is used"),
            (pushed, "the product with J is summed: multiply it by the probe again, then sum"),
            (J.diagonal(dim1=1, dim2=2).sum(1), "this is the exact divergence: estimate it with the probes"),
            (each.mean(0) / dimensions, "the products are averaged over the coordinates: sum them"),
            (each.mean(1).mean().expand(4), "this is one number for the batch: each point has its own estimate"),
        ]
        right = each.mean(0)
        mistakes = [one for one in mistakes if not near(one[0], right, CLOSE)]
        hint = "this is not the mean of vᵀ J v over the probes, for each point"
        given.returns(answer, f, x, probes, expected=right, close=CLOSE, hint=hint, mistakes=mistakes)


def _log_likelihood(
    f: Callable[..., Tensor], divergence: Callable[..., Tensor], x: Tensor, times: Sequence[float], mistake: str = ""
) -> Tensor:
    """log p_0(x) by Heun's method, or with one typical mistake."""
    start, integral = x, x.new_zeros(len(x))
    for t, after in pairwise(times):
        h = after - t
        slope, rate = f(x, t), divergence(x, t)
        trial = x + h * slope
        if mistake != "Euler":
            if mistake != "one end":
                rate = (rate + divergence(trial, after)) / 2
            slope = (slope + f(trial, after)) / 2
        x, integral = x + h * slope, integral + h * rate
    end = start if mistake == "start" else x
    constant = 0.0 if mistake == "constant" else x.shape[1] / 2 * math.log(2 * math.pi)
    prior = -end.square().sum(1) / 2 - constant
    return prior - integral if mistake == "sign" else prior if mistake == "no integral" else prior + integral


@exercise("35.4", "The likelihood", "my_log_likelihood(f, divergence, x, times)", minutes=40, difficulty=3)
def is_the_log_likelihood(answer: object, given: Given) -> None:
    """log p_0 by Heun's method at uneven times, in two and three dimensions."""
    for dimensions, count in ((2, 4), (3, 1), (2, 7)):
        x, a = to_float64(given.randn(6, dimensions)), 0.3 + float(given.rand(1))
        times = [0.0, *sorted(given.rand(count - 1).tolist()), 1.0]

        def f(x: Tensor, t: float, a: float = a) -> Tensor:
            return (a - t) * x + torch.sin(a * x) * (1 - t)

        def divergence(x: Tensor, t: float, a: float = a) -> Tensor:
            return (a - t) * x.shape[1] + (a * torch.cos(a * x)).sum(1) * (1 - t)

        def by(mistake: str, x: Tensor = x, times: list[float] = times) -> Tensor:
            return _log_likelihood(f, divergence, x, times, mistake)

        mistakes = (
            (by("sign"), "the sign of the integral is wrong: where the flow expands, the data were denser"),
            (by("no integral"), "the integral of the divergence is missing"),
            (by("constant"), "the constant of the Gaussian is missing: D / 2 log 2π"),
            (by("start"), "the Gaussian is evaluated at the data: take the end of the path"),
            (by("Euler"), "this is Euler's method: average the slopes at both ends of the step, by Heun"),
            (
                by("one end"),
                "the divergence is taken at the beginning of the step only: average both ends, as the slopes",
            ),
        )
        hint = "this is not log N(x_1; 0, 1) + ∫ div f dt, both by Heun's method"
        given.returns(answer, f, divergence, x, times, expected=by(""), close=CLOSE, hint=hint, mistakes=mistakes)
