"""The 2-D toys and drawings: scale, seeds, labels, the exact modes, and what is refused."""

import math

import pytest
import torch

from diffusion_explained.data import TOYS, from_points, from_strokes, gaussian_modes, toy
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.schedules import Level

CLASSES = {
    "moons": 2, "swiss_roll": 3, "eight_gaussians": 8, "two_gaussians": 2, "checkerboard": 8, "spiral": 2, "ring": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", TOYS)
def test_centre_and_scale(name):
    points, labels = toy(name, 40_000, seed=1)
    assert points.dtype == torch.float32 and points.shape == (40_000, 2)
    assert labels.dtype == torch.int64 and labels.shape == (40_000,)
    # 5 standard errors of a mean, and of a mean square of kurtosis at most 3
    assert (points.mean(0).abs() < 5 * points.std(0) / 200).all()
    assert abs(points.var(0).mean() - 1) < 5 * math.sqrt(2 / 40_000)
    share = labels.bincount() / 40_000
    assert len(share) == CLASSES[name]
    assert (share * CLASSES[name] - 1).abs().max() < 0.1, "the classes are equally likely"


@pytest.mark.parametrize("name", TOYS)
def test_seeds(name):
    assert torch.equal(toy(name, 50, seed=3)[0], toy(name, 50, seed=3)[0])
    assert not torch.equal(toy(name, 50, seed=3)[0], toy(name, 50, seed=4)[0])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    toy(name, 50)
    assert torch.equal(torch.get_rng_state(), before), "torch's global stream is left alone"


def test_shapes_are_what_their_names_say():
    points, labels = toy("ring", 5000)
    radius = points.norm(dim=1)
    assert abs(radius.std() / radius.mean() - 0.06) < 0.003
    angle = torch.atan2(points[:, 1], points[:, 0]) % (2 * math.pi)
    away = ((angle / (math.pi / 2)) % 1 - 0.5).abs() < 0.3  # noise moves points over the borders only
    assert torch.equal((angle[away] / (math.pi / 2)).long(), labels[away])

    points, labels = toy("checkerboard", 5000)
    square = (points * math.sqrt(4 / 3) + 2).floor().long()
    assert square.min() == 0 and square.max() == 3
    assert (square.sum(1) % 2 == 0).all(), "only squares of one colour"
    assert len({(int(x), int(y), int(label)) for (x, y), label in zip(square, labels, strict=True)}) == 8

    points, labels = toy("moons", 5000)
    top = points[labels == 0, 1].mean() - points[labels == 1, 1].mean()
    assert top > 0.5, "the first moon is the upper one"

    points, labels = toy("spiral", 5000)
    assert torch.allclose(points[labels == 0].std(0), points[labels == 1].std(0), rtol=0.1)
    assert (points[labels == 0].mean(0) + points[labels == 1].mean(0)).abs().max() < 0.1, "the arms are opposite"

    points, labels = toy("swiss_roll", 5000)
    raw = points * TOYS["swiss_roll"][2] + torch.tensor(TOYS["swiss_roll"][1])
    radius = raw.norm(dim=1)
    assert radius[labels == 0].mean() < radius[labels == 1].mean() < radius[labels == 2].mean()


@pytest.mark.parametrize("name", ["eight_gaussians", "two_gaussians"])
def test_gaussian_modes_are_the_toys_own(name):
    means, std = gaussian_modes(name)
    points, labels = toy(name, 40_000)
    for k, mean in enumerate(means):
        mine = points[labels == k]
        assert (mine.mean(0) - mean).abs().max() < 5 * std / math.sqrt(len(mine))
        assert torch.allclose(mine.std(0), torch.tensor(std), rtol=0.05)
    mixture = GaussianMixture(means, std)
    drawn, _ = mixture.sample(40_000, torch.Generator().manual_seed(0))
    clean = Level(0.0, 1.0, 0.0)
    assert abs(mixture.log_density(points, clean).mean() - mixture.log_density(drawn, clean).mean()) < 0.05


def test_what_toys_refuse():
    with pytest.raises(ValueError, match=r"unknown 2-D toy 'swissroll': did you mean 'swiss_roll' or"):
        toy("swissroll", 10)
    with pytest.raises(ValueError, match="n, the number of points, must be a whole number, 1 or more; got 0"):
        toy("moons", 0)
    with pytest.raises(ValueError, match="unknown toy made of Gaussians 'moons'"):
        gaussian_modes("moons")


def test_from_points_centres_and_scales():
    drawn = [(10, 10), (30, 10), (10, 50), (90, 70)]
    points, labels = from_points(drawn)
    assert points.dtype == torch.float32 and labels.tolist() == [0] * 4
    assert points.mean(0).abs().max() < 1e-6 and abs(points.square().mean() - 1) < 1e-6
    moved, _ = from_points(torch.tensor(drawn) * 3.0 - 500)
    assert torch.allclose(points, moved, atol=1e-6), "where and how large it was drawn does not matter"


@pytest.mark.parametrize(
    ("drawing", "complaint"),
    [
        ([], "a drawing is a list"),
        ([1.0, 2.0], "a drawing is a list"),
        ([(1, 2, 3)], "a drawing is a list"),
        ([(1.0, float("nan")), (0, 0)], "NaN or infinite"),
        ([(1.0, float("inf")), (0, 0)], "NaN or infinite"),
        ([(5, 5)], "in one place"),
        ([(5, 5)] * 9, "in one place"),
    ],
)
def test_from_points_refuses(drawing, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_points(drawing)


def test_from_strokes_is_even_along_the_strokes():
    long_one, short_one = [(0, 0), (100, 0), (300, 0)], [(0, 40), (100, 40)]
    points, labels = from_strokes([long_one, short_one], 20_000, jitter=0.0)
    assert abs((labels == 0).double().mean() - 0.75) < 0.02, "three quarters of the ink"
    along = points[labels == 0, 0]
    quarters = torch.histc(along, 4, along.min().item(), along.max().item()) / len(along)
    assert (quarters - 0.25).abs().max() < 0.02, "also over the pen's uneven sampling"
    assert points[labels == 0, 1].unique().numel() == 1
    assert torch.equal(points, from_strokes([long_one, short_one], 20_000, jitter=0.0)[0])
    wide, _ = from_strokes([long_one, short_one], 20_000, jitter=0.1)
    assert abs(wide[labels == 0, 1].std() - 0.1) < 0.01


def test_dots_are_strokes_too():
    points, labels = from_strokes([[(0, 0)], [(1, 1)]], 100, jitter=0.0)
    assert sorted(labels.unique().tolist()) == [0, 1] and points.unique(dim=0).shape == (2, 2)


@pytest.mark.parametrize(
    ("strokes", "n", "complaint"),
    [
        ([], 10, "strokes must be one or more lists"),
        ([[]], 10, "strokes must be one or more lists"),
        ([[(0, 0, 0)]], 10, "strokes must be one or more lists"),
        ([[(0, 0), (1, 1)]], 0, "n, the number of points, must be a whole number"),
        ([[(0, 0), (float("nan"), 1)]], 10, "NaN or infinite"),
        ([[(0, 0), (float("inf"), 1)]], 10, "NaN or infinite"),
        ([[(3, 3)]], 10, "in one place"),
    ],
)
def test_from_strokes_refuses(strokes, n, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_strokes(strokes, n)
