"""Guidance: combine a conditional and an unconditional output into one output, by several published rules.

`denoisers.NetworkDenoiser` evaluates the network for both and calls `guide`; `exact` does so with its closed forms.
`denoisers.GuidedDenoiser` applies any of the rules to two denoisers: a conditional and an unconditional one, or a good
and a weaker network (autoguidance: Karras et al. 2024, Eq. 3, which is `guide` with the weaker network as uncond).
"""

import math

import torch
from torch import Tensor

from diffusion_explained.checks import float_data, number, same_shape
from diffusion_explained.messages import shortened

MAX_GUIDANCE_SCALE = 100.0  # far beyond any use: images are oversaturated from 10 or 20 on
TINY = 1e-12  # for quotients of norms: below it, an image is constant 0
MIDDLE = (0.2, 3.0)  # middle noise levels in sigma/alpha: the guidance_interval that benchmarks/quality.py measures


def guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, uncond + w * (cond - uncond).

    w = 1 turns guidance off and w = 0 is unconditional: the convention of Imagen, Eq. 2, and of Stable Diffusion. (The
    first paper, Ho & Salimans, Eq. 6, writes (1 + w') * cond - w' * uncond, so its w' is w - 1.)

    cond and uncond are outputs [B, ...] of the same shape. NaN in them carries over to the result: a sampler refuses
    it after the step. Raises ValueError for other shapes, and for a guidance scale out of range.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    check_guidance(guidance_scale)
    return uncond + guidance_scale * (cond - uncond)


def projected_guide(
    cond: Tensor,
    uncond: Tensor,
    guidance_scale: float,
    *,
    parallel: float = 0.0,
    most_norm: float | None = None,
) -> Tensor:
    """Adaptive projected guidance (APG): guide with the part of the difference that is orthogonal to cond.

        d = (cond - uncond) * min(1, r / |cond - uncond|),   d_par = cond (d . cond) / |cond|^2
        cond + (w - 1) (d - d_par + eta d_par)                          (Sadat et al. 2024, Sec. 4 and Algorithm 1)

    The parallel part mostly raises contrast. Norms and products are per image. The paper applies the rule to
    predictions of x_0. It also averages d over steps with a negative momentum; a denoiser has no memory of earlier
    steps, so the momentum is left out here.

    Args:
        cond, uncond: predictions [B, ...]. guidance_scale: w; 1 is off.
        parallel: eta, the share of the parallel part that is kept; 1 (with most_norm None) is `guide`.
        most_norm: r, the largest norm of the difference; None for no limit.

    Raises ValueError for other shapes and for numbers out of range; NaN carries over to the result.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    check_guidance(guidance_scale)
    eta, difference = number("parallel", parallel, "from 0 to 1", 0, 1), cond - uncond
    if most_norm is not None:
        r = number("most_norm", most_norm, "a norm of 0 or more, or None for no limit", 0)
        norm = _product(difference, difference).sqrt()
        difference = difference * (r / norm.clamp(min=TINY)).clamp(max=1)
    along = cond * (_product(difference, cond) / _product(cond, cond).clamp(min=TINY))
    return cond + (guidance_scale - 1) * (difference - along + eta * along)


def zero_star_guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """CFG-Zero*: scale uncond to fit cond best before guiding, for velocities of a flow.

        s = (cond . uncond) / |uncond|^2,   s uncond + w (cond - s uncond)      (Fan et al. 2025, Eq. 9 and Algorithm 1)

    s, one number per image, minimises |cond - s uncond|. The paper also sets the velocity to 0 in the first steps of a
    network that is not trained to the end; that part is left out here.

    cond and uncond are velocities [B, ...]; guidance_scale is w, and 1 is off. Raises ValueError as `guide` does.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    fitted = uncond * (_product(cond, uncond) / _product(uncond, uncond).clamp(min=TINY))
    return guide(cond, fitted, guidance_scale)


def sides(cond: Tensor, uncond: Tensor) -> Tensor:
    """The triangle that both predictions span: three lengths per image, from which it can be drawn to measure.

    (|uncond|, <cond - uncond, uncond> / |uncond|, |the part of cond - uncond across uncond|), each / sqrt(number of
    values), so that noise of variance 1 has length 1.

    cond and uncond are [B, ...]; returns [B, 3]. Raises ValueError for shapes that differ.
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    base, difference = uncond.flatten(1), (cond - uncond).flatten(1)
    length = base.norm(dim=1)
    along = (difference * base).sum(1) / length.clamp(min=TINY)
    across = (difference.square().sum(1) - along.square()).clamp(min=0).sqrt()
    return torch.stack([length, along, across], dim=1) / base.shape[1] ** 0.5


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The inner products of images [B, ...], shaped [B, 1, ...] to multiply them."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def rescale_guided(guided: Tensor, cond: Tensor, guidance_rescale: float) -> Tensor:
    """Rescale the guided output towards the contrast of the conditional output (Lin et al. 2023, Eq. 15-16).

        guided * (1 - phi + phi * std(cond) / std(guided)),   with the standard deviations per image

    phi = guidance_rescale: 0 is off, 0.7 is the paper's choice. A constant output (std 0) is returned unchanged.
    Raises ValueError for images of a single number, which have no standard deviation.

    guided and cond are [B, ...]; NaN in them carries over to the result, as for `guide`.
    """
    same_shape("guided and cond", float_data("guided", guided), float_data("cond", cond))
    phi = number("guidance_rescale", guidance_rescale, "from 0 (off) to 1", 0, 1)
    if len(guided) == 0 or guided[0].numel() < 2:
        raise ValueError("guidance_rescale compares the contrasts of images, and an image of one number has none.")
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdim=True)
    flat = spread < 1e-12
    ratio = torch.where(flat, 1.0, cond.std(axes, keepdim=True) / torch.where(flat, 1.0, spread))
    return guided * (phi * ratio + (1 - phi))


def check_guidance(scale: float, interval: tuple[float, float] | None = None, rescale: float = 0.0) -> None:
    """Raise ValueError for a guidance scale, interval or rescale out of range."""
    number(
        "guidance_scale", scale, f"a finite number from 0 to {MAX_GUIDANCE_SCALE:g} (1 is off)", 0.0, MAX_GUIDANCE_SCALE
    )
    if interval is not None:
        try:
            low, high = (float(end) for end in interval)
        except (TypeError, ValueError):
            low = high = math.nan
        if not 0 <= low < high:
            raise ValueError(
                f"guidance_interval must be (low, high) in sigma/alpha with 0 <= low < high; got {shortened(interval)}."
            )
    number("guidance_rescale", rescale, "from 0 (off) to 1", 0.0, 1.0)
