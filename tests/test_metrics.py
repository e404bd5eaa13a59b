"""Metrics against closed forms, invariances, and samples whose measure is known; and what they refuse."""

import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from diffusion_explained.data import bundled_mnist, gaussian_modes, toy
from diffusion_explained.metrics import (
    Coverage,
    class_accuracy,
    class_coverage,
    classify,
    diversity,
    diversity_by_class,
    evaluate,
    frechet_bias,
    frechet_distance,
    frechet_floor,
    frechet_spread,
    gaussian_frechet_distance,
    mean_pairwise_distance,
    mode_coverage,
    sliced_wasserstein,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(width: int, seed: int) -> Tensor:
    a = normal(width, width + 2, seed=seed)
    return a @ a.T / width


def rotation(width: int) -> Tensor:
    return torch.linalg.qr(normal(width, width, seed=9)).Q


@pytest.fixture(scope="module")
def digits():
    """Every 20th of the bundled digits: 500 of them."""
    return bundled_mnist().subset(torch.arange(0, 10_000, 20))


class TestGaussianFrechetDistance:
    def test_one_dimension(self):
        """N(1, 2^2) and N(4, 5^2): (1 - 4)^2 + (2 - 5)^2."""
        one = torch.tensor([1.0]), torch.tensor([[4.0]])
        other = torch.tensor([4.0]), torch.tensor([[25.0]])
        assert gaussian_frechet_distance(*one, *other) == pytest.approx(18, abs=1e-12)

    def test_diagonal(self):
        """Independent coordinates add up: sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2."""
        mean, other_mean, std, other_std = normal(4, 6).abs()
        want = ((mean - other_mean) ** 2 + (std - other_std) ** 2).sum().item()
        got = gaussian_frechet_distance(mean, torch.diag(std**2), other_mean, torch.diag(other_std**2))
        assert got == pytest.approx(want, rel=1e-12)

    def test_two_dimensions_in_general(self):
        """Of a 2 x 2 matrix with positive eigenvalues, (Tr M^(1/2))^2 = Tr M + 2 sqrt(det M)."""
        a, b, zero = covariance(2, 1), covariance(2, 2), torch.zeros(2)
        trace_of_root = math.sqrt((a @ b).trace() + 2 * math.sqrt(torch.linalg.det(a @ b)))
        want = (a.trace() + b.trace()).item() - 2 * trace_of_root
        assert gaussian_frechet_distance(zero, a, zero, b) == pytest.approx(want, rel=1e-10)

    def test_against_the_eigenvalues_of_the_product(self):
        """The root of C_a C_b as Heusel et al. write it, through the eigenvalues of the asymmetric product."""
        a, b, zero = covariance(30, 1), covariance(30, 2), torch.zeros(30)
        want = (a.trace() + b.trace() - 2 * torch.linalg.eigvals(a @ b).sqrt().real.sum()).item()
        assert gaussian_frechet_distance(zero, a, zero, b) == pytest.approx(want, rel=1e-9)

    def test_is_a_distance(self):
        a, b = (normal(8, seed=3), covariance(8, 3)), (normal(8, seed=4), covariance(8, 4))
        assert gaussian_frechet_distance(*a, *a) == pytest.approx(0, abs=1e-12)
        assert gaussian_frechet_distance(*a, *b) == pytest.approx(gaussian_frechet_distance(*b, *a), rel=1e-10)
        q = rotation(8)
        turned = [(q @ mean, q @ cov @ q.T) for mean, cov in (a, b)]
        assert gaussian_frechet_distance(*turned[0], *turned[1]) == pytest.approx(
            gaussian_frechet_distance(*a, *b), rel=1e-10
        )

    def test_singular_covariance(self):
        """A point and a Gaussian: nothing but the means and the trace is left."""
        point = torch.zeros(5), torch.zeros(5, 5)
        cov = covariance(5, 1)
        assert gaussian_frechet_distance(*point, torch.ones(5), cov) == pytest.approx(5 + cov.trace().item())
        assert gaussian_frechet_distance(torch.ones(5), cov, *point) == pytest.approx(5 + cov.trace().item())


class TestFrechetDistance:
    def test_of_known_gaussians(self):
        """100,000 samples of N(0, 1) and N(0.5, 4) in 4 dimensions: 4 * (0.25 + 1)."""
        a, b = normal(100_000, 4, seed=1), 0.5 + 2 * normal(100_000, 4, seed=2)
        assert frechet_distance(a, b) == pytest.approx(5, rel=0.02)

    def test_moments_are_the_samples_own(self):
        a, b = normal(50, 3, seed=1), normal(70, 3, seed=2) * 2 + 1
        want = gaussian_frechet_distance(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
        assert frechet_distance(a, b) == want
        assert frechet_distance(a.float(), b.float()) == pytest.approx(want, rel=1e-5)

    def test_invariances(self):
        a, b = normal(200, 5, seed=1), normal(300, 5, seed=2) * 1.5 + 1
        d = frechet_distance(a, b)
        assert frechet_distance(a.flip(0), b) == pytest.approx(d, rel=1e-10), "the order of samples"
        assert frechet_distance(a + 7, b + 7) == pytest.approx(d, rel=1e-8), "the origin"
        assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * d, rel=1e-10), "it is a squared length"
        assert frechet_distance(a @ rotation(5), b @ rotation(5)) == pytest.approx(d, rel=1e-9), "the axes"

    def test_bias_falls_as_one_over_n(self):
        """Of one distribution in 16 dimensions, averaged over seeds: half as much for twice the samples."""
        samples = normal(40_000, 16)
        runs = [frechet_bias(samples, [100, 200, 400, 800], seed) for seed in range(10)]
        means = [sum(run[n] for run in runs) / len(runs) for n in (100, 200, 400, 800)]
        ratios = [larger / smaller for larger, smaller in itertools.pairwise(means)]
        assert means[0] > 0.3 and all(1.7 < ratio < 2.4 for ratio in ratios), (means, ratios)

    def test_floor(self):
        train, test = normal(3000, 6, seed=1), normal(1000, 6, seed=2)
        floor = frechet_floor(train, test, 500)
        assert floor == frechet_floor(train, test, 500), "seeded"
        assert 0 < floor < frechet_distance(train, 1.2 * test)
        assert frechet_floor(train, test, 1000) < floor, "it shrinks with n"
        with pytest.raises(ValueError, match="n must be at most 1000, the number of samples; got 1001"):
            frechet_floor(train, test, 1001)

    def test_spread_is_that_of_other_samples(self):
        """The bootstrap's standard deviation against that of twelve sets of samples that were really drawn anew."""
        reference = normal(2000, 4, seed=1)
        sets = [1.3 * normal(2000, 4, seed=seed) for seed in range(2, 14)]
        drawn_anew = torch.tensor([frechet_distance(samples, reference) for samples in sets]).std().item()
        assert 0.6 < frechet_spread(sets[0], reference) / drawn_anew < 1.6
        assert frechet_spread(sets[0], reference) == frechet_spread(sets[0], reference), "seeded"
        assert frechet_spread(sets[0][:500], reference) > 1.5 * frechet_spread(sets[0], reference)

    @pytest.mark.parametrize(
        ("a", "b", "complaint"),
        [
            (normal(5, 5), normal(50, 5), "5 samples are too few for the covariance of 5 features; take at least 6"),
            (normal(50, 5), normal(4, 5), "4 samples are too few"),
            (normal(50, 5), normal(50, 6), r"\[50, 5\], \[50, 6\]"),
            (normal(50), normal(50), r"must be \[N, D\]"),
            (normal(50, 5), torch.full((50, 5), math.nan), "50 of the 50 features hold NaN"),
        ],
    )
    def test_refuses(self, a, b, complaint):
        with pytest.raises(ValueError, match=complaint):
            frechet_distance(a, b)


class TestCoverage:
    def test_entropy(self):
        assert Coverage((5, 5, 5, 5)).entropy == pytest.approx(math.log(4))
        assert Coverage((5, 5, 5, 5)).evenness == pytest.approx(1)
        assert Coverage((9, 0, 0)).entropy == 0 and Coverage((9, 0, 0)).evenness == 0
        assert Coverage((3, 1)).entropy == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
        assert (Coverage((3, 0, 1)).reached, Coverage((0, 0)).entropy, Coverage((4,)).evenness) == (2, 0, 1)

    @pytest.mark.parametrize("name", ["eight_gaussians", "two_gaussians"])
    def test_of_the_toys(self, name):
        means, std = gaussian_modes(name)
        points, labels = toy(name, 20_000)
        covered = mode_coverage(points, means, std)
        assert covered.reached == len(means) and covered.evenness > 0.999
        assert sum(covered.counts) + covered.outside == 20_000
        assert covered.outside / 20_000 == pytest.approx(math.exp(-4.5), abs=0.003)
        one = mode_coverage(points[labels == 1], means, std)
        assert one.reached == 1 and one.evenness == 0 and one.counts[1] > 0

    def test_points_far_away_reach_nothing(self):
        means, std = gaussian_modes("eight_gaussians")
        assert mode_coverage(torch.full((7, 2), 50.0), means, std) == Coverage((0,) * 8, outside=7)
        assert mode_coverage(torch.zeros(7, 2), means, std).reached == 0, "the middle is no mode"

    def test_refuses(self):
        means, std = gaussian_modes("eight_gaussians")
        with pytest.raises(ValueError, match="do not fit"):
            mode_coverage(torch.zeros(3, 3), means, std)
        with pytest.raises(ValueError, match="above 0"):
            mode_coverage(torch.zeros(3, 2), means, 0.0)
        with pytest.raises(ValueError, match="1 of the 3 points hold NaN"):
            mode_coverage(torch.tensor([[0, 0], [math.nan, 0], [0, 0]]), means, std)


class TestPairwiseDistance:
    def test_small(self):
        """A 3-4-5 triangle: (3 + 4 + 5) / 3."""
        corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        assert mean_pairwise_distance(corners) == pytest.approx(4)
        assert mean_pairwise_distance(torch.ones(9, 1, 4, 4)) == 0

    def test_gaussian(self):
        """Of N(0, I) in D dimensions: E|x - y| = 2 Gamma((D + 1) / 2) / Gamma(D / 2); over 500, so in chunks."""
        want = 2 * math.exp(math.lgamma(5.5) - math.lgamma(5))
        assert mean_pairwise_distance(normal(1700, 10)) == pytest.approx(want, rel=0.01)

    def test_refuses(self):
        with pytest.raises(ValueError, match="two samples or more; got 1"):
            mean_pairwise_distance(torch.zeros(1, 5))
        with pytest.raises(ValueError, match="NaN"):
            mean_pairwise_distance(torch.tensor([[math.inf], [0.0]]))


class TestClasses:
    def test_real_digits(self, digits):
        x_0 = digits.to_float()
        assert class_accuracy(x_0, digits.labels) > 0.99
        assert class_accuracy(x_0, (digits.labels + 1) % 10) < 0.01
        assert class_coverage(x_0).reached == 10
        assert class_coverage(x_0[digits.labels == 3]).counts[3] > 45

    def test_noise_is_at_chance(self):
        noise = normal(500, 1, 28, 28).float().clamp(-1, 1)
        assert class_accuracy(noise, torch.arange(500) % 10) < 0.2

    def test_batches_do_not_matter(self, digits):
        x_0 = digits.to_float()[:50]
        for got, want in zip(classify(x_0, batch_size=7), classify(x_0), strict=True):
            assert torch.allclose(got, want, atol=1e-4)

    def test_diversity(self, digits):
        x_0, labels = digits.to_float(), digits.labels
        by_class = diversity_by_class(x_0, labels)
        assert sorted(by_class) == list(range(10)) and min(by_class.values()) > 0
        assert diversity(x_0, labels) == pytest.approx(sum(by_class.values()) / 10)
        features, _ = classify(x_0)
        assert by_class[4] == pytest.approx(mean_pairwise_distance(features[labels == 4]))
        collapsed = x_0[[int((labels == k).nonzero()[0]) for k in range(10)]].repeat(5, 1, 1, 1)
        assert diversity(collapsed, torch.arange(10).repeat(5)) < 1e-3 * diversity(x_0, labels)

    def test_refuses(self, digits):
        x_0 = digits.to_float()[:4]
        with pytest.raises(ValueError, match="4 images need as many labels"):
            class_accuracy(x_0, digits.labels[:3])
        with pytest.raises(ValueError, match=r"images \[N, 1, 28, 28\].*got \[4, 1, 14, 14\]"):
            class_accuracy(x_0[:, :, ::2, ::2], digits.labels[:4])
        with pytest.raises(ValueError, match="got \\[0, 1, 28, 28\\]"):
            class_coverage(x_0[:0])
        with pytest.raises(ValueError, match="1 of the 4 images hold NaN"):
            class_coverage(torch.cat([x_0[:3], torch.full((1, 1, 28, 28), math.nan)]))
        with pytest.raises(ValueError, match="two samples or more; got 1"):
            diversity(x_0, torch.tensor([0, 0, 1, 1]) + torch.tensor([0, 0, 0, 1]))


class Copier:
    """A stand-in for a model: it hands out real digits of the classes that are asked for, changed by `change`."""

    name, device = "copier", "cpu"

    def __init__(self, change=lambda x: x):
        self.dataset, self.change = bundled_mnist(), change
        self.places = [torch.nonzero(self.dataset.labels == label).flatten() for label in range(10)]

    def sample(self, labels: Tensor, *, seed: int, shift: int = 0) -> Tensor:
        indices = [self.places[label][(seed + i) % 1000] for i, label in enumerate(labels.tolist())]
        return self.change(self.dataset.batch(torch.stack(indices))[0]).roll(shift, dims=3)


@pytest.fixture
def only_the_sample(monkeypatch, tmp_path):
    """A machine with the bundled digits and no other data."""
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("only_the_sample")
class TestEvaluate:
    def test_real_digits_are_at_the_floor(self):
        drawn = []
        evaluation = evaluate(Copier(), n=400, batch_size=150, progress=lambda *done: drawn.append(done))
        assert drawn == [(150, 400), (300, 400), (400, 400)]
        assert evaluation.samples.accuracy > 0.98 and evaluation.samples.coverage.reached == 10
        assert 0.5 < evaluation.samples.frechet_distance / evaluation.frechet_floor < 2
        assert 0.8 < evaluation.samples.diversity / evaluation.real.diversity < 1.25
        assert evaluation.samples.nearest_training_image < evaluation.real.nearest_training_image, "half are copies"
        assert evaluation.real.nearest_training_image > 0, "the reference images are not those of the comparison"
        assert evaluation.unseen.startswith("other training images") and "5,000 images" in evaluation.train

    def test_a_collapsed_model(self):
        def first_only(x: Tensor) -> Tensor:
            return x[:1].expand_as(x)

        evaluation = evaluate(Copier(first_only), n=200, batch_size=200)
        assert evaluation.samples.coverage.reached == 1 and evaluation.samples.coverage.evenness == 0
        assert evaluation.samples.accuracy == 0.1 and evaluation.samples.diversity < 1e-3
        assert evaluation.samples.frechet_distance > 5 * evaluation.frechet_floor

    def test_noise(self):
        evaluation = evaluate(Copier(lambda x: normal(*x.shape).float()), n=200, batch_size=200)
        assert evaluation.samples.accuracy < 0.3
        assert evaluation.samples.frechet_distance > 5 * evaluation.frechet_floor
        assert evaluation.samples.nearest_training_image > 2 * evaluation.real.nearest_training_image

    def test_is_a_record(self):
        evaluation = evaluate(Copier(), n=200, seed=5, shift=2)
        assert evaluation.settings == {"shift": 2, "seed": 5}
        assert json.loads(json.dumps(evaluation.to_dict()))["samples"]["accuracy"] == evaluation.samples.accuracy
        assert evaluation == evaluate(Copier(), n=200, seed=5, shift=2), "seeded"
        assert evaluation == evaluate(Copier(), n=200, batch_size=33, seed=5, shift=2), "whatever the batch size"
        text = str(evaluation)
        assert "copier: 200 samples (shift 2, seed 5)" in text and "Fréchet distance" in text
        assert f"{evaluation.frechet_floor:.3f}" in text and "no FID" in text

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"n = 9000 needs 900 images of each class.*give a smaller n"):
            evaluate(Copier(), n=9000)
        unused = Copier(lambda x: pytest.fail("drew samples before refusing"))
        with pytest.raises(ValueError, match="90 samples are too few"):
            evaluate(unused, n=90)
        with pytest.raises(ValueError, match="n = 0 is too small"):
            evaluate(unused, n=0)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection_and_order_does_not_matter():
    points = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(points, points.flip(0)) == 0
    shifted = sliced_wasserstein(points, points + torch.tensor([3.0, 4.0]), directions=360)
    assert shifted == pytest.approx(5 * 2 / math.pi, rel=1e-3)  # the mean of |cos| over all directions is 2 / pi
    with pytest.raises(ValueError, match="sets of points must both be"):
        sliced_wasserstein(points, points[:10])
    with pytest.raises(ValueError, match="NaN"):
        sliced_wasserstein(points, points * math.nan)
