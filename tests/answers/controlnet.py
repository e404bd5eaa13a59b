"""Answers to the exercises of notebook 17."""

import torch
import torch.nn.functional as F

kept = torch.rand(4, 3)


def gradient(h, g):
    return torch.einsum("bohw,bihw->oi", g, h)


def gradient_by_autograd(h, g):
    w = torch.zeros(g.shape[1], h.shape[1], 1, 1, requires_grad=True)
    return torch.autograd.grad((F.conv2d(h, w) * g).sum(), w)[0][:, :, 0, 0]


def steps(start, end, n):
    return [i for i in range(n) if start <= i / n and (i + 1) / n <= end]


def steps_by_filter(start, end, n):
    return tuple(filter(lambda i: i / n >= start and (i + 1) / n <= end, range(n)))


def skips(skips, residuals, scales, active):
    acting = [k for k in range(len(residuals)) if active[k]]
    return [skip + sum(scales[k] * residuals[k][i] for k in acting) for i, skip in enumerate(skips)]


def skips_by_loop(skips, residuals, scales, active):
    found = [skip.clone() for skip in skips]
    for own, scale, acts in zip(residuals, scales, active, strict=True):
        if acts:
            found = [a + scale * b for a, b in zip(found, own, strict=True)]
    return tuple(found)


def skips_in_place(skips, residuals, scales, active):
    for k, own in enumerate(residuals):
        for i, residual in enumerate(own):
            skips[i] += scales[k] * active[k] * residual
    return skips


def near(mask, width=3):
    return F.max_pool2d(mask[None, None].float(), width, 1, width // 2)[0, 0] > 0


def shares(drawn, asked, width=3):
    return (drawn & near(asked, width)).sum() / drawn.sum(), (asked & near(drawn, width)).sum() / asked.sum()


def f1(drawn, asked, width=3):
    p, r = shares(drawn, asked, width)
    return 2 * p * r / (p + r)


def f1_by_loop(drawn, asked):
    def share(of, other):
        places = other.nonzero().tolist()
        hits = [any(max(abs(y - v), abs(x - u)) <= 1 for v, u in places) for y, x in of.nonzero().tolist()]
        return sum(hits) / len(hits)

    p, r = share(drawn, asked), share(asked, drawn)
    return 2 * p * r / (p + r)


def f1_by_a_cross(drawn, asked):
    def wide(mask):
        kernel = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])[None, None]
        return F.conv2d(mask[None, None].float(), kernel, padding=1)[0, 0] > 0

    p, r = (drawn & wide(asked)).sum() / drawn.sum(), (asked & wide(drawn)).sum() / asked.sum()
    return 2 * p * r / (p + r)


RIGHT = {
    "17.1": [gradient, gradient_by_autograd],
    "17.2": [steps, steps_by_filter],
    "17.3": [skips, skips_by_loop],
    "17.4": [f1, f1_by_loop],
}
WRONG = {
    "17.1": [
        (lambda h, g: 0 * gradient(h, g), "its gradient is not"),
        (lambda h, g: gradient(h, g) / len(h), "sum over the images"),
        (lambda h, g: gradient(h, g) / h[:, 0].numel(), "sum over images and pixels"),
        (lambda h, g: gradient(h, g) / h[0, 0].numel(), "do not average"),
        (lambda h, g: g.sum((0, 2, 3))[:, None] * h.sum((0, 2, 3)), "pixel by pixel"),
        (lambda h, g: -gradient(h, g), "the sign is wrong"),
        (lambda h, g: gradient(h, g).T, "shape"),
        (lambda h, g: 2 * gradient(h, g), "not the sum over images"),
        (lambda h, g: kept, "not the sum over images"),
        (lambda h: h, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "17.2": [
        (lambda start, end, n: [i for i in range(n) if start <= i / n <= end], "its end (i + 1) / n too"),
        (lambda start, end, n: [i for i in range(n) if start <= (i + 1) / n <= end], "its beginning i / n too"),
        (lambda start, end, n: steps(start, end, n)[::-1], "in their order"),
        (lambda start, end, n: [i for i in range(n) if i not in steps(start, end, n)], "outside the interval"),
        (lambda start, end, n: [i + 1 for i in steps(start, end, n)], "the answer lies between"),
        (lambda start, end, n: list(range(n)), "the steps are others"),
        (lambda start, end, n: len(steps(start, end, n)), "a list of steps"),
        (lambda start, end: [], "ended with TypeError"),
        ([0, 1], "the answer is a function"),
    ],
    "17.3": [
        (lambda s, r, w, active: skips(s, r, w, [True] * len(r)), "adds nothing"),
        (lambda s, r, w, active: skips(s, r, [1.0] * len(r), active), "a scale of its own"),
        (lambda s, r, w, active: skips([0 * one for one in s], r, w, active), "itself is missing"),
        (lambda s, r, w, active: skips(s, r, [one / len(r) for one in w], active), "a sum, not a mean"),
        (lambda s, r, w, active: skips(s, r[:1], w, active), "only the first network"),
        (lambda s, r, w, active: skips(s, r, [2 * one for one in w], active), "this is not skip_i plus"),
        (lambda s, r, w, active: skips(s, r, w, active)[:1], "one tensor per skip"),
        (lambda s, r, w, active: skips(s, r, w, active)[::-1], "the shape of its skip"),
        (lambda s, r, w: s, "ended with TypeError"),
        (skips_in_place, "in place"),
    ],
    "17.4": [
        (lambda drawn, asked: f1(drawn, asked, 1), "one pixel away"),
        (f1_by_a_cross, "along the diagonals"),
        (lambda drawn, asked: shares(drawn, asked)[0], "the precision alone"),
        (lambda drawn, asked: shares(drawn, asked)[1], "the recall alone"),
        (lambda drawn, asked: sum(shares(drawn, asked)) / 2, "not the mean of both"),
        (lambda drawn, asked: f1(drawn, asked, 5), "not two"),
        (lambda drawn, asked: f1(drawn, asked) / 2, "the factor 2 is missing"),
        (lambda drawn, asked: 1.0, "this is not 2 p r"),
        (lambda drawn: 1.0, "ended with TypeError"),
        (0.84, "the answer is a function"),
    ],
}
