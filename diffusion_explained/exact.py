"""Exact denoisers in closed form: of a Gaussian mixture, and of a finite data set.

Samplers are tested against them, and they show what a network is trained to approximate: the posterior mean, which is a
blurred average at high noise and a single image near the data.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_data,
    check_finite,
    float_data,
    named_options,
    typed_arguments,
    whole,
    whole_vector,
)
from diffusion_explained.denoisers import Prediction, differentiable
from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.forward import add_noise, like
from diffusion_explained.guidance import check_guidance, guide
from diffusion_explained.messages import shortened
from diffusion_explained.noise import randn, stream
from diffusion_explained.predictions import target
from diffusion_explained.schedules import Level, Schedule


class GaussianMixture:
    """A mixture of isotropic Gaussians, p(x_0) = sum_k weight_k N(x_0; mean_k, std_k^2 I), with its exact denoiser.

    Noised to a level, it is again a mixture, of N(alpha * mean_k, (alpha * std_k)^2 + sigma^2), so the optimal denoiser
    has a closed form. With std = 0 it is a finite data set, and its denoiser is that of a network which memorised the
    data.

    Args:
        means: [K, D...] component means (or the data points themselves).
        std: one number, or [K].
        weights: [K], or None for equal ones.
        classes: [K] the class of each component, from 0, for conditional denoising; None if there are no classes.

    Raises ValueError for means, std, weights or classes of other shapes, and for values that define no distribution.
    """

    @named_options
    def __init__(
        self,
        means: Tensor,
        std: Tensor | float = 0.0,
        weights: Tensor | None = None,
        classes: Tensor | Sequence[int] | None = None,
    ) -> None:
        if float_data("means", means).ndim < 2 or len(means) == 0:
            raise ValueError(f"A mixture has means [K, D...] with K of 1 or more; got {list(means.shape)}.")
        check_finite(means, "means")
        self.means = to_float64(means)
        self._longest = float(self.means.flatten(1).square().sum(1).max())  # the largest squared length of a mean
        self.std = float64_on_cpu("std", std).to(self.means.device)
        given = [1.0] * len(means) if weights is None else weights
        weights = float64_on_cpu("weights", given).to(self.means.device)
        if self.std.ndim > 1 or (self.std.ndim == 1 and len(self.std) != len(means)):
            raise ValueError(f"std is one number, or one per component [{len(means)}]; got {list(self.std.shape)}.")
        self.std = self.std.expand(len(means))
        if weights.shape != (len(means),) or not bool(
            (self.std >= 0).all() & (weights >= 0).all() & (weights.sum() > 0)
        ):
            raise ValueError("Standard deviations and weights must be 0 or more, one per component, weights not all 0.")
        if classes is not None:
            classes = whole_vector("classes", classes).to(self.means.device)
            if len(classes) != len(means):
                raise ValueError(f"classes must be [{len(means)}], one per component; got {len(classes)}.")
        self.weights = weights / weights.sum()
        self.classes = classes

    @named_options
    @typed_arguments
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n points [n, D...] (float32); returns them and the component that each was drawn from [n]."""
        n = whole("n", n, 1)
        k = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        noise = randn((n, *self.means.shape[1:]), generator, self.means.device)
        k = k.to(self.means.device)
        return self.means[k].float() + like(self.std[k], noise) * noise, k

    def _beside_means(self, x_t: Tensor) -> Tensor:
        """x_t [B, D...] as float64 rows [B, D], on the device of the means."""
        if check_data("x_t", x_t).ndim < 2 or len(x_t) == 0 or x_t.shape[1:] != self.means.shape[1:]:
            raise ValueError(
                f"x_t {list(x_t.shape)} must be [B, {', '.join(map(str, self.means.shape[1:]))}], B of 1 or more."
            )
        return to_float64(x_t).flatten(1).to(self.means.device)

    def _log_joint(self, x_t: Tensor, level: Level) -> Tensor:
        """log(weight_k * N(x_t; alpha * mean_k, variance_k I)), [B, K]."""
        if not isinstance(level, Level):
            raise ValueError(
                f"level must be a Level, as a schedule gives them (schedule.level(t)); got {shortened(level)}."
            )
        variance = (level.alpha * self.std) ** 2 + level.sigma**2  # [K]
        x, means = self._beside_means(x_t), level.alpha * self.means.flatten(1)
        # |a|^2 - 2ab + |b|^2 is ten times faster than differences for pictures, but its rounding error must stay far
        # below the variance: near a data point it would dominate
        if x.shape[1] >= 64 and 1e-16 * level.alpha**2 * self._longest < 1e-7 * level.sigma**2:
            distance = x.square().sum(1, keepdim=True) - 2 * x @ means.T + means.square().sum(1)
        else:
            distance = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        dimensions = self.means[0].numel()
        return self.weights.log() - distance / (2 * variance) - dimensions / 2 * (2 * math.pi * variance).log()

    def log_density(self, x_t: Tensor, level: Level) -> Tensor:
        """The log density of x_t, log p_t(x_t) [B] (natural logarithm, float64); its gradient is the score.

        Raises ValueError for x_t of another shape, and on a CPU for NaN or infinite values.
        """
        return torch.logsumexp(self._log_joint(x_t, level), dim=1)

    def responsibilities(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """p(k | x_t) [B, K], the probability that x_t came from component k.

        With labels [B], only the components of each image's class count. Raises ValueError for labels of another
        length, and for labels if the mixture has no classes.
        """
        log_joint = self._log_joint(x_t, level)
        if labels is not None:
            labels = whole_vector("labels", labels)
            if self.classes is None or labels.shape != (len(x_t),):
                raise ValueError(f"labels are [{len(x_t)}], one per image, of a mixture with classes.")
            others = (self.classes[None, :] != labels.to(self.classes.device)[:, None]).to(log_joint.device)
            log_joint = log_joint.masked_fill(others, -math.inf)
        return log_joint.softmax(dim=1)

    def class_probabilities(self, x_t: Tensor, level: Level) -> Tensor:
        """p(class | x_t) [B, number of classes]: the Bayes classifier, the most accurate one possible on this data.

        Raises ValueError for a mixture without classes.
        """
        if self.classes is None:
            raise ValueError("This mixture has no classes: give them to GaussianMixture.")
        members = torch.nn.functional.one_hot(self.classes).to(self.means)  # [K, classes]
        return self.responsibilities(x_t, level) @ members

    def x_0(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """The posterior mean E[x_0 | x_t], the prediction of least squared error (for a finite data set: EDM, Eq. 57).

        sum_k p(k | x_t) (mean_k + gain_k * (x_t - alpha mean_k)),
        gain_k = alpha std_k^2 / (alpha^2 std_k^2 + sigma^2)
        """
        p = self.responsibilities(x_t, level, labels)  # [B, K]
        gain = level.alpha * self.std**2 / ((level.alpha * self.std) ** 2 + level.sigma**2)  # [K]
        x_0 = (p * (1 - gain * level.alpha)) @ self.means.flatten(1) + (p @ gain)[:, None] * self._beside_means(x_t)
        return x_0.reshape(x_t.shape).to(dtype=x_t.dtype).to(x_t.device)


class ExactDenoiser:
    """The exact denoiser of a known distribution, for tests and for teaching.

    Args:
        mixture: a `GaussianMixture`, or data points [K, D...] (a mixture with std 0).
        labels: [B], one per image, to denoise towards a class; needs the mixture's classes.
        guidance_scale: w of uncond + w * (cond - uncond), as in `guidance.guide`; 1 is off.

    Raises ValueError for a class that the mixture does not have, and for guidance without labels.
    """

    @named_options
    def __init__(
        self, mixture: GaussianMixture | Tensor, labels: Tensor | None = None, guidance_scale: float = 1.0
    ) -> None:
        check_guidance(guidance_scale)
        self.mixture = mixture if isinstance(mixture, GaussianMixture) else GaussianMixture(mixture)
        if labels is not None:
            labels = whole_vector("labels", labels).to(self.mixture.means.device)
            classes = self.mixture.classes
            missing = labels.tolist() if classes is None else sorted(set(labels.tolist()) - set(classes.tolist()))
            if missing:
                raise ValueError(f"The mixture has no components of class {missing}; give it classes to condition on.")
        elif guidance_scale != 1:
            raise ValueError(f"guidance_scale={guidance_scale} needs labels to guide towards.")
        self.labels, self.guidance_scale = labels, float(guidance_scale)

    @differentiable
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The exact prediction at x_t [B, D...]; level.sigma must be above 0.

        Raises ValueError at a clean level, for an empty batch, and if `level` is not a Level. NaN in x_t is
        refused on a CPU; on a GPU it carries over to the prediction, and a sampler refuses it after the step.
        """
        if not isinstance(level, Level):
            raise ValueError(
                f"level must be a Level, as a schedule gives them (schedule.level(t)); got {shortened(level)}."
            )
        if level.sigma <= 0:
            raise ValueError("There is nothing to denoise at sigma = 0: give a level with sigma above 0.")

        def eps(x_0: Tensor) -> Tensor:
            return (x_t - level.alpha * x_0) / level.sigma

        cond = self.mixture.x_0(x_t, level, self.labels)
        if self.guidance_scale == 1:
            return Prediction(cond, eps(cond), eps_cond=eps(cond))
        uncond = self.mixture.x_0(x_t, level)
        x_0 = guide(cond, uncond, self.guidance_scale)
        return Prediction(x_0, eps(x_0), eps_cond=eps(cond), eps_uncond=eps(uncond))


@typed_arguments
def tilted(
    mixture: GaussianMixture, label: int, guidance_scale: float, *, reach: float = 3.0, bins: int = 120
) -> GaussianMixture:
    """The tilted distribution in the plane that guidance is said to sample, as Gaussians on a fine grid.

        p_w(x) ~ p(x | label)^w p(x)^(1 - w),   w = guidance_scale                     (Ho & Salimans 2022, Sec. 3)

    Guidance tilts the density at each noise level by itself. The tilted densities of the levels are not the noised
    versions of one distribution, so guided samples do not have the distribution p_w; how far they are from it can be
    seen by noising p_w.

    The grid covers [-reach, reach]^2 with bins^2 cells. Raises ValueError for a mixture outside the plane or without
    the class, and for one with a standard deviation of 0, which has no density.
    """
    check_guidance(guidance_scale)
    label, bins = whole("label", label, 0), whole("bins", bins, 2, 1000)
    if tuple(mixture.means.shape[1:]) != (2,) or not bool((mixture.std > 0).all()):
        raise ValueError("Only a mixture in the plane, with means [K, 2] and std above 0, has a density on a grid.")
    member = None if mixture.classes is None else mixture.classes == label
    if member is None or not bool(member.any()):
        raise ValueError(f"The mixture has no components of class {label}; give it classes to condition on.")
    cell = 2 * reach / bins
    along = (torch.arange(bins, dtype=torch.float64, device="cpu") + 0.5) * cell - reach
    places = torch.cartesian_prod(along, along).to(mixture.means.device)
    of_class = GaussianMixture(mixture.means[member], mixture.std[member], mixture.weights[member])
    cond, uncond = (one.log_density(places, Schedule.clean) for one in (of_class, mixture))
    logs = guide(cond, uncond, guidance_scale)
    weights = (logs - logs.max()).exp()
    chosen = weights > 1e-5
    return GaussianMixture(places[chosen], cell / 2, weights[chosen])


@typed_arguments
def least_loss(
    mixture: GaussianMixture, schedule: Schedule, kind: str, *, times: int = 128, points: int = 128, seed: int = 0
) -> float:
    """The training loss of the exact denoiser, the least that any network without a condition can reach.

        E |target(x_0, eps) - target(E[x_0 | x_t], E[eps | x_t])|^2 / D,   t from schedule.sample_t       (DDPM, Eq. 14)

    It is above 0, because x_t does not determine x_0. It is estimated with `points` points at each of `times` times,
    all drawn with the seed. kind: the prediction type, as for `training.train`.
    """
    draws, total = stream(seed), 0.0
    denoise, times = ExactDenoiser(mixture), whole("times", times, 1)
    for t in schedule.sample_t(times, draws).tolist():
        level = schedule.level(t)
        x_0, _ = mixture.sample(points, draws)
        eps = randn(x_0.shape, draws, x_0.device)
        pred = denoise(add_noise(x_0, eps, level), level)
        true, best = (target(kind, *pair, level.alpha, level.sigma) for pair in ((x_0, eps), (pred.x_0, pred.eps)))
        total += float((true - best).square().mean())
    return total / times
