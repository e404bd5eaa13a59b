"""Shapes: clouds on surfaces, a network that does not know their order, measures with a floor, and a PLY file."""

import pytest
import torch

from diffusion_explained.beyond import load_beyond
from diffusion_explained.beyond.kinds import Data
from diffusion_explained.beyond.shapes import SHAPES, SOLIDS, Draw, blobs, chamfer, clouds_ply, measure_clouds
from diffusion_explained.models import PointSet, PointSetConfig


@pytest.fixture(scope="module")
def clouds():
    """Two independent real sets of 16 clouds, with 128 points each, so that comparing them is cheap."""
    sets = [SHAPES.data(16, seed, "test") for seed in (0, 1)]
    return [Data(one.x_0[:, :128], one.labels) for one in sets]


def test_clouds_touch_the_unit_sphere_and_differ_from_draw_to_draw(clouds):
    data = SHAPES.data(16, 0)
    assert data.x_0.shape == (16, 1024, 3) and data.labels.tolist() == [i % 8 for i in range(16)]
    assert torch.allclose(data.x_0.norm(dim=-1).amax(1), torch.ones(16))
    assert chamfer(data.x_0[:8], data.x_0[8:]).min() > 1e-3  # two of one class
    assert torch.equal(data.x_0, SHAPES.data(16, 0).x_0)
    assert not torch.equal(data.x_0, SHAPES.data(16, 0, "test").x_0)


def test_points_lie_on_the_surfaces_evenly():
    draw = Draw(3, torch.Generator().manual_seed(0))
    two, one = torch.full((3,), 2.0), torch.ones(3)
    box = draw.box(two, one, one)
    assert torch.allclose(box.area, torch.full((3,), 10.0))
    on_face = (box.points.abs() - torch.tensor([1.0, 0.5, 0.5])).abs() < 1e-6
    assert on_face.any(-1).all()
    assert abs(float(on_face[..., 0].float().mean()) - 0.2) < 0.03  # two faces of ten squares
    cone = draw.cylinder(one, 0 * one, two)
    radius, height = cone.points[..., :2].norm(dim=-1), cone.points[..., 2]
    foot = height < -1 + 1e-6
    assert torch.allclose(radius[~foot], (1 - height[~foot]) / 2, atol=1e-4)
    assert abs(float(foot.float().mean()) - 1 / (1 + 5**0.5)) < 0.04  # pi r^2 of pi r (r + slope)
    torus = draw.torus(one, 0.4 * one).points
    ring = torus[..., :2].norm(dim=-1)
    assert torch.allclose((ring - 1).square() + torus[..., 2].square(), torch.tensor(0.16), atol=1e-4)
    assert abs(float((ring > 1).float().mean()) - (0.5 + 0.4 / torch.pi)) < 0.04  # Pappus


def test_the_network_does_not_know_the_order_of_the_points():
    generator = torch.Generator().manual_seed(0)
    network = PointSet(PointSetConfig(image_shape=(64, 3), width=16, depth=2, latents=6, head_width=8)).eval()
    for weight in network.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    x, t, labels = torch.randn(2, 64, 3, generator=generator), torch.tensor([100.0, 700.0]), torch.tensor([3, 8])
    order = torch.randperm(64, generator=generator)
    with torch.no_grad():
        plain, permuted = network(x, t, labels), network(x[:, order], t, labels)
        assert torch.allclose(plain[:, order], permuted, atol=1e-4)
        assert (plain[:, order] - plain).abs().max() > 0.1  # and it does not ignore its points
        assert (network(x[:, :32], t, labels) - plain[:, :32]).abs().max() > 1e-4  # a point is seen by the others
        for wrong in (torch.randn(2, 65, 3), torch.randn(2, 64, 2), torch.randn(64, 3)):
            with pytest.raises(ValueError, match="at most 64 points"):
                network(wrong, t, labels)
    with pytest.raises(ValueError, match="head_width"):
        PointSetConfig(width=20, head_width=8)


def test_chamfer_is_the_mean_of_nearest_squares_both_ways():
    a, b = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    assert chamfer(a, b).item() == pytest.approx((0 + 1) / 2 + (0 + 4 + 1) / 3, abs=1e-5)
    with pytest.raises(ValueError, match="as many of a as of b"):
        chamfer(a, b.expand(2, -1, -1))


def test_real_clouds_cannot_be_told_apart_and_blobs_can(clouds):
    one, other = clouds
    real, chance = measure_clouds(one, other), measure_clouds(blobs(one, torch.Generator().manual_seed(0)), other)
    assert real["one_nn"] < 0.8 and real["class_kept"] > 0.5
    assert chance["one_nn"] > 0.9 and chance["chamfer"] > 1.5 * real["chamfer"]
    copies = measure_clouds(other, other)
    assert copies["coverage"] == 1 and copies["chamfer"] < 1e-5
    with pytest.raises(ValueError, match="same shape"):
        measure_clouds(one, Data(other.x_0[:4], other.labels[:4]))


def test_a_ply_file_lists_every_point_once():
    lines = clouds_ply(torch.zeros(2, 5, 3), ["egg", "lamp"]).decode().splitlines()
    end = lines.index("end_header")
    assert "element vertex 10" in lines[:end] and "comment cloud 1 is of class lamp" in lines[:end]
    assert len(lines) - end - 1 == 10 and lines[end + 1] == "0.0000 0.0000 0.0000 0" and lines[-1].startswith("2.4000 ")


def test_the_shipped_network_is_the_measured_one():
    model = load_beyond("shapes")
    usual = model.card["evaluation"][0]
    assert model.class_names == tuple(SOLIDS) and model.image_shape == SHAPES.shape
    assert usual["settings"] == {**SHAPES.sampling, "guidance_scale": model.default_guidance_scale}
    assert abs(usual["samples"]["one_nn"] - 0.5) <= 0.05 and abs(usual["real"]["one_nn"] - 0.5) <= 0.05
    drawn = model.sample([4], num_inference_steps=6, sampler="dpm_solver_pp_2m", seed=0)  # a torus
    middle = drawn[0, :, :2].norm(dim=-1)
    assert (middle < 0.1).float().mean() < 0.02  # a torus has a hole
