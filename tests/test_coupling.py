"""Optimal transport within minibatches: the assignment is the best one, and a batch keeps its noise."""

import itertools

import pytest
import torch

from diffusion_explained.noise import randn, stream
from diffusion_explained.training.coupling import assignment, coupled


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_assignment_is_the_cheapest_of_all(n):
    for seed in range(20):
        cost = torch.rand(n, n, generator=stream(seed))
        columns = assignment(cost)
        assert sorted(columns.tolist()) == list(range(n))
        best = min(sum(float(cost[i, p[i]]) for i in range(n)) for p in itertools.permutations(range(n)))
        assert float(cost[range(n), columns].sum()) == pytest.approx(best, abs=1e-5)


def test_noise_is_exchanged_within_its_batch_only_and_the_lines_become_shorter():
    noise, x_0 = randn((50, 2), stream(0)), randn((50, 2), stream(1)) + 1
    new = coupled(noise, x_0, batch_size=20)
    for part in (slice(0, 20), slice(20, 40), slice(40, 50)):
        assert torch.equal(new[part].sort(0).values, noise[part].sort(0).values)
        assert (x_0[part] - new[part]).square().sum() < (x_0[part] - noise[part]).square().sum()


def test_what_is_no_batch_of_pairs_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        coupled(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="NaN"):
        coupled(torch.full((3, 2), torch.nan), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="square"):
        assignment(torch.zeros(2, 3))
