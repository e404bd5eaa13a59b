"""Nearest neighbours: whether samples are copies of training images, and how many real images have a sample nearby.

index, distance = nearest_training_images(samples, load_dataset("cifar10"))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, typed_arguments, whole
from diffusion_explained.data import ImageDataset, to_float
from diffusion_explained.devices import to_float64
from diffusion_explained.metrics.classes import classify
from diffusion_explained.models.classifier import Classifier


@typed_arguments
def nearest(queries: Tensor, points: Tensor, chunk: int = 2000) -> tuple[Tensor, Tensor]:
    """For each query [N, ...], the index of the nearest of the points [M, ...] and its Euclidean distance; both [N].

    Tensors of dtype uint8 are images and are converted to floats in [-1, 1] (the points in chunks). Of equally near
    points, the one with the lowest index is returned.

    Raises ValueError if queries and points differ in shape.
    """
    if queries.shape[1:] != points.shape[1:] or len(queries) == 0 or len(points) == 0:
        raise ValueError(f"queries and points do not fit: {list(queries.shape)} and {list(points.shape)}")
    chunk = whole("chunk", chunk, 1)
    check_finite(queries, "queries")
    q = _rows(queries)  # computed on the device of the queries
    best = torch.full((len(q),), math.inf, device=q.device, dtype=torch.float32)
    index = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    for start in range(0, len(points), chunk):
        p = _rows(points[start : start + chunk].to(q.device))
        distance, at = (p.square().sum(1) - 2 * q @ p.T).min(dim=1)  # + |q|^2, which no comparison needs
        closer = distance < best
        best = torch.where(closer, distance, best)
        index = torch.where(closer, at + start, index)
    # compute the distances of the nearest points again: the difference of large squares above is too inexact
    index = index.cpu()
    return index, (to_float64(q.cpu()) - to_float64(_rows(points[index].cpu()))).norm(dim=1)


@typed_arguments
def nearest_training_images(
    x_0: Tensor, dataset: ImageDataset, classifier: Classifier | None = None, *, in_features: bool = False
) -> tuple[Tensor, Tensor]:
    """The nearest training image of each image [N, C, H, W], to detect copies: its index and distance, both [N].

    The distance is Euclidean in pixels ([-1, 1]), or with `in_features` in the classifier's features, in which a
    digit shifted by one pixel is still near.
    """
    if not in_features:
        return nearest(x_0, dataset.images)
    train = torch.cat([classify(x, classifier)[0] for x, _ in dataset.batches(1000)])
    return nearest(classify(x_0, classifier)[0], train)


@typed_arguments
def neighbour_coverage(features: Tensor, real_features: Tensor, k: int = 5) -> float:
    """The share, 0..1, of real images that have a sample within the distance of their k-th nearest real neighbour.

    Features [N, D] of the samples and [M, D] of the real images. The share falls if samples miss a part of the real
    distribution, and outliers among the samples do not raise it. (Naeem et al. 2020, "Reliable Fidelity and Diversity
    Metrics for Generative Models", Eq. 4: coverage.) Other real images of the same number reach about 1 - 2^-k: 0.97 at
    k = 5.

    Raises ValueError for features of other shapes, and for k real images or fewer.
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
