"""The exercises of notebook 10, Latent diffusion."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule


@exercise("10.1", "The scaling factor", "my_scaling_factor(raw)", minutes=5)
def scales_to_one(answer: object, given: Given) -> None:
    """The factor, to 1%, that makes the variance of raw latents, over all channels together, 1."""
    for spread, mean in ((0.2, 0.0), (6.0, 3.0), (1.5, -4.0)):
        channels = given.randn(4, 1, 1)  # other means and other spreads in each channel
        raw = mean + channels + spread * (1 + given.rand(4, 1, 1)) * given.randn(50, 4, 8, 8)
        factor = given.number(given.call(answer, raw))
        variance = float((raw * factor).var())
        assert abs(variance - 1) < 0.02, (
            f"with this factor the variance becomes {variance:.3g}, not 1: the variance, taken around the mean, is "
            "proportional to the square of the factor"
        )
        assert factor > 0, "the factor is positive: with a negative one every latent changes its sign"


@exercise("10.2", "The KL of one number", "my_kl(mean, std)")
def is_the_divergence(answer: object, given: Given) -> None:
    """The divergence of a Gaussian to N(0, 1), number by number, to 0.01%."""
    standard = Normal(torch.zeros((), dtype=torch.float32, device="cpu"), 1.0)
    for shape in ((6,), (2, 4, 5, 5)):
        still = given.randn(*shape)
        mean, std = 2 * given.randn(*shape), 0.05 + 3 * given.rand(*shape)
        one, zero = torch.ones_like(std), torch.zeros_like(mean)
        for mu, sigma, hint in (
            (zero, one, "N(0, 1) has the divergence 0 to itself"),
            (still, one, "with the standard deviation 1 only the square of the mean is left, halved"),
            (zero, std, "with the mean 0 the variance and its logarithm are left: see the formula in section 4"),
            (mean, std, "see the formula in section 4, without its sum"),
        ):
            given.returns(answer, mu, sigma, expected=kl_divergence(Normal(mu, sigma), standard), hint=hint)


@exercise("10.3", "The missing factor", "my_log_snr(level, spread)")
def is_what_the_network_sees(answer: object, given: Given) -> None:
    """The log of the ratio of the signal's power to the noise's power, for data of any spread, to 0.01."""
    for level in (DDPMSchedule.linear().level(200), DDPMSchedule.cosine().level(700), FlowSchedule().level(0.4)):
        unit = given.number(given.call(answer, level, 1.0))
        hint = "data of standard deviation 1 has the level's own log SNR: the power is the square of the amplitude"
        assert abs(unit - level.log_snr) < 0.01, hint
        for spread in (1 / 0.18215, 0.3, 1 + float(given.rand(1))):
            found = given.number(given.call(answer, level, spread))
            hint = f"data that is {spread:.2f} times as large has {spread:.2f}² times the power, and the noise has not"
            assert abs(found - (level.log_snr + 2 * math.log(spread))) < 0.01, hint
