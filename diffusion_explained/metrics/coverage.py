"""How samples are distributed over classes, or over the modes of a toy distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, number, typed_arguments
from diffusion_explained.devices import to_float64
from diffusion_explained.metrics.classes import classify
from diffusion_explained.models.classifier import Classifier


@dataclass(frozen=True)
class Coverage:
    """How samples are distributed over classes or modes.

    counts: the number of samples of each; outside: the number that belong to none (possible only for modes).
    """

    counts: tuple[int, ...]
    outside: int = 0

    @property
    def reached(self) -> int:
        """The number of classes or modes with at least one sample."""
        return sum(count > 0 for count in self.counts)

    @property
    def entropy(self) -> float:
        """H = -sum_k p_k ln p_k in nats, p_k the share of class k among the samples of all classes; ln K if even."""
        total = sum(self.counts)
        return sum(-count / total * math.log(count / total) for count in self.counts if count) + 0.0

    @property
    def evenness(self) -> float:
        """The entropy divided by its largest value, ln K: 1 is perfectly even, 0 is all samples in one class."""
        return self.entropy / math.log(len(self.counts)) if len(self.counts) > 1 else 1.0


@typed_arguments
def class_coverage(x_0: Tensor, classifier: Classifier | None = None) -> Coverage:
    """How images [N, C, H, W] are distributed over the classes that the classifier assigns to them."""
    _, logits = classify(x_0, classifier)
    return Coverage(tuple(logits.argmax(dim=1).bincount(minlength=logits.shape[1]).tolist()))


@typed_arguments
def mode_coverage(points: Tensor, means: Tensor, std: float, within: float = 3.0) -> Coverage:
    """How points [N, 2] are distributed over the modes, means [K, 2], of a toy distribution (`data.gaussian_modes`).

    A point belongs to its nearest mean if it is at most `within` standard deviations away. For exact samples of 2-D
    Gaussians, a share of exp(-within^2 / 2) is outside: 1.1% at 3.

    Raises ValueError for shapes that do not fit, and for a std or within of 0 or less.
    """
    if points.ndim != 2 or means.ndim != 2 or points.shape[1] != means.shape[1] or len(points) == 0:
        raise ValueError(f"points [N, D] and means [K, D] do not fit: {list(points.shape)}, {list(means.shape)}")
    std, within = (number(what, value, "a number, 0 or more", 0) for what, value in (("std", std), ("within", within)))
    if not (std > 0 and within > 0):
        raise ValueError(f"std and within must be above 0; got {std} and {within}")
    for values, what in ((points, "points"), (means, "means")):
        check_finite(float_data(what, values), what)
    distance, mode = torch.cdist(to_float64(points), to_float64(means).to(to_float64(points).device)).min(dim=1)
    inside = distance <= within * std
    return Coverage(tuple(mode[inside].bincount(minlength=len(means)).tolist()), int((~inside).sum()))
