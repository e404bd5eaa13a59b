"""Denoisers that are right by construction: of a Gaussian mixture, and of a finite data set.

They are the oracle that samplers are tested against, and they show what a network is trained to approximate: the
posterior mean, a blurred guess in noise, one definite picture near the data.
"""

import math

import torch
from torch import Tensor

from diffusion_explained.denoisers import Prediction, check_guidance, guide
from diffusion_explained.forward import like
from diffusion_explained.schedules import Level


class GaussianMixture:
    """A mixture of round Gaussians, p(x_0) = sum_k weight_k N(x_0; mean_k, std_k^2 I), and all that follows exactly.

    Noised to a level it is again a mixture, of N(alpha * mean_k, (alpha * std_k)^2 + sigma^2), so the perfect denoiser
    is known. With std = 0 it is a finite data set: what a network that memorised everything would say.

    Args:
        means: [K, D...] component means (or the data points themselves).
        std: one number, or [K].
        weights: [K], or None for equal ones.
        classes: [K] class of each component (int64), for conditional denoising; None if there are no classes.
    """

    def __init__(
        self,
        means: Tensor,
        std: Tensor | float = 0.0,
        weights: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> None:
        if len(means) == 0:
            raise ValueError("A mixture needs at least one component (a data set at least one point).")
        self.means = means.double()
        self.std = torch.as_tensor(std, dtype=torch.float64).expand(len(means))
        weights = torch.ones(len(means)) if weights is None else weights.double()
        if bool((self.std < 0).any()) or bool((weights < 0).any()) or len(weights) != len(means) or weights.sum() <= 0:
            raise ValueError("Standard deviations and weights must be 0 or more, one a component, weights not all 0.")
        self.weights = weights / weights.sum()
        self.classes = classes

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n points [n, D...] (float32) and the component that each came from [n]."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.means.shape[1:], generator=generator)
        return self.means[k].float() + like(self.std[k], noise) * noise, k

    def _log_joint(self, x_t: Tensor, level: Level) -> Tensor:
        """log(weight_k * N(x_t; alpha * mean_k, variance_k I)), [B, K]."""
        variance = (level.alpha * self.std) ** 2 + level.sigma**2  # [K]
        exact = "donot_use_mm_for_euclid_dist"  # differences, not |a|^2 - 2ab + |b|^2: near a data point that is noise
        distance = torch.cdist(x_t.flatten(1).double(), level.alpha * self.means.flatten(1), compute_mode=exact) ** 2
        dimensions = x_t[0].numel()
        return self.weights.log() - distance / (2 * variance) - dimensions / 2 * (2 * math.pi * variance).log()

    def log_density(self, x_t: Tensor, level: Level) -> Tensor:
        """log p_t(x_t) [B] (natural, float64), the marginal whose gradient is the score."""
        return torch.logsumexp(self._log_joint(x_t, level), dim=1)

    def responsibilities(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """p(k | x_t) [B, K]: which component x_t came from; with labels [B], among that class's components only."""
        log_joint = self._log_joint(x_t, level)
        if labels is not None:
            log_joint = log_joint.masked_fill(self.classes[None, :] != labels[:, None], -math.inf)
        return log_joint.softmax(dim=1)

    def class_probabilities(self, x_t: Tensor, level: Level) -> Tensor:
        """p(class | x_t) [B, number of classes]: Bayes' own classifier, which no trained one can beat on this data."""
        members = torch.nn.functional.one_hot(self.classes).double()  # [K, classes]
        return self.responsibilities(x_t, level) @ members

    def x_0(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """The posterior mean E[x_0 | x_t], the best possible prediction (for a finite data set: EDM, Eq. 57).

        sum_k p(k | x_t) (mean_k + gain_k * (x_t - alpha mean_k)),
        gain_k = alpha std_k^2 / (alpha^2 std_k^2 + sigma^2)
        """
        p = self.responsibilities(x_t, level, labels)  # [B, K]
        gain = level.alpha * self.std**2 / ((level.alpha * self.std) ** 2 + level.sigma**2)  # [K]
        x_0 = (p * (1 - gain * level.alpha)) @ self.means.flatten(1) + (p @ gain)[:, None] * x_t.flatten(1)
        return x_0.reshape(x_t.shape).to(x_t.dtype)


class ExactDenoiser:
    """The perfect denoiser of a distribution that is known, as oracle and as teaching object.

    Args:
        mixture: a `GaussianMixture`, or data points [K, D...] (a mixture with std 0).
        labels: [B], one an image, to denoise towards a class; needs the mixture's classes.
        guidance_scale: as everywhere: uncond + w * (cond - uncond), 1 is off.
    """

    def __init__(
        self, mixture: GaussianMixture | Tensor, labels: Tensor | None = None, guidance_scale: float = 1.0
    ) -> None:
        check_guidance(guidance_scale)
        self.mixture = mixture if isinstance(mixture, GaussianMixture) else GaussianMixture(mixture)
        if labels is not None:
            classes = self.mixture.classes
            missing = labels.tolist() if classes is None else sorted(set(labels.tolist()) - set(classes.tolist()))
            if missing:
                raise ValueError(f"The mixture has no components of class {missing}; give it classes to condition on.")
        elif guidance_scale != 1:
            raise ValueError(f"guidance_scale={guidance_scale} needs labels to guide towards.")
        self.labels, self.guidance_scale = labels, float(guidance_scale)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The exact prediction at x_t [B, D...]; level.sigma must be above 0."""
        if level.sigma <= 0:
            raise ValueError("There is nothing to denoise at sigma = 0: ask at a level that carries noise.")

        def eps(x_0: Tensor) -> Tensor:
            return (x_t - level.alpha * x_0) / level.sigma

        cond = self.mixture.x_0(x_t, level, self.labels)
        if self.guidance_scale == 1:
            return Prediction(cond, eps(cond), eps_cond=eps(cond))
        uncond = self.mixture.x_0(x_t, level)
        x_0 = guide(cond, uncond, self.guidance_scale)
        return Prediction(x_0, eps(x_0), eps_cond=eps(cond), eps_uncond=eps(uncond))
