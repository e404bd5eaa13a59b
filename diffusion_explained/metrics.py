"""How good samples are, in numbers: do they obey, do they cover, are they real, do they differ, are they copied.

The judge is our own small classifier (`models.classifier`), which saw only real images; what it calls its features
is the space in which crowds of images are compared. Arithmetic on features is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffusion_explained.models.classifier import Classifier
from diffusion_explained.pretrained import load_classifier


@lru_cache(maxsize=4)
def judge(dataset: str = "mnist", device: str = "cpu") -> Classifier:
    """The shipped judge of a data set's samples, loaded once and shared, so never to be changed."""
    return load_classifier(f"{dataset}_classifier", device)


@torch.no_grad()
def classify(x_0: Tensor, classifier: Classifier | None = None, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """The classifier's features [N, D] and logits [N, num_classes] of images [N, C, H, W] in [-1, 1].

    classifier: None for the shipped one of MNIST. Raises ValueError for images it does not take, or NaN in them.
    """
    classifier = classifier or judge()
    if x_0.ndim != 4 or tuple(x_0.shape[1:]) != tuple(classifier.image_shape) or len(x_0) == 0:
        raise ValueError(
            f"this classifier judges images [N, {', '.join(map(str, classifier.image_shape))}] with N of 1 or more; "
            f"got {list(x_0.shape)}"
        )
    check_finite(x_0, "images")
    device = next(classifier.parameters()).device
    features = torch.cat([classifier.features(x.to(device).float()) for x in x_0.split(batch_size)])
    return features.cpu(), classifier.logits(features).cpu()


def class_accuracy(x_0: Tensor, labels: Tensor, classifier: Classifier | None = None) -> float:
    """The share of images [N, C, H, W], 0..1, in which the classifier sees the class [N] that was asked for."""
    if labels.shape != x_0.shape[:1]:
        raise ValueError(f"{len(x_0)} images need as many labels; got a tensor of shape {list(labels.shape)}")
    _, logits = classify(x_0, classifier)
    return (logits.argmax(dim=1) == labels.cpu()).double().mean().item()


@dataclass(frozen=True)
class Coverage:
    """How a crowd is spread over classes or modes.

    counts: how many fell to each; `outside`: how many to none of them (only modes in the plane can be missed).
    """

    counts: tuple[int, ...]
    outside: int = 0

    @property
    def reached(self) -> int:
        """How many of the classes or modes have at least one."""
        return sum(count > 0 for count in self.counts)

    @property
    def entropy(self) -> float:
        """H = -sum_k p_k ln p_k in nats, p_k the share of class k among those that fell to one: ln K if even."""
        total = sum(self.counts)
        return sum(-count / total * math.log(count / total) for count in self.counts if count) + 0.0

    @property
    def evenness(self) -> float:
        """The entropy over its largest value, ln K: 1 is perfectly even, 0 is everything in one class."""
        return self.entropy / math.log(len(self.counts)) if len(self.counts) > 1 else 1.0


def class_coverage(x_0: Tensor, classifier: Classifier | None = None) -> Coverage:
    """Which classes the classifier sees in images [N, C, H, W], and how often."""
    _, logits = classify(x_0, classifier)
    return Coverage(tuple(logits.argmax(dim=1).bincount(minlength=logits.shape[1]).tolist()))


def mode_coverage(points: Tensor, means: Tensor, std: float, within: float = 3.0) -> Coverage:
    """Which of the modes [K, 2] of a toy (`data.gaussian_modes`) points [N, 2] reach.

    A point falls to its nearest mean if it is within `within` standard deviations of it. Of a perfect sampler of
    2-D Gaussians, exp(-within^2 / 2) stay outside: 1.1% at 3.
    """
    if points.ndim != 2 or means.ndim != 2 or points.shape[1] != means.shape[1] or len(points) == 0:
        raise ValueError(f"points [N, D] and means [K, D] do not fit: {list(points.shape)}, {list(means.shape)}")
    if not (std > 0 and within > 0):
        raise ValueError(f"std and within must be above 0; got {std} and {within}")
    check_finite(points, "points")
    distance, mode = torch.cdist(points.double(), means.double()).min(dim=1)
    inside = distance <= within * std
    return Coverage(tuple(mode[inside].bincount(minlength=len(means)).tolist()), int((~inside).sum()))


def gaussian_frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The squared Frechet (Wasserstein-2) distance of two Gaussians, means [D] and covariances [D, D].

        |mean_a - mean_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))          Heusel et al. 2017, Eq. 6

    The trace of the root needs no root of an asymmetric matrix: C_a C_b has the eigenvalues of the symmetric
    C_b^(1/2) C_a C_b^(1/2), so it is the sum of their roots (Dowson & Landau 1982).
    """
    return _frechet_distance(mean_a, cov_a, mean_b, cov_b, matrix_root(cov_b))


def _frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor, root_b: Tensor) -> float:
    cross = torch.linalg.eigvalsh(root_b @ cov_a.double() @ root_b).clamp(min=0).sqrt().sum()
    difference = (mean_a.double() - mean_b.double()).square().sum()
    return max(0.0, (difference + cov_a.double().trace() + cov_b.double().trace() - 2 * cross).item())


def matrix_root(cov: Tensor) -> Tensor:
    """The symmetric root R of a covariance [D, D], R R = C, in float64."""
    values, vectors = torch.linalg.eigh(cov.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """`gaussian_frechet_distance` of the Gaussians fitted to two crowds of features [N, D] and [M, D].

    In Inception's features it would be the FID; in ours it is another number, for comparisons within this package.
    It is biased: with few samples even two crowds of one distribution are far apart (`frechet_bias`), so compare
    only numbers of the same N and M, and against the floor that real images reach (`frechet_floor`).
    Raises ValueError for NaN, for widths that differ, and for N or M up to D, whose covariance is singular.
    """
    if features_a.ndim != 2 or features_b.ndim != 2 or features_a.shape[1] != features_b.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D]; got {list(features_a.shape)}, {list(features_b.shape)}")
    for features in (features_a, features_b):
        check_finite(features, "features")
        if len(features) <= features.shape[1]:
            raise ValueError(
                f"{len(features)} samples are too few for the covariance of {features.shape[1]} features; "
                f"take at least {features.shape[1] + 1}, better ten times as many"
            )
    a, b = features_a.double(), features_b.double()
    return gaussian_frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())


def frechet_spread(features_a: Tensor, features_b: Tensor, draws: int = 10, seed: int = 0) -> float:
    """How far the distance would move with other samples: its standard deviation over bootstrap draws of features_a.

    Each draw takes as many of the samples [N, D], with repeats (Efron 1979). features_b stay as they are, since
    everything that is compared is compared with the same ones.
    """
    generator, distances = torch.Generator().manual_seed(seed), []
    a, b = features_a.double(), features_b.double()
    of_b = b.mean(0), b.T.cov(), matrix_root(b.T.cov())
    for _ in range(draws):
        drawn = a[torch.randint(len(a), (len(a),), generator=generator).to(a.device)]
        distances.append(_frechet_distance(drawn.mean(0), drawn.T.cov(), *of_b))
    return torch.tensor(distances).std().item()


def frechet_floor(features_train: Tensor, features_test: Tensor, n: int, seed: int = 0) -> float:
    """What real images reach: the distance of n random test images' features to n random train images'.

    No sampler can be asked to be nearer to the train images than unseen images of the same source are.
    """
    generator = torch.Generator().manual_seed(seed)
    return frechet_distance(_draw(features_train, n, generator), _draw(features_test, n, generator))


def frechet_bias(features: Tensor, sizes: Sequence[int], seed: int = 0) -> dict[int, float]:
    """The distance between two disjoint random parts of one crowd, by the parts' size: 0 if there were no bias.

    It falls about as 1 / n (Binkowski et al. 2018, Section 4; Chong & Forsyth 2020, Section 2).
    """
    generator = torch.Generator().manual_seed(seed)
    distances = {}
    for n in sizes:
        first, second = _draw(features, 2 * n, generator).split(n)
        distances[n] = frechet_distance(first, second)
    return distances


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 32) -> float:
    """How far apart two crowds of points [N, 2] of one size are: 0 if one is the other in another order.

        mean over u of 1/N sum_i |sorted(a . u)_i - sorted(b . u)_i|               (Bonneel et al. 2015)

    The one-dimensional Wasserstein-1 distance, which sorting solves, averaged over directions u.
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) == 0:
        raise ValueError(f"two crowds of points must both be [N, 2]; got {list(a.shape)} and {list(b.shape)}")
    for points in (a, b):
        check_finite(points, "points")
    angles = torch.arange(directions, dtype=torch.float64) * math.pi / directions
    u = torch.stack([angles.cos(), angles.sin()])  # [2, directions]
    return float(((a.double() @ u).sort(0).values - (b.double() @ u).sort(0).values).abs().mean())


def mean_pairwise_distance(vectors: Tensor) -> float:
    """The mean Euclidean distance over all pairs of different rows of [N, ...].

    2 / (N (N - 1)) sum_{i < j} |v_i - v_j|
    """
    if len(vectors) < 2:
        raise ValueError(f"a distance needs two samples or more; got {len(vectors)}")
    check_finite(vectors, "samples")
    flat = vectors.flatten(1).double()
    total = sum(torch.cdist(chunk, flat).sum() for chunk in flat.split(500))  # i = j adds 0
    return float(total) / (len(flat) * (len(flat) - 1))


def diversity_by_class(x_0: Tensor, labels: Tensor, classifier: Classifier | None = None) -> dict[int, float]:
    """How much the images of each class differ: their mean pairwise distance in the classifier's features.

    x_0 [N, C, H, W], labels [N]; every class that is there needs two images or more.
    """
    features, _ = classify(x_0, classifier)
    return {int(label): mean_pairwise_distance(features[labels.cpu() == label]) for label in labels.unique()}


def diversity(x_0: Tensor, labels: Tensor, classifier: Classifier | None = None) -> float:
    """The mean of `diversity_by_class`: 0 if every class has collapsed to one picture; compare with real images."""
    by_class = diversity_by_class(x_0, labels, classifier)
    return sum(by_class.values()) / len(by_class)


def _draw(features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    if n > len(features):
        raise ValueError(f"{n} samples were asked for and there are {len(features)}")
    return features[torch.randperm(len(features), generator=generator)[:n]]


def check_finite(values: Tensor, what: str) -> None:
    bad = int((~values.flatten(1).isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"{bad} of the {len(values)} {what} hold NaN or infinity; nothing can be measured on them")
