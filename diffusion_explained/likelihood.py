"""The log-likelihood of data under a diffusion model: its probability-flow ODE is a change of variables.

Every Gaussian path is one path on a circle. With c = sqrt(alpha^2 + sigma^2), z = x_t / c and the angle
phi = atan2(sigma, alpha), the probability-flow ODE of every schedule is

    dz / dphi = v,   v = (alpha * eps - sigma * x_0) / c,   from phi = 0 (clean) to pi / 2 (pure noise)

which is finite at both ends (v is the prediction type of that name: Salimans & Ho 2022, App. D). Along a solution

    d log p(z) / dphi = -div v          (instantaneous change of variables: Chen et al. 2018, Theorem 1)

`log_likelihood` differs from the paper in two points: it integrates in phi, by Heun's method over the given levels
instead of an adaptive Runge-Kutta method over t, and it starts at the cleanest of the given levels instead of t = 1e-5.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_finite,
    float_data,
    number,
    typed_arguments,
    whole,
)
from diffusion_explained.denoisers import Denoiser
from diffusion_explained.devices import to_float64
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import Generators, check_generators, randn
from diffusion_explained.samplers import predict
from diffusion_explained.schedules import Level, check_decreasing

DIVERGENCES = ("exact", "hutchinson")
MOST_SNR = 0.01  # of the noisiest level: the error of the normal density there is about D / 2 times this number
BIN = 2 / 255  # the distance between two of 256 grey values in [-1, 1]


@typed_arguments
def log_likelihood(
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[Level],
    *,
    divergence: str = "hutchinson",
    generator: Generators = None,
) -> Tensor:
    """The log density of x at the last of the levels, log p(x) [B] (natural logarithm, float64).

        log p(x) = log N(x_T; 0, sigma_T^2 I) + integral of div v over phi - D log(c / c_T)   (Song et al. 2021, Eq. 39)

    x_T is where the probability-flow ODE takes x at the noisiest level, and D is the number of values of one x.

    Args:
        denoise: called as denoise(x_t, level); its predictions must be differentiable in x_t.
        x: [B, ...], at the last of the levels: for data at a level (alpha, sigma), give alpha * x_0 and add
            D * log(alpha) to the result.
        levels: those of sampling, decreasing from noise. If the last is clean, the model must have a density there
            (v is then 0 at phi = 0): a Gaussian mixture has one, digits with exactly black pixels have none.
        divergence: "exact", by D derivatives per level, or "hutchinson", the unbiased estimate e . (dv/dz e) with a
            random vector e of entries 1 and -1, one derivative per level (Hutchinson 1989; FFJORD, Sec. 3.1). Its
            variance is 2 sum over i != j of the squared symmetric part of dv_i/dz_j: repeat images for several draws.
        generator: draws e, once for the whole path; one generator, one per image, or None (torch's global one).

    Raises ValueError for levels that do not begin in noise (a signal-to-noise ratio above 0.01), for NaN or infinity in
    x or on the way, and for another divergence.
    """
    if divergence not in DIVERGENCES:
        raise unknown_name("divergence", divergence, DIVERGENCES)
    check_decreasing(levels)
    if float_data("x", x).ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must be [B, ...] with B of 1 or more; got {list(x.shape)}.")
    check_finite(x, "x", "give finite data")
    if levels[0].snr > MOST_SNR:
        raise ValueError(
            f"The levels must begin in noise, where x_T is normal: the first has a signal-to-noise ratio of "
            f"{levels[0].snr:.2g}, and {MOST_SNR} is the most. Give a schedule's levels from its noisiest."
        )
    check_generators(generator, len(x))
    # signs of normal numbers, so that e depends neither on the device nor on the batch
    probe = randn(x.shape, generator, x.device, x.dtype).sign() if divergence == "hutchinson" else None

    path, c = levels[::-1], _radius(levels[-1])
    change, z = to_float64(x.new_zeros(len(x))), x / c
    slope, div = _slope_and_divergence(denoise, z, path[0], probe)
    for level, noisier in pairwise(path):
        turn = _angle(noisier) - _angle(level)
        trial = _slope(denoise, z + turn * slope, noisier)
        z = z + turn / 2 * (slope + trial)
        slope, div_next = _slope_and_divergence(denoise, z, noisier, probe)
        change = change + turn / 2 * (div + div_next)
        div = div_next
    x_T, D = to_float64(z.flatten(1)) * _radius(levels[0]), z[0].numel()
    sigma = levels[0].sigma
    of_noise = -x_T.square().sum(1) / (2 * sigma**2) - D / 2 * math.log(2 * math.pi * sigma**2)
    log_p = of_noise + change + D * math.log(_radius(levels[0]) / c)
    check_finite(log_p, "log-likelihoods", "the denoiser's output is broken on the way, or the data have no density")
    return log_p


def _angle(level: Level) -> float:
    return math.atan2(level.sigma, level.alpha)


def _radius(level: Level) -> float:
    return math.hypot(level.alpha, level.sigma)


def _slope(denoise: Denoiser, z: Tensor, level: Level) -> Tensor:
    """v at z [B, ...]; 0 at a clean level, where a density has eps = -sigma * score = 0."""
    if level.sigma == 0:
        return torch.zeros_like(z)
    c = _radius(level)
    pred = predict(denoise, c * z, level)
    return (level.alpha * pred.eps - level.sigma * pred.x_0) / c


def _slope_and_divergence(denoise: Denoiser, z: Tensor, level: Level, probe: Tensor | None) -> tuple[Tensor, Tensor]:
    """v at z, [B, ...], and its divergence over z, [B] in float64: exact without a probe."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        slope = _slope(denoise, at, level)
    none = to_float64(z.new_zeros(len(z)))
    if level.sigma == 0:
        return slope.detach(), none
    if not slope.requires_grad:
        raise ValueError("The denoiser's prediction is not differentiable in x_t: its gradients are switched off.")
    if probe is not None:
        (product,) = torch.autograd.grad(slope, at, probe)  # e^T dv/dz
        return slope.detach(), to_float64((product * probe).flatten(1)).sum(1)
    flat = slope.flatten(1)
    for i in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, i].sum(), at, retain_graph=True)
        none = none + to_float64(row.flatten(1)[:, i])
    return slope.detach(), none


@typed_arguments
def dequantise(images: Tensor, generator: Generators = None) -> Tensor:
    """Bytes [B, C, H, W] as floats, each drawn evenly from its bin of the width 2/255: (byte + u - 1/2) / 127.5 - 1.

    A density of continuous values can be arbitrarily high on values that are exact bytes. With even noise u in [0, 1)
    its expected log is a lower bound of the log probability of the bytes (Theis et al. 2016, Eq. 4-6).

    generator: draws u; one, one per image, or None (torch's global one). Raises ValueError for anything but bytes.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"Only bytes (uint8) have bins; got {images.dtype}.")
    if images.ndim < 2 or images.numel() == 0:
        raise ValueError(f"images must be [B, ...] with B of 1 or more; got {list(images.shape)}.")
    u = torch.special.ndtr(randn(images.shape, generator, images.device))  # even: the normal distribution function
    return (images.float() + u - 0.5) / 127.5 - 1


@typed_arguments
def bits_per_dimension(log_p: Tensor, dimensions: int, bin_width: float = BIN) -> Tensor:
    """The bits per dimension [B] of bytes whose `dequantise`d values have the log density log_p [B] (in nats).

        -(log_p / D + log(bin_width)) / log(2)                                      (Theis et al. 2016, Section 3.1)

    An even distribution over 256 bytes has 8. dimensions: D, the number of values of one image.
    Raises ValueError for numbers out of range.
    """
    dimensions = whole("dimensions", dimensions, 1)
    if number("bin_width", bin_width, "a positive number", 0) == 0:
        raise ValueError("bin_width must be a positive number; got 0.")
    return -(to_float64(float_data("log_p", log_p)) / dimensions + math.log(bin_width)) / math.log(2)
