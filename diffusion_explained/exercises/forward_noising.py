"""The exercises of notebook 01, Forward noising."""

import math
from functools import cache

import torch
from torch import Tensor

from diffusion_explained.data import bundled_mnist
from diffusion_explained.devices import to_float64
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.forward import add_noise, transition
from diffusion_explained.schedules import DDPMSchedule, Level


@exercise("01.1", "Half-way", minutes=5)
def is_half_way(answer: object, given: Given) -> None:
    """The first t at which less than half of the signal's power is left."""
    schedule = DDPMSchedule.linear()
    t = given.whole(answer, 1, schedule.num_train_timesteps - 1)
    assert float(schedule.alphas_cumprod[t]) < 0.5, "more than half of the power is still there: a larger t"
    assert float(schedule.alphas_cumprod[t - 1]) >= 0.5, "it happened earlier: a smaller t"


@exercise("01.2", "The noise, recovered", "my_eps(x_t, x_0, level)", minutes=5)
def recovers_the_noise(answer: object, given: Given) -> None:
    """The noise in x_t, from x_t and x_0, at any level of any schedule."""
    for schedule in (DDPMSchedule.linear(), DDPMSchedule.cosine()):
        for t in (5, 300, 900):
            level, x_0, eps = schedule.level(t), given.randn(3, 1, 4, 4), given.randn(3, 1, 4, 4)
            hint = f"at t = {t} this is not the noise: solve the boxed line for ε"
            x_t = add_noise(x_0, eps, level)
            mistakes = (
                (x_t - x_0, "x_t contains α x_0, not x_0: x_t - x_0 is not the noise"),
                (
                    (x_t - level.alpha * x_0) / level.sigma**2,
                    "this is not the noise but the noise over σ: divide by σ once",
                ),
                (x_t - level.alpha * x_0, "this is not the noise but σ times the noise: divide by σ"),
            )
            given.returns(answer, x_t, x_0, level, expected=eps, hint=hint, close=1e-3, mistakes=mistakes)


@exercise("01.3", "A jump from the middle")
def is_the_jump(answer: object, given: Given) -> None:
    """The factor and the standard deviation of the transition from t = 300 to t = 600."""
    schedule = DDPMSchedule.linear()
    found, right = given.numbers(answer, 2), transition(schedule.level(300), schedule.level(600))
    assert abs(found[0] - right[0]) < 1e-4, "the factor is the root of a quotient of alphas_cumprod"
    assert abs(found[1] - right[1]) < 1e-4, "the variances must add up: factor² + spread² = 1 on this schedule"


@cache
def _best_classifier() -> tuple[GaussianMixture, Tensor, Tensor]:
    """The classifier that knows 2,000 digits exactly, with 300 of them and their labels, as in section 6."""
    known = bundled_mnist().subset(torch.arange(2000, dtype=torch.int64, device="cpu"))
    images = known.to_float()
    return GaussianMixture(images, classes=known.labels), images[:300], known.labels[:300]


@exercise("01.4", "Where the best classifier fails")
def is_where_accuracy_is_half(answer: object, given: Given) -> None:
    """The log SNR, within about 0.4, at which the best classifier is right half of the time."""
    log_snr = given.number(answer)
    assert -20 < log_snr < 20, "on this schedule the log SNR lies between about -10 and 9"
    classifier, images, labels = _best_classifier()
    eps = given.randn(*images.shape)

    def accuracy_at(log_snr: float) -> float:
        variance = 1 / (1 + math.exp(log_snr))
        level = Level(0, math.sqrt(1 - variance), math.sqrt(variance))
        found = classifier.class_probabilities(add_noise(images, eps, level), level).argmax(1)
        return float(to_float64(found == labels).mean())

    assert accuracy_at(log_snr - 0.5) < 0.5, "there the classifier is still right more than half of the time: lower"
    assert accuracy_at(log_snr + 0.5) > 0.5, "there the classifier is already wrong more than half of the time: higher"
