"""Answers to the exercises of notebook 14."""

import torch

from diffusion_explained import guidance
from diffusion_explained.guidance import projected_guide


def guided(x_t, level, eps, gradient, s):
    new = eps - s * level.sigma * gradient
    return (x_t - level.sigma * new) / level.alpha, new


def by_the_change(x_t, level, eps, gradient, s):
    push = s * level.sigma * gradient
    return [(x_t - level.sigma * eps) / level.alpha + level.sigma / level.alpha * push, eps - push]


def with_eps(change):
    """A pair that fits, with another eps."""

    def answer(x_t, level, eps, gradient, s):
        new = change(level, eps, gradient, s)
        return (x_t - level.sigma * new) / level.alpha, new

    return answer


def stale_x_0(x_t, level, eps, gradient, s):
    return (x_t - level.sigma * eps) / level.alpha, guided(x_t, level, eps, gradient, s)[1]


def without_alpha(x_t, level, eps, gradient, s):
    new = eps - s * level.sigma * gradient
    return x_t - level.sigma * new, new


def in_place(x_t, level, eps, gradient, s):
    return guided(x_t, level, eps, gradient.mul_(2), s)


def variance(a_squared, b_squared, w):
    return 1 / (w / a_squared + (1 - w) / b_squared)


def stds(a, b, sigma, w):
    return (variance(a**2, b**2, w) + sigma**2) ** 0.5, variance(a**2 + sigma**2, b**2 + sigma**2, w) ** 0.5


def by_scores(a, b, sigma, w):
    """From the slopes of the guided scores, which are minus the precisions."""
    slopes = [guidance.guide(-1 / torch.tensor([v]), -1 / torch.tensor([u]), w) for v, u in
              ((a**2, b**2), (a**2 + sigma**2, b**2 + sigma**2))]  # fmt: skip
    return torch.cat([(-1 / slopes[0] + sigma**2).sqrt(), (-1 / slopes[1]).sqrt()])


def of_variances(a, b, sigma, w):
    return [(w * (a**2 + noise) + (1 - w) * (b**2 + noise) + sigma**2 - noise) ** 0.5 for noise in (0, sigma**2)]


def adds_stds(a, b, sigma, w):
    return variance(a**2, b**2, w) ** 0.5 + sigma, variance((a + sigma) ** 2, (b + sigma) ** 2, w) ** 0.5


def product(a, b, axes=(1, 2, 3)):
    return (a * b).sum(axes, keepdim=True)


def apg(cond, uncond, w, eta):
    d = cond - uncond
    along = cond * product(d, cond) / product(cond, cond)
    return cond + (w - 1) * (d - along + eta * along)


def by_unit_vectors(cond, uncond, w, eta):
    flat, d = cond.flatten(1), (cond - uncond).flatten(1)
    unit = torch.nn.functional.normalize(flat)
    along = (d * unit).sum(1, keepdim=True) * unit
    return (flat + (w - 1) * (d - (1 - eta) * along)).reshape(cond.shape)


def projected_onto(direction, axes=(1, 2, 3)):
    """APG with the projection onto another direction, or with products over other axes."""

    def answer(cond, uncond, w, eta):
        d, onto = cond - uncond, direction(cond, uncond)
        along = onto * product(d, onto, axes) / product(onto, onto, axes)
        return cond + (w - 1) * (d - along + eta * along)

    return answer


def norm_once(cond, uncond, w, eta):
    d = cond - uncond
    along = cond * product(d, cond) / product(cond, cond).sqrt()
    return cond + (w - 1) * (d - (1 - eta) * along)


def keeps_parallel(cond, uncond, w, eta):
    d = cond - uncond
    along = cond * product(d, cond) / product(cond, cond)
    return cond + (w - 1) * (along + eta * (d - along))


def gradient(denoise, measure, y, x_t):
    at = x_t.detach().clone().requires_grad_()
    return torch.autograd.grad((y - measure(denoise(at))).norm(dim=1).sum(), at)[0]


def by_differences(denoise, measure, y, x_t, h=1e-6):
    def norm(x):
        return (measure(denoise(x)) - y).norm(dim=1)

    sides = h * torch.eye(x_t.shape[1], dtype=x_t.dtype)
    return torch.stack([(norm(x_t + side) - norm(x_t - side)) / (2 * h) for side in sides], dim=1)


def of_loss(loss, through=True):
    """The gradient of loss(error [B, K]), over x_t or, not through the denoiser, over x_0."""

    def answer(denoise, measure, y, x_t):
        at = x_t.detach().clone()
        at = (at if through else denoise(at)).requires_grad_()
        return torch.autograd.grad(loss(y - measure(denoise(at) if through else at)), at)[0]

    return answer


def requires_in_place(denoise, measure, y, x_t):
    return gradient(denoise, measure, y.zero_(), x_t)


RIGHT = {
    "14.1": [guided, by_the_change],
    "14.2": [stds, by_scores],
    "14.3": [apg, by_unit_vectors, lambda cond, uncond, w, eta: projected_guide(cond, uncond, w, parallel=eta)],
    "14.4": [gradient, by_differences],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "14.1": [
        (with_eps(lambda level, eps, gradient, s: eps + s * level.sigma * gradient), "the sign of the gradient"),
        (with_eps(lambda level, eps, gradient, s: eps - s * gradient), "factor σ is missing"),
        (with_eps(lambda level, eps, gradient, s: eps - level.sigma * gradient), "scale s is missing"),
        (with_eps(lambda level, eps, gradient, s: eps - s / level.sigma * gradient), "not divided"),
        (with_eps(lambda level, eps, gradient, s: eps), "eps is not guided"),
        (with_eps(lambda level, eps, gradient, s: eps - s * level.sigma**2 * gradient), "eps is not eps - s σ"),
        (stale_x_0, "derive x_0 again"),
        (without_alpha, "the pair does not fit"),
        (lambda *ones: guided(*ones)[::-1], "in this order"),
        (lambda *ones: guided(*ones)[1], "returns a pair"),
        (lambda *ones: (0.5, 0.5), "tensors of the shape"),
        (in_place, "in place"),
        (lambda x_t: x_t, "ended with TypeError"),
        (1.0, "the answer is a function"),
    ],
    "14.2": [
        (lambda *ones: stds(*ones)[::-1], "in this order"),
        (lambda *ones: [one**2 for one in stds(*ones)], "these are variances"),
        (lambda *ones: [stds(*ones)[0]] * 2, "noise first, then tilt"),
        (lambda *ones: [stds(*ones)[1]] * 2, "tilt first"),
        (of_variances, "precisions are guided"),
        (adds_stds, "adds its variance"),
        (lambda a, b, sigma, w: stds(a, b, sigma, 1.0), "the pair is ("),
        (lambda a, b, sigma, w: stds(a, b, 0.7, w), "the pair is ("),
        (lambda a, b, sigma, w: (0.75, 0.6), "the pair is ("),
        (lambda *ones: stds(*ones)[0], "2 numbers"),
        (lambda a: a, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "14.3": [
        (lambda cond, uncond, w, eta: apg(cond, uncond, w + 1, eta), "the factor is w - 1"),
        (lambda cond, uncond, w, eta: apg(cond, uncond, 2 - w, eta), "the sign is wrong"),
        (lambda cond, uncond, w, eta: apg(cond, uncond, w + 1, eta) - cond + uncond, "the push starts at cond"),
        (keeps_parallel, "keep the orthogonal one"),
        (projected_onto(lambda cond, uncond: uncond), "not onto uncond"),
        (projected_onto(lambda cond, uncond: cond - uncond), "the difference itself"),
        (projected_onto(lambda cond, uncond: cond, axes=(0, 1, 2, 3)), "not over the whole batch"),
        (projected_onto(lambda cond, uncond: cond, axes=(2, 3)), "over all channels"),
        (norm_once, "divide by |cond|²"),
        (lambda cond, uncond, w, eta: apg(cond, uncond, w, 0.0), "eta is ignored"),
        (lambda cond, uncond, w, eta: guidance.guide(cond, uncond, w), "this is plain guidance"),
        (lambda cond, uncond, w, eta: cond, "nothing guides"),
        (lambda cond, uncond, w, eta: (cond + uncond) / 2, "this is not cond + (w - 1)"),
        (lambda cond, uncond, w, eta: apg(cond, uncond, w, eta)[0], "shape"),
        (lambda cond, uncond, w, eta: apg(cond.mul_(2), uncond, w, eta), "in place"),
        (lambda cond: cond, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "14.4": [
        (lambda *ones: -gradient(*ones), "the sign is wrong"),
        (of_loss(lambda error: error.norm(dim=1).sum(), through=False), "go on through the denoiser"),
        (of_loss(lambda error: error.square().sum()), "of the square of the norm"),
        (of_loss(lambda error: error.square().sum() / 2), "half the square"),
        (of_loss(lambda error: error.norm()), "not over the whole batch"),
        (of_loss(lambda error: error.norm(dim=1).mean()), "take the sum of the norms"),
        (lambda *ones: gradient(*ones).mean(0).expand(4, 3), "of its own"),
        (of_loss(lambda error: error.abs().sum()), "this is not the gradient of"),
        (lambda denoise, measure, y, x_t: x_t, "this is not the gradient of"),
        (lambda *ones: gradient(*ones)[0], "shape"),
        (requires_in_place, "in place"),
        (lambda x_t: x_t, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
}
