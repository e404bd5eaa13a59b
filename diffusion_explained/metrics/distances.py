"""Distances that need no classifier: between two sets of points in the plane, and over all pairs of a set.

The arithmetic is in float64, on the CPU if a device has no float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, same_shape, typed_arguments, whole
from diffusion_explained.devices import to_float64


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
