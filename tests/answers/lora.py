"""Answers to the exercises of notebook 18."""

import torch
import torch.nn.functional as F

kept = 1000


def count(shapes, rank):
    return sum(rank * (out + into) for out, into in shapes)


def count_by_matrices(shapes, rank):
    return sum(torch.zeros(rank, into).numel() + torch.zeros(out, rank).numel() for out, into in shapes)


def layer(x, W, changes):
    h = x @ W.T
    for A, B, alpha, s in changes:
        h = h + s * alpha / len(A) * (x @ A.T) @ B.T
    return h


def merged(x, W, changes):
    return F.linear(x, W + sum(s * alpha / len(A) * B @ A for A, B, alpha, s in changes))


def merged_in_place(x, W, changes):
    for A, B, alpha, s in changes:
        W += s * alpha / len(A) * B @ A
    return x @ W.T


def gradients(x, g, A, B, factor):
    return factor * (g @ B).T @ x, factor * g.T @ (x @ A.T)


def gradients_by_autograd(x, g, A, B, factor):
    A, B = A.clone().requires_grad_(), B.clone().requires_grad_()
    return torch.autograd.grad((factor * x @ A.T @ B.T * g).sum(), (A, B))


def loss(errors, is_prior, weight):
    return errors[~is_prior].mean() + weight * errors[is_prior].mean()


def loss_by_loop(errors, is_prior, weight):
    groups = {False: [], True: []}
    for error, prior in zip(errors.tolist(), is_prior.tolist(), strict=True):
        groups[prior].append(error)
    return sum(groups[False]) / len(groups[False]) + weight * sum(groups[True]) / len(groups[True])


RIGHT = {
    "18.1": [count, count_by_matrices],
    "18.2": [layer, merged],
    "18.3": [gradients, gradients_by_autograd],
    "18.4": [loss, loss_by_loop],
}
WRONG = {
    "18.1": [
        (lambda shapes, rank: sum(out * into for out, into in shapes), "the entries of the weights W"),
        (lambda shapes, rank: rank * sum(out * into for out, into in shapes), "two thin matrices"),
        (lambda shapes, rank: sum(out + into for out, into in shapes), "the rank r as its other side"),
        (lambda shapes, rank: rank * sum(out for out, _ in shapes), "B alone"),
        (lambda shapes, rank: rank * sum(into for _, into in shapes), "A alone"),
        (lambda shapes, rank: rank * sum(shapes[0]), "count all layers"),
        (lambda shapes, rank: kept, "not the number of entries"),
        (lambda shapes: 0, "ended with TypeError"),
        (576, "the answer is a function"),
    ],
    "18.2": [
        (lambda x, W, changes: layer(x, W, [(A, B, a * len(A), s) for A, B, a, s in changes]), "divide alpha"),
        (lambda x, W, changes: layer(x, W, [(A, B, len(A), s) for A, B, _, s in changes]), "alpha is missing"),
        (lambda x, W, changes: layer(x, W, [(A, B, a, 1.0) for A, B, a, _ in changes]), "the scale s is missing"),
        (lambda x, W, changes: layer(x, 0 * W, changes), "the change alone"),
        (lambda x, W, changes: x @ W.T, "without its changes"),
        (lambda x, W, changes: layer(x, W, [(A, B, -a, s) for A, B, a, s in changes]), "the sign is wrong"),
        (lambda x, W, changes: layer(x, W, changes[:1]), "only the first change"),
        (lambda x, W, changes: layer(x, W, changes[-1:]), "only the last change"),
        (lambda x, W, changes: 2 * layer(x, W, changes), "this is not W x plus"),
        (lambda x, W, changes: layer(x, W, changes)[0], "shape"),
        (lambda x, W, changes: x @ W.T + x @ (changes[0][0] @ changes[0][1]).T, "ended with RuntimeError"),
        (merged_in_place, "in place"),
    ],
    "18.3": [
        (lambda x, g, A, B, factor: gradients(x, g, A, B, factor)[::-1], "the order is"),
        (lambda x, g, A, B, factor: gradients(x, g, A, B, 1.0), "the factor alpha / r is missing"),
        (lambda x, g, A, B, factor: gradients(x, g / len(x), A, B, factor), "do not average"),
        (lambda x, g, A, B, factor: (gradients(x, g, A, B, factor)[0], g.T @ x @ A.T + 1), "what B is applied to"),
        (lambda x, g, A, B, factor: (A, gradients(x, g, A, B, factor)[1]), "zero while B is zero"),
        (lambda x, g, A, B, factor: (0 * A, gradients(x, g, A, B, factor)[1]), "passes back through B"),
        (lambda x, g, A, B, factor: tuple(one.T for one in gradients(x, g, A, B, factor)), "has the shape of A"),
        (lambda x, g, A, B, factor: gradients(x, g, A, B, factor)[1], "the answer is a pair"),
        (lambda x, g, A, B: A, "ended with TypeError"),
    ],
    "18.4": [
        (lambda errors, is_prior, weight: errors[~is_prior].mean(), "are missing"),
        (lambda errors, is_prior, weight: loss(errors, ~is_prior, weight), "the weight belongs"),
        (lambda errors, is_prior, weight: errors[~is_prior].sum() + weight * errors[is_prior].sum(), "not the sums"),
        (lambda errors, is_prior, weight: (errors * torch.where(is_prior, weight, 1.0)).mean(), "a mean of its own"),
        (lambda errors, is_prior, weight: loss(errors, is_prior, -weight), "add them"),
        (lambda errors, is_prior, weight: loss(errors, is_prior, 1.0), "the weight is missing"),
        (lambda errors, is_prior, weight: 1.0, "not the mean error of the own pictures"),
        (lambda errors, is_prior: 1.0, "ended with TypeError"),
    ],
}
