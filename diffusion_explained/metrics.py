"""Measures of the quality of samples: class accuracy, coverage, Frechet distance, diversity.

They use this package's small classifier (`models.classifier`), which was trained only on real images; its features are
the space in which sets of images are compared. Arithmetic on features is in float64, on the CPU if a device has no
float64. Whether samples are copies of training images is measured in `neighbours`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_finite,
    check_image_range,
    float_data,
    number,
    same_shape,
    typed_arguments,
    whole,
    whole_vector,
)
from diffusion_explained.data import to_float
from diffusion_explained.devices import to_float64
from diffusion_explained.models.classifier import Classifier
from diffusion_explained.noise import stream
from diffusion_explained.pretrained import load_classifier


@typed_arguments
@lru_cache(maxsize=4)
def shipped_classifier(dataset: str = "mnist", device: torch.device | str = "cpu") -> Classifier:
    """The shipped classifier that measures samples of a data set; it is loaded once and shared, so do not change it."""
    return load_classifier(f"{dataset}_classifier", device)


@torch.no_grad()
@typed_arguments
def classify(x_0: Tensor, classifier: Classifier | None = None, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The classifier's features [N, D] and logits [N, num_classes] of images [N, C, H, W] in [-1, 1].

    Images of bytes (uint8) are first converted to floats in [-1, 1]. classifier: None for the shipped one of MNIST.
    Raises ValueError for images of another shape, for NaN, and for numbers far beyond [-1, 1].
    """
    classifier = classifier or shipped_classifier()
    if x_0.ndim != 4 or tuple(x_0.shape[1:]) != tuple(classifier.image_shape) or len(x_0) == 0:
        raise ValueError(
            f"this classifier takes images [N, {', '.join(map(str, classifier.image_shape))}] with N of 1 or more; "
            f"got {list(x_0.shape)}"
        )
    batch_size = whole("batch_size", batch_size, 1)
    x_0 = to_float(x_0) if x_0.dtype == torch.uint8 else float_data("images", x_0)
    check_finite(x_0, "images")
    check_image_range(x_0)
    device = next(classifier.parameters()).device
    features = torch.cat([classifier.features(x.to(device).float()) for x in x_0.split(batch_size)])
    return features.cpu(), classifier.logits(features).cpu()


@typed_arguments
def class_accuracy(x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None) -> float:
    """The share of images [N, C, H, W], 0..1, that the classifier assigns to the requested class, labels [N]."""
    labels = _labels(labels, x_0)
    _, logits = classify(x_0, classifier)
    return int((logits.argmax(dim=1) == labels).sum()) / len(labels)


def _labels(labels: Tensor | Sequence[int], x_0: Tensor) -> Tensor:
    """Labels as int64 [N] on the CPU, one per image of x_0 [N, ...]; ValueError for anything else."""
    labels = whole_vector("labels", labels)
    if len(labels) != len(x_0):
        raise ValueError(f"{len(x_0)} images need as many labels; got {len(labels)}.")
    return labels


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


@typed_arguments
def gaussian_frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The squared Frechet (Wasserstein-2) distance between two Gaussians, means [D] and covariances [D, D].

        |mean_a - mean_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))          Heusel et al. 2017, Eq. 6

    The trace of the root needs no root of an asymmetric matrix: C_a C_b has the eigenvalues of the symmetric
    C_b^(1/2) C_a C_b^(1/2), so it is the sum of their roots (Dowson & Landau 1982).

    Raises ValueError for shapes that do not fit.
    """
    size = len(mean_a)
    for what, value, shape in (
        ("mean_a", mean_a, (size,)),
        ("mean_b", mean_b, (size,)),
        ("cov_a", cov_a, (size, size)),
        ("cov_b", cov_b, (size, size)),
    ):
        if float_data(what, value).shape != shape:
            raise ValueError(f"{what} must be {list(shape)}, as mean_a is [{size}]; got {list(value.shape)}.")
        check_finite(value, what)
    mean_a, cov_a, mean_b, cov_b = (to_float64(value) for value in (mean_a, cov_a, mean_b, cov_b))
    return _frechet_distance(mean_a, cov_a, mean_b, cov_b, matrix_root(cov_b))


def _frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor, root_b: Tensor) -> float:
    cross = torch.linalg.eigvalsh(root_b @ cov_a @ root_b).clamp(min=0).sqrt().sum()
    difference = (mean_a - mean_b).square().sum()
    return max(0.0, (difference + cov_a.trace() + cov_b.trace() - 2 * cross).item())


@typed_arguments
def matrix_root(cov: Tensor) -> Tensor:
    """The symmetric square root R of a covariance C [D, D], with R R = C, in float64.

    Raises ValueError for a matrix that is not square.
    """
    check_finite(float_data("cov", cov), "rows of the covariance")
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1]:
        raise ValueError(f"cov must be [D, D]; got {list(cov.shape)}.")
    values, vectors = torch.linalg.eigh(to_float64(cov))
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


@typed_arguments
def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """`gaussian_frechet_distance` between the Gaussians fitted to two sets of features [N, D] and [M, D].

    With the features of the Inception network this would be the FID; with the features of this package's classifier it
    is a different number, for comparisons within this package. It is biased: with few samples even two sets from the
    same distribution are far apart (`frechet_bias`), so compare only distances of the same N and M, and compare them
    with the floor that real images reach (`frechet_floor`).
    Raises ValueError for NaN, for widths D that differ, and for N or M up to D, whose covariance is singular.
    """
    for features in (features_a, features_b):
        float_data("features", features)
    if features_a.ndim != 2 or features_b.ndim != 2 or features_a.shape[1] != features_b.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D]; got {list(features_a.shape)}, {list(features_b.shape)}")
    for features in (features_a, features_b):
        check_finite(features, "features")
        if len(features) <= features.shape[1]:
            raise ValueError(
                f"{len(features)} samples are too few for the covariance of {features.shape[1]} features; "
                f"take at least {features.shape[1] + 1}, better ten times as many"
            )
    a, b = to_float64(features_a), to_float64(features_b)
    return gaussian_frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())


@typed_arguments
def frechet_spread(features_a: Tensor, features_b: Tensor, draws: int = 10, seed: int = 0) -> float:
    """The standard deviation of the distance over bootstrap draws of features_a: how it would vary with other samples.

    Each draw takes N of the N samples [N, D], with repeats (Efron 1979). features_b [M, D] are not redrawn, because all
    samples are compared with the same reference.
    """
    draws, generator, distances = whole("draws", draws, 2), stream(seed), []
    frechet_distance(features_a, features_b)  # raises ValueError for features that cannot be compared
    a, b = to_float64(features_a), to_float64(features_b)
    of_b = b.mean(0), b.T.cov(), matrix_root(b.T.cov())
    for _ in range(draws):
        drawn = a[torch.randint(len(a), (len(a),), generator=generator, device="cpu", dtype=torch.int64).to(a.device)]
        distances.append(_frechet_distance(drawn.mean(0), drawn.T.cov(), *of_b))
    return torch.tensor(distances, device="cpu", dtype=torch.float32).std().item()


@typed_arguments
def frechet_floor(features_train: Tensor, features_test: Tensor, n: int, seed: int = 0) -> float:
    """The distance of real images: between the features of n random test images and of n random training images.

    No sampler can be expected to be nearer to the training images than unseen images of the same source.

    features_train [N, D], features_test [M, D].
    """
    generator = stream(seed)
    return frechet_distance(_draw(features_train, n, generator), _draw(features_test, n, generator))


@typed_arguments
def frechet_bias(features: Tensor, sizes: Sequence[int], seed: int = 0) -> dict[int, float]:
    """The distance between two disjoint random subsets of one set of features, by subset size; without bias it were 0.

    It falls approximately as 1 / n (Binkowski et al. 2018, Section 4; Chong & Forsyth 2020, Section 2).

    features [N, D] -> {size: distance}.
    """
    generator = stream(seed)
    distances = {}
    for n in sizes:
        first, second = _draw(features, 2 * n, generator).split(n)
        distances[n] = frechet_distance(first, second)
    return distances


@typed_arguments
def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 32) -> float:
    """The sliced Wasserstein distance between two sets of N points [N, 2]; 0 if they differ only in order.

        mean over u of 1/N sum_i |sorted(a . u)_i - sorted(b . u)_i|               (Bonneel et al. 2015)

    It is the one-dimensional Wasserstein-1 distance, computed by sorting, averaged over directions u.

    Raises ValueError for other shapes, and if the numbers of points differ.
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) == 0:
        raise ValueError(f"the two sets of points must both be [N, 2]; got {list(a.shape)} and {list(b.shape)}")
    for points in (a, b):
        check_finite(points, "points")
    directions = whole("directions", directions, 1)
    a, b = to_float64(float_data("a", a)), to_float64(float_data("b", b))
    same_shape("the two sets of points", a, b)
    angles = torch.arange(directions, dtype=torch.float64, device="cpu").to(a.device) * math.pi / directions
    u = torch.stack([angles.cos(), angles.sin()])  # [2, directions]
    return float(((a @ u).sort(0).values - (b @ u).sort(0).values).abs().mean())


@typed_arguments
def mean_pairwise_distance(vectors: Tensor) -> float:
    """The mean Euclidean distance over all pairs of different rows of [N, ...].

    2 / (N (N - 1)) sum_{i < j} |v_i - v_j|

    Raises ValueError for fewer than two rows.
    """
    if vectors.ndim == 0 or len(vectors) < 2:
        raise ValueError(f"a distance needs two samples or more; got {len(vectors) if vectors.ndim else 1}")
    check_finite(float_data("samples", vectors), "samples")
    flat = to_float64(vectors).flatten(1)
    total = sum(torch.cdist(chunk, flat).sum() for chunk in flat.split(500))  # i = j adds 0
    return float(total) / (len(flat) * (len(flat) - 1))


@typed_arguments
def diversity_by_class(
    x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None
) -> dict[int, float]:
    """The diversity of each class: the mean pairwise distance of its images in the classifier's features.

    x_0 [N, C, H, W], labels [N]; every class among the labels needs two or more images.
    """
    labels = _labels(labels, x_0)
    features, _ = classify(x_0, classifier)
    return {int(label): mean_pairwise_distance(features[labels == label]) for label in labels.unique()}


@typed_arguments
def diversity(x_0: Tensor, labels: Tensor | Sequence[int], classifier: Classifier | None = None) -> float:
    """The mean of `diversity_by_class`: 0 if every class has collapsed to a single image; compare with real images.

    x_0 [N, C, H, W], labels [N].
    """
    by_class = diversity_by_class(x_0, labels, classifier)
    return sum(by_class.values()) / len(by_class)


def _draw(features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    n = whole("n", n, 1)
    if n > len(features):
        raise ValueError(f"n must be at most {len(features)}, the number of samples; got {n}.")
    return features[torch.randperm(len(features), generator=generator, device="cpu", dtype=torch.int64)[:n]]
