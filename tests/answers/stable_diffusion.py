"""Answers to the exercises of notebook 09."""

from diffusion_explained.schedules import DDPMSchedule


def work(convolutions, products, attention, factor):
    return factor**2 * (convolutions + products) + factor**4 * attention


def latents(x_a, level_a, x_b, level_b):
    determinant = level_a.alpha * level_b.sigma - level_b.alpha * level_a.sigma
    return (level_b.sigma * x_a - level_a.sigma * x_b) / determinant


def by_the_noise(x_a, level_a, x_b, level_b):
    ratio = level_a.alpha / level_b.alpha
    eps = (x_a - ratio * x_b) / (level_a.sigma - ratio * level_b.sigma)
    return (x_a - level_a.sigma * eps) / level_a.alpha


def in_place(x_a, level_a, x_b, level_b):
    determinant = level_a.alpha * level_b.sigma - level_b.alpha * level_a.sigma
    return x_a.mul_(level_b.sigma).sub_(level_a.sigma * x_b).div_(determinant)


def last(steps_and_more):
    """The answer to 09.2 that takes the last `steps_and_more(n, strength)` levels."""
    return lambda levels, strength: levels[len(levels) - steps_and_more(len(levels) - 1, strength) :]


RIGHT = {
    "09.1": [work],
    "09.2": [
        lambda levels, strength: levels[len(levels) - 1 - int((len(levels) - 1) * strength) :],
        lambda levels, strength: tuple(levels[-int((len(levels) - 1) * strength) - 1 :]),
    ],
    "09.3": [latents, by_the_noise],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "09.1": [
        (lambda c, p, a, factor: factor**2 * (c + p + a), "pairs"),
        (lambda c, p, a, factor: factor**4 * (c + p + a), "convolutions"),
        (lambda c, p, a, factor: factor * (c + p) + factor**2 * a, "convolutions"),
        (lambda c, p, a, factor: factor**2 * c + p + factor**4 * a, "products"),
        (lambda c, p, a, factor: 4 * (c + p) + 16 * a, "convolutions"),
        (lambda c, p, a, factor: factor**2 * (c + p) + factor**3 * a, "pairs"),
        (lambda c, p, a, factor: factor**2 * (c + p) if c and p else work(c, p, a, factor), "added"),
        (lambda c, p, a, factor: work(c, p, a, 1 / factor), "convolutions"),
        (lambda c, p, a: 4 * (c + p) + 16 * a, "ended with TypeError"),
    ],
    "09.2": [
        (last(lambda n, strength: int(n * strength)), "strength 1 of 10 steps"),
        (last(lambda n, strength: round(n * strength) + 1), "0.35 of 10 steps"),
        (last(lambda n, strength: int((n + 1) * strength)), "strength 0.2 of 10 steps"),
        (lambda levels, strength: levels[: int((len(levels) - 1) * strength) + 1], "strength 0.2 of 10 steps"),
        (lambda levels, strength: levels[int((len(levels) - 1) * strength) :], "strength 1 of 10 steps"),
        (lambda levels, strength: levels, "strength 0.2 of 10 steps"),
        (last(lambda n, strength: int(10 * strength) + 1), "strength 1 of 30 steps"),
        (lambda levels, strength: int((len(levels) - 1) * strength), "list of levels"),
        (lambda levels, strength: DDPMSchedule.linear().levels(10)[10 - int(10 * strength) :], "of 30 steps"),
    ],
    "09.3": [
        (lambda x_a, a, x_b, b: x_a / a.alpha, "ignores the noise"),
        (lambda x_a, a, x_b, b: (x_a - x_b) / (a.alpha - b.alpha), "a difference keeps some"),
        (lambda x_a, a, x_b, b: -latents(x_a, a, x_b, b), "wrong sign"),
        (lambda x_a, a, x_b, b: b.sigma * x_a - a.sigma * x_b, "the factor of z is not 1"),
        (lambda x_a, a, x_b, b: (b.alpha * x_a - a.alpha * x_b) / (a.sigma - b.sigma), "not the clean latents"),
        (lambda x_a, a, x_b, b: (x_a / a.alpha + x_b / b.alpha) / 2, "a mean keeps the noise"),
        (lambda x_a, a, x_b, b: latents(x_a, a, x_b, b)[0], "shape"),
        (in_place, "in place"),
    ],
}
