"""The Frechet distance between two sets of features: its spread over samples, its floor and its bias.

The arithmetic is in float64, on the CPU if a device has no float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, typed_arguments, whole
from diffusion_explained.devices import to_float64
from diffusion_explained.noise import stream


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


def _draw(features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    n = whole("n", n, 1)
    if n > len(features):
        raise ValueError(f"n must be at most {len(features)}, the number of samples; got {n}.")
    return features[torch.randperm(len(features), generator=generator, device="cpu", dtype=torch.int64)[:n]]
