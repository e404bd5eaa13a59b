"""Nearest neighbours against brute force, and the coverage of neighbourhoods for samples whose coverage is known."""

import math

import pytest
import torch
from test_metrics import normal

from diffusion_explained.data import bundled_mnist
from diffusion_explained.metrics import nearest, nearest_training_images, neighbour_coverage


@pytest.fixture(scope="module")
def digits():
    """Every 20th of the bundled digits: 500 of them."""
    return bundled_mnist().subset(torch.arange(0, 10_000, 20))


class TestNearest:
    def test_is_brute_force(self):
        queries, points = normal(40, 7, seed=1).float(), normal(500, 7, seed=2).float()
        distances = (queries[:, None].double() - points[None].double()).norm(dim=2)
        for chunk in (1, 64, 1000):
            index, distance = nearest(queries, points, chunk)
            assert torch.equal(index, distances.argmin(1))
            assert torch.allclose(distance, distances.min(1).values, atol=1e-12)

    def test_bytes_are_images(self, digits):
        copies = digits.to_float()[[7, 300]]
        index, distance = nearest_training_images(copies, digits)
        assert index.tolist() == [7, 300] and distance.tolist() == [0, 0]
        changed = copies.clone()
        changed[:, :, 0, 0] += 0.5
        index, distance = nearest_training_images(changed, digits)
        assert index.tolist() == [7, 300] and distance.tolist() == pytest.approx([0.5, 0.5])

    def test_ties_go_to_the_first(self):
        assert nearest(torch.zeros(1, 2), torch.ones(5, 2), chunk=2)[0].tolist() == [0]

    def test_in_features_a_moved_digit_is_near(self, digits):
        """Moved by one pixel, far more digits are still recognised by their features than by their pixels."""
        moved = digits.to_float()[::10].roll(1, dims=3)
        itself = torch.arange(0, 500, 10)
        by_pixels = (nearest_training_images(moved, digits)[0] == itself).double().mean()
        by_features = (nearest_training_images(moved, digits, in_features=True)[0] == itself).double().mean()
        assert by_features > 0.9 and by_features > by_pixels

    def test_refuses(self):
        with pytest.raises(ValueError, match="do not fit"):
            nearest(torch.zeros(3, 4), torch.zeros(3, 5))
        with pytest.raises(ValueError, match="do not fit"):
            nearest(torch.zeros(3, 4), torch.zeros(0, 4))
        with pytest.raises(ValueError, match="NaN"):
            nearest(torch.full((3, 4), math.nan), torch.zeros(3, 4))


class TestNeighbourCoverage:
    def test_real_images_reach_nearly_all(self):
        """1 - 2^-k of the neighbourhoods, whatever the distribution (Naeem et al. 2020, Section 3.3)."""
        for k in (1, 3, 5):
            covered = neighbour_coverage(normal(3000, 8, seed=1), normal(3000, 8, seed=2), k)
            assert covered == pytest.approx(1 - 2**-k, abs=0.03)

    def test_a_missed_half_is_missed(self):
        real = torch.cat([normal(1000, 4, seed=1), 50 + normal(1000, 4, seed=2)])
        one_half = normal(2000, 4, seed=3)
        assert neighbour_coverage(one_half, real) == pytest.approx(0.5, abs=0.02)
        assert neighbour_coverage(one_half + 1000, real) == 0

    def test_is_brute_force(self):
        samples, real, k = normal(60, 3, seed=1), normal(80, 3, seed=2), 4
        among = (real[:, None] - real[None]).norm(dim=2).sort(dim=1).values[:, k]  # the 0th is the image itself
        reached = ((real[:, None] - samples[None]).norm(dim=2) <= among[:, None]).any(dim=1)
        assert neighbour_coverage(samples, real, k) == reached.double().mean().item()

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"M above k = 5; got \[3, 2\], \[5, 2\]"):
            neighbour_coverage(torch.zeros(3, 2), torch.zeros(5, 2))
        with pytest.raises(ValueError, match="NaN"):
            neighbour_coverage(torch.full((9, 2), math.nan), torch.zeros(9, 2))
