"""Who is near whom: whether samples are copies of training images, and whether all that is real has a sample near it.

index, distance = nearest_training_images(samples, load_dataset("cifar10"))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, whole
from diffusion_explained.data import ImageDataset, to_float
from diffusion_explained.devices import to_float64
from diffusion_explained.metrics import classify
from diffusion_explained.models.classifier import Classifier


def nearest(queries: Tensor, points: Tensor, chunk: int = 2000) -> tuple[Tensor, Tensor]:
    """For each query [N, ...] the index of its nearest point of [M, ...], and its Euclidean distance; both [N].

    What is of dtype uint8 is images and becomes floats in [-1, 1], points a chunk at a time. Ties go to the lowest
    index.

    Raises ValueError for rows of two sizes.
    """
    if queries.shape[1:] != points.shape[1:] or len(queries) == 0 or len(points) == 0:
        raise ValueError(f"queries and points do not fit: {list(queries.shape)} and {list(points.shape)}")
    chunk = whole("chunk", chunk, 1)
    check_finite(queries, "queries")
    q = _rows(queries)  # the work is done where the queries are
    best = torch.full((len(q),), math.inf, device=q.device, dtype=torch.float32)
    index = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    for start in range(0, len(points), chunk):
        p = _rows(points[start : start + chunk].to(q.device))
        distance, at = (p.square().sum(1) - 2 * q @ p.T).min(dim=1)  # + |q|^2, which no comparison needs
        closer = distance < best
        best = torch.where(closer, distance, best)
        index = torch.where(closer, at + start, index)
    # the winners' distances anew: the difference of large squares above is too coarse to report
    index = index.cpu()
    return index, (to_float64(q.cpu()) - to_float64(_rows(points[index].cpu()))).norm(dim=1)


def nearest_training_images(
    x_0: Tensor, dataset: ImageDataset, classifier: Classifier | None = None, *, in_features: bool = False
) -> tuple[Tensor, Tensor]:
    """Is it a copy? The nearest training image of each image [N, C, H, W]: its index and distance, both [N].

    The distance is Euclidean in pixels ([-1, 1]), or with `in_features` in the classifier's features, where a
    digit moved by a pixel is still near.
    """
    if not in_features:
        return nearest(x_0, dataset.images)
    train = torch.cat([classify(x, classifier)[0] for x, _ in dataset.batches(1000)])
    return nearest(classify(x_0, classifier)[0], train)


def neighbour_coverage(features: Tensor, real_features: Tensor, k: int = 5) -> float:
    """The share, 0..1, of real images that have a sample within the distance of their k-th nearest real neighbour.

    Features [N, D] of the samples and [M, D] of the real images. It falls when samples miss a part of what is real,
    and does not rise when they lie far outside. (Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for
    Generative Models", Eq. 4: coverage.) Real images against as many others reach about 1 - 2^-k: 0.97 at 5.

    Raises ValueError for features of other shapes, or of k real images or fewer.
    """
    k = whole("k", k, 1)
    for values in (features, real_features):
        float_data("features", values)
    if features.ndim != 2 or features.shape[1:] != real_features.shape[1:] or not k < len(real_features):
        raise ValueError(
            f"features must be [N, D] and [M, D] with M above k = {k}; "
            f"got {list(features.shape)}, {list(real_features.shape)}"
        )
    for values in (features, real_features):
        check_finite(values, "features")
    covered = 0
    for real in real_features.split(2000):
        radius = torch.cdist(real, real_features).kthvalue(k + 1, dim=1).values  # the nearest is the image itself
        covered += int((torch.cdist(real, features).amin(dim=1) <= radius).sum())
    return covered / len(real_features)


def _rows(points: Tensor) -> Tensor:
    return (to_float(points) if points.dtype == torch.uint8 else float_data("points", points).float()).flatten(1)
