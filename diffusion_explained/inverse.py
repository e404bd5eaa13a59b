"""Inverse problems: find images that agree with a measurement y = A(x_0), with a model that was not trained for it.

The measurements are `painted_over`, `shrink`, `blur` and `grey`. The samplers are `repaint`, for images of which a part
is known, `dps`, for any differentiable A, and `cfg_pp`, which treats a class or a text as the measurement. They take a
denoiser and levels and yield `Step`s, as all samplers do. `conditional` is the exact answer for a Gaussian mixture.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_finite,
    check_kind_of,
    float_data,
    image_batch,
    number,
    same_shape,
    typed_arguments,
    whole,
)
from diffusion_explained.denoisers import Denoiser
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.forward import add_noise, posterior, transition
from diffusion_explained.noise import Generators, randn
from diffusion_explained.samplers import Step, sampler, step_pairs
from diffusion_explained.schedules import Level

Operator = Callable[[Tensor], Tensor]


@typed_arguments
def painted_over(mask: Tensor) -> Operator:
    """The measurement that keeps an image where the mask is 0, and sets it to 0 where the mask is 1: x * (1 - mask).

    mask: 0 and 1, [H, W], or any shape that broadcasts to images [B, C, H, W]. Raises ValueError for other values.
    """
    _check_mask(mask)
    return lambda x: x * (1 - mask.to(x))


def _check_mask(mask: Tensor) -> None:
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("A mask is 1 where the image is to be painted and 0 where it is known; got other values.")


def shrink(factor: int) -> Operator:
    """The measurement of super-resolution: the mean over squares of factor x factor pixels.

    Images are [B, C, H, W], with H and W multiples of the factor; the measurement raises ValueError for others.
    """
    factor = whole("factor", factor, 1)

    def measure(x: Tensor) -> Tensor:
        if image_batch("x", x).shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"{x.shape[2]} x {x.shape[3]} pixels cannot be divided into squares of {factor} x {factor}."
            )
        return torch.nn.functional.avg_pool2d(x, factor)

    return measure


def blur(std: float, radius: int = 4) -> Operator:
    """The measurement of deblurring: a convolution with a Gaussian of this standard deviation, in pixels.

    The Gaussian ends at `radius` pixels; beyond its edge an image [B, C, H, W] is continued by its edge's values.
    Raises ValueError for a std of 0 or less.
    """
    if number("std", std, "a number of pixels above 0", 0) == 0:
        raise ValueError("std must be a number of pixels above 0; got 0.")
    radius = whole("radius", radius, 1)
    along = torch.arange(-radius, radius + 1, dtype=torch.float32, device="cpu")
    weights = torch.softmax(-(along**2) / (2 * std**2), dim=0)

    def measure(x: Tensor) -> Tensor:
        channels = image_batch("x", x).shape[1]
        kernel = (weights[:, None] * weights).to(x).expand(channels, 1, -1, -1)
        padded = torch.nn.functional.pad(x, [radius] * 4, mode="replicate")
        return torch.nn.functional.conv2d(padded, kernel, groups=channels)

    return measure


def grey() -> Operator:
    """The measurement of colourising: the mean of red, green and blue, [B, 3, H, W] -> [B, 1, H, W]."""
    return lambda x: image_batch("x", x, 3).mean(dim=1, keepdim=True)


@sampler
def repaint(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    *,
    known: Tensor,
    mask: Tensor,
    resamplings: int = 10,
    generator: Generators = None,
) -> Iterator[Step]:
    """RePaint: DDPM steps in the unknown part, the noised image in the known part; repeated at every level.

        x_known ~ N(s.alpha * known, s.sigma^2 I),   x_unknown ~ q(x_s | x_t, x_0 = pred.x_0)
        x_s = mask * x_unknown + (1 - mask) * x_known             (Lugmayr et al. 2022, Algorithm 1, lines 4-8)
        x_t ~ q(x_t | x_s), and again                             (line 9-10, resamplings - 1 times)

    The known part is drawn without regard to the unknown part, so they do not fit at first; going back to x_t and
    denoising again lets them fit. The mask is 1 where the image is painted, as elsewhere in this package; the paper's
    is 1 where it is known. A step needs `resamplings` network evaluations; `Step` holds the last of the repetitions.

    Args:
        denoise, x_t, levels, generator: as for `ddim`.
        known: x_0 in the known part, [B, ...]; its values in the unknown part do not matter.
        mask: 1 where to paint, 0 where known; of any shape that broadcasts to x_t.
        resamplings: repetitions per level; 1 is inpainting by replacement.
    """
    check_kind_of("mask", mask, Tensor)
    same_shape("x_t and known", x_t, float_data("known", known))
    check_finite(known, "known", "give finite images, with any number where nothing is known")
    _check_mask(mask)
    painted, resamplings = mask.to(x_t), whole("resamplings", resamplings, 1)

    def noise() -> Tensor:
        return randn(known.shape, generator, known.device, known.dtype)

    for i, level, next_level in step_pairs(x_t, levels, generator):
        repeats = resamplings if next_level.sigma > 0 else 1
        for k in range(repeats):
            pred = denoise(x_t, level)
            x_next, std = posterior(pred.x_0, x_t, level, next_level)
            kept = known
            if next_level.sigma > 0:
                x_next, kept = x_next + std * noise(), add_noise(known, noise(), next_level)
            x_next = painted * x_next + (1 - painted) * kept
            if k < repeats - 1:
                scale, std = transition(next_level, level)
                x_t = scale * x_next + std * noise()
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def dps(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    *,
    measure: Operator,
    y: Tensor,
    scale: float = 1.0,
    generator: Generators = None,
) -> Iterator[Step]:
    """Diffusion posterior sampling: a DDPM step, then a step down the gradient of the measurement's error.

        x_next ~ q(x_next | x_t, x_0 = pred.x_0)
        x_next <- x_next - zeta / |y - A(pred.x_0)| * grad_{x_t} |y - A(pred.x_0)|^2   (Chung et al. 2023, Algorithm 1)

    The gradient goes through the denoiser, so a step costs about three network evaluations. The posterior p(x_0 | x_t)
    is replaced by its mean, so the samples follow p(x_0 | y) only roughly (Eq. 11 and Theorem 1). Norms are per image.

    Args:
        denoise, x_t, levels, generator: as for `ddim`; the prediction must be differentiable in x_t.
        measure: A, called with predictions of x_0 [B, ...]; differentiable.
        y: the measurements, in the shape of A(x_0), one per image.
        scale: zeta, 0 (no guidance) or more. The paper's 0.1 to 1 is for 1,000 steps; fewer steps need more.
    """
    scale = number("scale", scale, "a finite number, 0 (off) or more", 0)
    check_kind_of("measure", measure, Callable)
    check_finite(float_data("y", y), "measurements", "give finite measurements")
    for i, level, next_level in step_pairs(x_t, levels, generator):
        with torch.enable_grad():
            at = x_t.detach().requires_grad_()
            pred = denoise(at, level)
            predicted = measure(pred.x_0)
            same_shape("y and the measurement of a prediction", y, predicted)
            error = (y - predicted).flatten(1).norm(dim=1)  # [B]; its gradient is that of its square over 2 |y - A|
            (gradient,) = torch.autograd.grad(error.sum(), at)
        pred = type(pred)(pred.x_0.detach(), pred.eps.detach(), pred.eps.detach())
        x_next, std = posterior(pred.x_0, x_t, level, next_level)
        if next_level.sigma > 0:
            x_next = x_next + std * randn(x_t.shape, generator, x_t.device, x_t.dtype)
        x_next = x_next - 2 * scale * gradient
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def cfg_pp(denoise: Denoiser, x_t: Tensor, levels: Sequence[Level]) -> Iterator[Step]:
    """CFG++: DDIM with the guided prediction of x_0 and the *unconditional* noise.

        x_next = next.alpha * pred.x_0 + next.sigma * pred.eps_uncond,   x_0 guided with lambda     (CFG++, Algorithm 2)

    Guidance is seen as an inverse problem: x_0 moves towards the condition, and is noised again as the model would. The
    guidance scale of the denoiser is the paper's lambda, between 0 and 1: x_0 is interpolated instead of extrapolated.

    denoise must guide (a scale other than 1); x_t [B, ...] and levels: as for `ddim`. Raises ValueError for a denoiser
    without guidance. Source: Chung et al. 2024.
    """
    for i, level, next_level in step_pairs(x_t, levels):
        pred = denoise(x_t, level)
        if pred.eps_uncond is None:
            raise ValueError(
                "CFG++ needs the unconditional prediction, and this denoiser does not guide: give a condition and a "
                "guidance_scale below 1, such as 0.6."
            )
        x_next = next_level.alpha * pred.x_0 + next_level.sigma * pred.eps_uncond
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@typed_arguments
def conditional(
    mixture: GaussianMixture, known: Sequence[int], values: Sequence[float], std: float = 0.0
) -> GaussianMixture:
    """The exact posterior of a mixture's other coordinates, given some of its coordinates: again a mixture.

        weight_k' ~ weight_k N(values; mean_k[known], (std_k^2 + std^2) I)              (Bayes' rule)

    Within a component the coordinates are independent, so the means and standard deviations of the others stay.

    Args:
        mixture: of points, with means [K, D].
        known: the measured coordinates, 0 to D-1, at least one of them and not all.
        values: their measurements, one per coordinate. std: the standard deviation of the measurement's noise.

    Raises ValueError for other coordinates, and where the mixture has no probability at the measurement.
    """
    if mixture.means.ndim != 2:
        raise ValueError(f"A mixture of points has means [K, D]; got {list(mixture.means.shape)}.")
    D = mixture.means.shape[1]
    measured = [whole("a known coordinate", one, 0, D - 1) for one in known]
    others = [i for i in range(D) if i not in measured]
    if not others or len(set(measured)) < len(measured) or not measured:
        raise ValueError(f"known must be some of the coordinates 0 to {D - 1}, but not all; got {list(known)}.")
    y = float64_on_cpu("values", values).to(mixture.means.device)
    if y.shape != (len(measured),):
        raise ValueError(f"values must be one per known coordinate, [{len(measured)}]; got {list(y.shape)}.")
    variance = mixture.std**2 + number("std", std, "a standard deviation, 0 or more", 0) ** 2  # [K]
    far = (y - mixture.means[:, measured]).square().sum(1)
    weights = (mixture.weights.log() - far / (2 * variance) - len(measured) / 2 * variance.log()).softmax(0)
    check_finite(weights, "weights", "the mixture has no probability at this measurement: give a std above 0")
    return GaussianMixture(mixture.means[:, others], mixture.std, weights, mixture.classes)
