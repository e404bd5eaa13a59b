"""The exercises of notebook 19, Image prompts: show the model a picture."""

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise


@exercise("19.1", "Two attentions", "my_attention(q, k, v, k_image, v_image, s)", minutes=15)
def is_the_decoupled_attention(answer: object, given: Given) -> None:
    """softmax(q k^T / sqrt(d)) v + s softmax(q k'^T / sqrt(d)) v', [P, d]; Eq. 5 of Ye et al. 2023."""
    for P, L, M, d in ((6, 5, 3, 4), (7, 4, 6, 9)):
        q, k, v = given.randn(P, d), given.randn(L, d), given.randn(L, d)
        k_image, v_image, s = given.randn(M, d), given.randn(M, d), 0.3 + float(given.rand(1))
        words, picture = _attention(q, k, v), _attention(q, k_image, v_image)
        one = _attention(q, torch.cat([k, k_image]), torch.cat([v, v_image]))
        given.returns(
            answer, q, k, v, k_image, v_image, s,
            expected=words + s * picture,
            hint="this is not softmax(q k^T / sqrt(d)) v + s softmax(q k'^T / sqrt(d)) v', each over its own keys",
            mistakes=[
                (one, "this is one softmax over words and picture together: each has a softmax of its own"),
                (words, "the attention to the picture is missing"),
                (s * picture, "the attention to the words is missing"),
                (words + picture, "the scale s is missing"),
                ((1 - s) * words + s * picture, "the words keep all of their weight, whatever s is"),
                (s * words + picture, "the scale belongs to the picture, not to the words"),
                (_attention(q, k, v, 1.0) + s * _attention(q, k_image, v_image, 1.0),
                 "divide the products q k^T by sqrt(d)"),
                (_attention(q, k, v, d**-1.0) + s * _attention(q, k_image, v_image, d**-1.0),
                 "divide by the square root of d, not by d"),
            ],
        )  # fmt: skip


def _attention(q: Tensor, k: Tensor, v: Tensor, factor: float | None = None) -> Tensor:
    return (q @ k.T * (q.shape[1] ** -0.5 if factor is None else factor)).softmax(1) @ v


@exercise("19.2", "One softmax", "my_share(q, k, k_image)")
def is_the_share_of_the_words(answer: object, given: Given) -> None:
    """Z / (Z + Z') at each position, [P], with the sums of exp(q k^T / sqrt(d)) over words and over the picture."""
    for P, L, M, d in ((6, 5, 3, 4), (4, 3, 8, 9)):
        q, k, k_image = given.randn(P, d), given.randn(L, d), given.randn(M, d)
        both = (q @ torch.cat([k, k_image]).T / d**0.5).softmax(1)
        given.returns(
            answer, q, k, k_image,
            expected=both[:, :L].sum(1),
            hint="this is not the sum of the words' weights in one softmax over the words and the picture",
            mistakes=[
                (both[:, L:].sum(1), "this is the share of the picture: the words' is asked for"),
                (both[:, :L].mean(1), "add the words' weights, do not average them"),
                (torch.full((P,), L / (L + M), dtype=torch.float32, device="cpu"),
                 "the share depends on the products q k^T, not on the numbers of tokens alone"),
                ((q @ torch.cat([k, k_image]).T).softmax(1)[:, :L].sum(1), "divide the products q k^T by sqrt(d)"),
                (torch.ones(P, dtype=torch.float32, device="cpu"),
                 "alone the words' weights sum to 1: the picture's keys belong into the same softmax"),
            ],
        )  # fmt: skip


@exercise("19.3", "What it reads", "my_features(x, n)", minutes=25)
def are_the_features(answer: object, given: Given) -> None:
    """Means and deviations of the channels over a map [C, H, W] and over its n x n parts: [1 + n^2, 2C]."""
    for C, H, W, n in ((3, 8, 8, 2), (2, 6, 9, 3)):
        x = given.randn(C, H, W) + given.randn(C, 1, 1)
        right, swapped = _features(x, n), _features(x, n, rows_first=False)
        given.returns(
            answer, x, n,
            expected=right,
            hint="these are not the means, then the deviations, of the whole in row 0 and of the parts after it",
            mistakes=[
                (swapped, "the parts are in the order of columns: row by row is asked for"),
                (torch.cat([right[:, C:], right[:, :C]], dim=1), "the means come first, then the deviations"),
                (torch.cat([right[1:], right[:1]]), "the whole is the first row"),
                (torch.cat([right[:, :C], right[:, C:].square()], dim=1),
                 "these are variances: the deviation is their square root"),
                (_features(x, n, correction=1), "divide by the number of positions |P|, not by |P| - 1"),
            ],
        )  # fmt: skip


def _features(x: Tensor, n: int, *, rows_first: bool = True, correction: int = 0) -> Tensor:
    C, H, W = x.shape
    order = (1, 3, 0, 2, 4) if rows_first else (3, 1, 0, 2, 4)
    parts = x.reshape(C, n, H // n, n, W // n).permute(*order).reshape(n * n, C, -1)
    rows = [torch.cat([a.mean(2), a.std(2, correction=correction)], dim=1) for a in (x.reshape(1, C, -1), parts)]
    return torch.cat(rows)


@exercise("19.4", "The style of another", "my_adain(x, y)")
def is_adain(answer: object, given: Given) -> None:
    """sigma(y) (x - mu(x)) / sigma(x) + mu(y), channel by channel; Huang and Belongie 2017, Eq. 8. [C, H, W]."""
    for C, (H, W), (h, w) in ((3, (5, 4), (6, 7)), (2, (4, 4), (4, 4))):
        x = given.randn(C, H, W) * (1 + given.rand(C, 1, 1)) + given.randn(C, 1, 1)
        y = given.randn(C, h, w) * (2 + given.rand(C, 1, 1)) + 3 * given.randn(C, 1, 1)
        mean_x, deviation_x = x.mean((1, 2), keepdim=True), x.std((1, 2), correction=0, keepdim=True)
        mean_y, deviation_y = y.mean((1, 2), keepdim=True), y.std((1, 2), correction=0, keepdim=True)
        unit = (x - mean_x) / deviation_x
        given.returns(
            answer, x, y,
            expected=deviation_y * unit + mean_y,
            close=1e-3,
            hint="this is not sigma(y) (x - mu(x)) / sigma(x) + mu(y), mu and sigma of each channel over its positions",
            mistakes=[
                (unit, "this is normalised x: it has no deviation and mean of y yet"),
                (deviation_y * unit, "the mean of y is missing"),
                (unit + mean_y, "the deviation of y is missing"),
                (deviation_y.square() * unit + mean_y, "multiply by the deviation of y, not by its variance"),
                (y.std() * (x - x.mean()) / x.std() + y.mean(), "take mean and deviation of each channel by itself"),
                (x, "this is x itself"),
            ],
        )  # fmt: skip
