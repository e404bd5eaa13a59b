"""The exercises of notebook 03, Training to predict noise."""

import torch
from torch import Tensor

from diffusion_explained.data import gaussian_modes
from diffusion_explained.devices import to_float64
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import stream
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule

BATCHES, IN_BATCH = 400, 25  # of labels; small batches show whether each label is drawn on its own


def _dropped(answer: object, given: Given, probability: float, null: int, seed: int) -> Tensor:
    """Where the reader's function replaced the labels of one batch, bool [25]; all others must be as they were."""
    labels = (10 * given.rand(IN_BATCH)).to(torch.int64)
    got = given.tensor(answer, labels, probability, null, stream(seed), shape=(IN_BATCH,))
    assert got.dtype == labels.dtype, f"labels are whole numbers, {labels.dtype}, not {got.dtype}"
    dropped = got == null
    assert torch.equal(got[~dropped], labels[~dropped]), "a label that is not replaced by null must not change"
    return dropped


@exercise("03.1", "Drop some labels", "my_drop(labels, probability, null, generator)", minutes=15)
def drops_the_right_share(answer: object, given: Given) -> None:
    """Each label is replaced with the given probability, independently of the others, by the generator's numbers."""
    for probability, null in ((0.1, 10), (0.4, 27), (0.0, 10), (1.0, 1000)):
        seeds = (2**24 * given.rand(BATCHES)).tolist()
        dropped = torch.stack([_dropped(answer, given, probability, null, int(seed)) for seed in seeds])
        share, variance = float(to_float64(dropped).mean()), probability * (1 - probability)
        trap = ": the trap, this is the share to keep" if abs(share - (1 - probability)) < 0.03 else ""
        assert abs(share - probability) < 0.03, f"at probability {probability}, {share:.0%} are replaced{trap}"
        by_position = to_float64(dropped).mean(0)  # six standard errors are allowed
        assert float((by_position - probability).abs().max()) <= 6 * (variance / BATCHES) ** 0.5, (
            "the position of a label decides whether it is replaced: draw random numbers for it"
        )
        spread = float(to_float64(dropped).sum(1).var())  # of a binomial distribution
        assert 0.6 * IN_BATCH * variance <= spread <= 1.6 * IN_BATCH * variance, (
            "the labels of a batch are not replaced independently: draw one random number per label"
        )
    labels = torch.arange(IN_BATCH, dtype=torch.int64, device="cpu")
    once, twice = (given.tensor(answer, labels, 0.5, 99, stream(5), shape=(IN_BATCH,)) for _ in range(2))
    assert torch.equal(once, twice), "with the same generator other labels are replaced: draw from the given generator"


@exercise("03.2", "The weight of flow matching", "my_weight(t)")
def weighs_like_flow(answer: object, given: Given) -> None:
    """The factor between the squared errors of the velocity and of the picture on the straight path."""
    for t in (0.1 + 0.9 * given.rand(4)).tolist():
        weight, level = given.number(given.call(answer, t)), FlowSchedule().level(t)
        right = (level.alpha / level.sigma + 1) ** 2
        assert abs(weight / right - 1) < 1e-3, (
            f"at t = {t:.2f} the squared error of the velocity is {right:.3g} times that of the picture, "
            f"not {weight:.3g} times: insert α = 1 - t and σ = t into the last formula of section 5"
        )


@exercise("03.3", "The best possible loss at the end")
def is_the_best_loss(answer: object, given: Given) -> None:
    """The mean squared error, within 0.05, of the best prediction of x_0 at t = 999, for the eight Gaussians."""
    loss, level = given.number(answer), DDPMSchedule.linear().level(999)
    mixture = GaussianMixture(*gaussian_modes("eight_gaussians"))
    x_0, _ = mixture.sample(20_000, given.generator)
    best = ExactDenoiser(mixture)(add_noise(x_0, given.randn(*x_0.shape), level), level).x_0
    right = float((best - x_0).square().mean())
    assert loss > 0.05, "in pure noise the noise is known, but the picture is not: its best loss is not 0"
    assert abs(loss - 2 * right) > 0.05, "the loss is a mean over the two coordinates, not their sum"
    assert abs(loss - right) < 0.05, "the best prediction in pure noise is the mean of the data: what is its error?"
