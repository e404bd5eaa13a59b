"""The exercises of notebook 17, ControlNet."""

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.micro.control_pictures import dilated


@exercise("17.1", "The gradient of zeros", "my_gradient(h, g)", minutes=15)
def is_the_gradient(answer: object, given: Given) -> None:
    """dL/dw [out, in]: the sum over images and pixels of g h^T."""
    for B, into, out, size in ((2, 3, 4, 5), (1, 6, 2, 3), (3, 4, 4, 2)):
        h, g = given.randn(B, into, size, size), given.randn(B, out, size, size)
        expected = (g.transpose(0, 1).flatten(1) @ h.transpose(0, 1).flatten(1).T).contiguous()
        mistakes = [
            (torch.zeros_like(expected), "w is zero, and its gradient is not: it is the product of g and h"),
            (expected / B, "g is the gradient of the whole loss already: sum over the images, do not average"),
            (expected / (B * size * size), "sum over images and pixels, do not average"),
            (expected / (size * size), "sum over the pixels, do not average"),
            (g.sum((0, 2, 3))[:, None] * h.sum((0, 2, 3)), "multiply pixel by pixel, and then sum"),
            (-expected, "the sign is wrong: the gradient is asked for, not a step along it"),
        ]
        if into == out:
            mistakes.append((expected.T, "rows belong to the outputs, columns to the inputs"))
        hint = "this is not the sum over images and pixels of g h^T"
        given.returns(answer, h, g, expected=expected, hint=hint, mistakes=mistakes)


@exercise("17.2", "The steps of an interval", "my_steps(start, end, n)")
def are_the_steps(answer: object, given: Given) -> None:
    """The i with start <= i / n and (i + 1) / n <= end. Raises AssertionError, with a hint, for others."""
    for start, end, n in ((0.0, 1.0, 5), (0.0, 0.5, 8), (0.5, 1.0, 8), (0.3, 0.8, 10), (0.2, 0.45, 6), (0.4, 0.4, 7)):
        result = given.call(answer, start, end, n)
        assert isinstance(result, list | tuple | range), "the answer is a list of steps"
        steps = [given.whole(one, 0, n - 1) for one in result]
        right = [i for i in range(n) if start <= i / n and (i + 1) / n <= end]
        where = f"for the interval from {start:g} to {end:g} of {n} steps"
        if steps == right:
            continue
        assert steps != [i for i in range(n) if start <= i / n <= end], (
            "the whole step lies in the interval: its end (i + 1) / n too"
        )
        assert steps != [i for i in range(n) if start <= (i + 1) / n <= end], (
            "the whole step lies in the interval: its beginning i / n too"
        )
        assert sorted(steps) != right, "give the steps in their order"
        assert set(steps) != set(range(n)) - set(right), "these are the steps outside the interval"
        assert steps != [i + 1 for i in right], "steps are counted from 0"
        raise AssertionError(f"{where} the steps are others")


@exercise("17.3", "A sum of controls", "my_skips(skips, residuals, scales, active)")
def are_the_sums(answer: object, given: Given) -> None:
    """skip_i + sum of scale_k residual_ki over the active k. Raises AssertionError, with a hint, for others."""
    for active in ((True,), (True, True), (True, False, True), (False, False)):
        shapes, K = ((2, 3, 4, 4), (2, 5, 2, 2)), len(active)
        skips = [given.randn(*shape) for shape in shapes]
        residuals = [[given.randn(*shape) for shape in shapes] for _ in active]
        scales = (0.5 + given.rand(K)).tolist()
        result = given.call(answer, skips, residuals, scales, list(active))
        assert isinstance(result, list | tuple) and len(result) == len(skips), "the answer has one tensor per skip"
        for i, found in enumerate(result):
            assert isinstance(found, Tensor) and found.shape == skips[i].shape, "each sum has the shape of its skip"
        rows = [[residuals[k][i] for k in range(K)] for i in range(len(skips))]
        total = _sums(skips, rows, [scale * on for scale, on in zip(scales, active, strict=True)])
        if _same(result, total):
            continue
        mistakes = (
            (_sums(skips, rows, scales), "a control that does not act at this step adds nothing"),
            (_sums(skips, rows, [float(on) for on in active]), "each network has a scale of its own"),
            ([one - skip for one, skip in zip(total, skips, strict=True)],
             "the skip connection itself is missing: the residuals are added to it"),
            (_sums(skips, rows, [s * on / K for s, on in zip(scales, active, strict=True)]), "a sum, not a mean"),
            (_sums(skips, rows, [scales[0] * active[0], *[0.0] * (K - 1)]), "only the first network is added"),
        )  # fmt: skip
        for wrong, hint in mistakes:
            assert not _same(result, wrong), hint
        raise AssertionError("this is not skip_i plus the sum of scale_k times residual_ki over the active networks")


def _sums(skips: list[Tensor], rows: list[list[Tensor]], scales: list[float]) -> list[Tensor]:
    return [skip + sum(s * r for s, r in zip(scales, row, strict=True)) for skip, row in zip(skips, rows, strict=True)]


def _same(found: list[Tensor] | tuple[Tensor, ...], wanted: list[Tensor]) -> bool:
    return all(torch.allclose(a.detach().float(), b, atol=1e-4) for a, b in zip(found, wanted, strict=True))


@exercise("17.4", "F1 of edges", "my_f1(drawn, asked)", minutes=20)
def is_the_f1(answer: object, given: Given) -> None:
    """2 p r / (p + r), p and r the shares within one pixel, diagonals included, at the border too."""
    for size, share in ((24, 0.05), (16, 0.1), (9, 0.2)):
        drawn, asked = given.rand(size, size) < share, given.rand(size, size) < 1.5 * share
        asked |= drawn.roll((1, 1), (0, 1)) & (given.rand(size, size) < 0.7)
        drawn[0, 0] = asked[1, 1] = True  # joined by a diagonal only
        p, r = _share(drawn, asked, 1), _share(asked, drawn, 1)
        cross = _cross_share(drawn, asked), _cross_share(asked, drawn)
        exact = _share(drawn, asked, 0), _share(asked, drawn, 0)
        given.returns(
            answer,
            drawn,
            asked,
            expected=_f1(p, r),
            close=1e-5,
            hint="this is not 2 p r / (p + r), p and r the shares of drawn and of asked pixels with a partner nearby",
            mistakes=[
                (_f1(*exact), "a partner may be one pixel away"),
                (_f1(*cross), "neighbours along the diagonals count too"),
                (p, "this is the precision alone"),
                (r, "this is the recall alone"),
                ((p + r) / 2, "F1 is not the mean of both, but 2 p r / (p + r)"),
                (_f1(_share(drawn, asked, 2), _share(asked, drawn, 2)), "within one pixel, not two"),
                (p * r / (p + r), "the factor 2 is missing"),
            ],
        )


def _f1(p: float, r: float) -> float:
    return 2 * p * r / max(p + r, 1e-9)


def _share(of: Tensor, near: Tensor, radius: int) -> float:
    """The share of pixels bool [H, W] with a pixel of `near` [H, W] at most this many pixels away."""
    return float((of & dilated(near[None], radius)[0]).sum() / of.sum())


def _cross_share(of: Tensor, near: Tensor) -> float:
    """The same, along rows and columns only."""
    wide = near.clone()
    wide[1:] |= near[:-1]
    wide[:-1] |= near[1:]
    wide[:, 1:] |= near[:, :-1]
    wide[:, :-1] |= near[:, 1:]
    return float((of & wide).sum() / of.sum())
