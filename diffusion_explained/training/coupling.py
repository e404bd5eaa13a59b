"""Couplings: which noise is paired with which data point when a flow is trained.

Training usually pairs each point with noise drawn independently. The straight lines of such pairs cross, so the paths
of the flow, whose velocity is the mean of theirs, are curved. A coupling by optimal transport exchanges the noise
within a minibatch so that the lines are as short as possible: they hardly cross, and the paths become straighter
(Pooladian et al. 2023, "Multisample Flow Matching"; Tong et al. 2023, "Improving and Generalizing Flow-Based Generative
Models with Minibatch Optimal Transport").

    noise = coupled(randn(x_0.shape, generator), x_0, batch_size=128)
    train(network, x_0, None, FlowSchedule(), "flow", config, noise=noise)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, same_shape, typed_arguments, whole
from diffusion_explained.devices import to_float64


@typed_arguments
def coupled(noise: Tensor, x_0: Tensor, batch_size: int = 128) -> Tensor:
    """The noise [N, ...] in another order, so that in each batch the sum of |x_0_i - noise_i|^2 is the least possible.

    Row i of the result is the noise for x_0_i [N, ...]; a batch is `batch_size` consecutive rows.
    Raises ValueError for shapes that differ, and for values that are not finite.
    """
    batch_size = whole("batch_size", batch_size, 1)
    same_shape("noise and x_0", float_data("noise", noise), float_data("x_0", x_0))
    check_finite(noise, "points of noise")
    check_finite(x_0, "points of x_0")
    parts = []
    for some, data in zip(noise.split(batch_size), x_0.split(batch_size), strict=True):
        cost = torch.cdist(to_float64(data).flatten(1), to_float64(some).flatten(1)).square()
        parts.append(some[assignment(cost).to(some.device)])
    return torch.cat(parts)


@typed_arguments
def assignment(cost: Tensor) -> Tensor:
    """For each row of a cost matrix [N, N] its column (int64 [N]), each column once, at the least total cost.

    The Hungarian method by shortest augmenting paths, O(N^3) (Jonker & Volgenant 1987). Raises ValueError for another
    shape, and for costs that are not finite.
    """
    if float_data("cost", cost).ndim != 2 or cost.shape[0] != cost.shape[1] or len(cost) == 0:
        raise ValueError(f"cost must be a square [N, N], N of 1 or more; got {list(cost.shape)}.")
    check_finite(cost, "rows of the cost")
    c, n = to_float64(cost).cpu().numpy(), len(cost)
    of_row, of_column = np.zeros(n), np.zeros(n + 1)  # the dual prices; the last column is a place to start from
    row_of = np.full(n + 1, -1)
    for row in range(n):
        column, row_of[n] = n, row
        least, before, done = np.full(n, np.inf), np.full(n, n), np.zeros(n + 1, bool)
        while row_of[column] >= 0:  # lengthen the shortest path until it ends at a free column
            done[column] = True
            here = row_of[column]
            reduced = c[here] - of_row[here] - of_column[:n]
            closer = ~done[:n] & (reduced < least)
            least[closer], before[closer] = reduced[closer], column
            following = int(np.where(done[:n], np.inf, least).argmin())
            step = least[following]
            of_row[row_of[done]] += step
            of_column[done] -= step
            least[~done[:n]] -= step
            column = following
        while column != n:  # exchange along the path
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    columns = np.empty(n, np.int64)
    columns[row_of[:n]] = np.arange(n)
    return torch.from_numpy(columns)
