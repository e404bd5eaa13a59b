"""The exercises of notebook 18, LoRA: teach the model your style."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise, near


@exercise("18.1", "How small it is", "my_count(shapes, rank)")
def counts_the_numbers(answer: object, given: Given) -> None:
    """The sum of r (out + in) over the layers [(out, in), ...]."""
    for shapes, rank in ((((96, 48),), 4), (((96, 64), (192, 96), (64, 64)), 4), (((10, 7), (3, 50)), 1)):
        expected = sum(rank * (out + into) for out, into in shapes)
        whole = sum(out * into for out, into in shapes)
        given.returns(
            answer,
            shapes,
            rank,
            expected=float(expected),
            close=1e-9,
            hint="this is not the number of entries of all A [r, in] and B [out, r]",
            mistakes=[
                (float(whole), "these are the entries of the weights W, which are not trained"),
                (
                    float(rank * whole),
                    "A and B are two thin matrices: their entries add up, r times in plus out times r",
                ),
                (float(expected / rank), "each of the two matrices has the rank r as its other side"),
                (float(rank * sum(out for out, _ in shapes)), "this counts B alone: A [r, in] is trained too"),
                (float(rank * sum(into for _, into in shapes)), "this counts A alone: B [out, r] is trained too"),
                (float(sum(rank * (out + into) for out, into in shapes[:1])), "count all layers, not the first one"),
            ],
        )


@exercise("18.2", "A layer with two changes", "my_layer(x, W, changes)", minutes=15)
def is_the_layer(answer: object, given: Given) -> None:
    """W x + sum of s (alpha / r) B A x over the changes (A, B, alpha, s), for rows x [N, in]."""
    for count in (1, 2, 3):
        N, into, out = 6, 9, 5
        x, W = given.randn(N, into), given.randn(out, into)
        changes = []
        for k in range(count):
            r = k + 2
            alpha, s = 1.0 + 3 * float(given.rand(1)), 0.5 + float(given.rand(1))
            changes.append((given.randn(r, into), given.randn(out, r), alpha, s))
        hint = f"with {count} change{'s' * (count > 1)} this is not W x plus the sum of s (alpha / r) B A x"
        mistakes = [
            (_layer(x, W, [(A, B, alpha * len(A), s) for A, B, alpha, s in changes]), "divide alpha by the rank r"),
            (_layer(x, W, [(A, B, len(A), s) for A, B, _, s in changes]), "alpha is missing"),
            (_layer(x, W, [(A, B, alpha, 1.0) for A, B, alpha, _ in changes]), "the scale s is missing"),
            (_layer(x, W, changes) - x @ W.T, "this is the change alone: the layer's own W x is missing"),
            (x @ W.T, "this is the layer without its changes"),
            (_layer(x, W, [(A, B, alpha, -s) for A, B, alpha, s in changes]), "the sign is wrong: the change is added"),
        ]
        if count > 1:
            mistakes.append((_layer(x, W, changes[:1]), "only the first change is added: their sum is asked for"))
            mistakes.append((_layer(x, W, changes[-1:]), "only the last change is added: their sum is asked for"))
        given.returns(answer, x, W, changes, expected=_layer(x, W, changes), hint=hint, mistakes=mistakes)


def _layer(x: Tensor, W: Tensor, changes: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    return x @ W.T + sum(s * alpha / len(A) * x @ A.T @ B.T for A, B, alpha, s in changes)


@exercise("18.3", "The first gradient", "my_gradients(x, g, A, B, factor)", minutes=20)
def are_the_gradients(answer: object, given: Given) -> None:
    """dL/dA [r, in] and dL/dB [out, r] of the change factor B A x, from the inputs x and the gradient g of the output.

    Raises AssertionError, with a hint, for others; B = 0 is among the cases.
    """
    for r, factor, closed in ((3, 1.0, True), (3, 0.5, False), (4, 2.0, False)):
        N, into, out = 7, 6, 5
        x, g, A = given.randn(N, into), given.randn(N, out), given.randn(r, into)
        B = given.randn(out, r) * (0.0 if closed else 1.0)
        result = given.call(answer, x, g, A, B, factor)
        assert isinstance(result, tuple | list) and len(result) == 2, "the answer is a pair: dL/dA and dL/dB"
        of_a, of_b = factor * B.T @ g.T @ x, factor * g.T @ (x @ A.T)
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else None for one in result]
        assert shapes != [(out, r), (r, into)], "the order is dL/dA, then dL/dB"
        assert shapes == [(r, into), (out, r)], "dL/dA has the shape of A [r, in], and dL/dB that of B [out, r]"
        if near(result[0], of_a) and near(result[1], of_b):
            continue
        assert not (near(result[0], of_a / N) and near(result[1], of_b / N)), (
            "g is the gradient of the whole loss already: sum over the rows, do not average"
        )
        assert factor == 1 or not (near(result[0], of_a / factor) and near(result[1], of_b / factor)), (
            "the factor alpha / r is missing"
        )
        assert near(result[1], of_b), "dL/dB is the gradient g times what B is applied to, A x, summed over the rows"
        raise AssertionError(
            "dL/dA passes through B, so it is zero while B is zero"
            if closed
            else "dL/dA is the gradient that passes back through B, times the input x, summed over the rows"
        )


@exercise("18.4", "The prior loss", "my_loss(errors, is_prior, weight)")
def is_the_prior_loss(answer: object, given: Given) -> None:
    """The mean of the errors of the own pictures, plus weight times that of the prior's; of unequal numbers too."""
    for own, prior, weight in ((4, 4, 1.0), (5, 3, 0.5), (2, 6, 2.0)):
        errors = 0.2 + given.rand(own + prior)
        order = given.rand(own + prior).argsort()
        is_prior = torch.arange(own + prior, dtype=torch.int64, device="cpu")[order] >= own
        mine, other = errors[~is_prior].mean(), errors[is_prior].mean()
        given.returns(
            answer,
            errors,
            is_prior,
            weight,
            expected=float(mine + weight * other),
            close=1e-5,
            hint="this is not the mean error of the own pictures plus weight times the mean error of the prior's",
            mistakes=[
                (float(mine), "the prior's pictures are missing"),
                (float(weight * mine + other), "the weight belongs to the prior's pictures"),
                (float(errors[~is_prior].sum() + weight * errors[is_prior].sum()), "take the means, not the sums"),
                (float((errors * torch.where(is_prior, weight, 1.0)).mean()),
                 "each group has a mean of its own: a single mean over all depends on how many there are"),
                (float(mine - weight * other), "both losses are made small: add them"),
            ] + ([(float(mine + other), "the weight is missing")] if weight != 1 else []),
        )  # fmt: skip
