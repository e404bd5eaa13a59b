"""Shapes: clouds of 1,024 points on the surfaces of solids and of simple furniture, all made by code.

A solid is a list of parts: boxes, cylinders, cones, an ellipsoid or a torus, of random proportions. Points are drawn
evenly over the surface (each part in proportion to its area); parts that touch keep their inner faces. Then the shape
is turned about its vertical axis z by a random angle, centred, and scaled to touch the unit sphere.

The order of the points means nothing. Two clouds P and Q are compared by the Chamfer distance (Fan et al. 2017, "A
Point Set Generation Network for 3D Object Reconstruction from a Single Image", Section 3.2), here with squares:

    CD(P, Q) = mean over p of min over q |p - q|^2  +  mean over q of min over p |p - q|^2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_explained.beyond.kinds import Data, Kind
from diffusion_explained.checks import float_data, same_shape, typed_arguments
from diffusion_explained.devices import choose_device

POINTS = 1024
SPACING = 2.4  # between two clouds of one file; each has a diameter of 2
CHUNK = 256  # shapes made, or pairs compared, at once


class Part(NamedTuple):
    """Points on the surface of a part of each of n shapes, [n, 1024, 3], and the surface's area [n]."""

    points: Tensor
    area: Tensor


class Draw:
    """Random numbers for n shapes."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator = n, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers between low and high, [n, *shape]."""
        u = torch.rand(self.n, *shape, generator=self.generator, device="cpu", dtype=torch.float32)
        return low + (high - low) * u

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, [n, *shape]."""
        return torch.randn(self.n, *shape, generator=self.generator, device="cpu", dtype=torch.float32)

    def choice(self, weights: Tensor) -> Tensor:
        """1,024 indices per shape, [n, 1024], in proportion to weights [n, K]."""
        return torch.multinomial(weights, POINTS, replacement=True, generator=self.generator)

    # -- parts, centred at 0 unless an offset [n, 3] is given; sizes are [n] --------------------------------------

    def box(self, x: Tensor, y: Tensor, z: Tensor, at: Tensor | float = 0.0) -> Part:
        """A box with sides x, y and z, [n] each."""
        sides = torch.stack([x, y, z], dim=-1)  # [n, 3]
        faces = torch.stack([y * z, x * z, x * y], dim=-1)  # the area of a face across each axis
        across = self.choice(faces)[..., None] == torch.arange(3, device="cpu", dtype=torch.int64)  # [n, 1024, 3]
        place = self.uniform(-0.5, 0.5, POINTS, 3)
        place = torch.where(across, 0.5 * place.sign(), place) * sides[:, None]
        return Part(place + _offset(at), 2 * faces.sum(-1))

    def cylinder(self, low: Tensor, high: Tensor, height: Tensor, at: Tensor | float = 0.0) -> Part:
        """A cylinder, or a cone, with the radii `low` at its foot and `high` at its top, both closed; all [n]."""
        slope = ((low - high).square() + height.square()).sqrt()
        areas = torch.stack([low.square(), high.square(), (low + high) * slope], dim=-1) * math.pi
        which = self.choice(areas)  # [n, 1024]: foot, top or side
        u, angle = self.uniform(0, 1, POINTS), self.uniform(0, 2 * math.pi, POINTS)
        low, high, height = low[:, None], high[:, None], height[:, None]
        # on the side the radius is linear in the height, and its density proportional to the radius
        side = (low.square() + u * (high.square() - low.square())).sqrt()
        rise = torch.where((high - low).abs() < 1e-4, u, (side - low) / (high - low + 1e-12))
        radius = torch.where(which == 2, side, torch.where(which == 0, low, high) * u.sqrt())
        z = torch.where(which == 2, rise, (which == 1).float()) - 0.5
        points = torch.stack([radius * angle.cos(), radius * angle.sin(), z * height], dim=-1)
        return Part(points + _offset(at), areas.sum(-1))

    def ellipsoid(self, x: Tensor, y: Tensor, z: Tensor) -> Part:
        """A sphere with even points, stretched to the radii x, y and z [n]; its area counts as 1."""
        points = torch.nn.functional.normalize(self.normal(POINTS, 3), dim=-1)
        return Part(points * torch.stack([x, y, z], dim=-1)[:, None], torch.ones_like(x))

    def torus(self, ring: Tensor, tube: Tensor) -> Part:
        """A torus about z with the radii `ring` and `tube`, [n] each."""
        ring, tube = ring[:, None], tube[:, None]
        angle, candidates = self.uniform(0, 2 * math.pi, POINTS), self.uniform(0, 2 * math.pi, 8 * POINTS)
        around = candidates.gather(1, self.choice(ring + tube * candidates.cos()))  # the outside has more surface
        radius = ring + tube * around.cos()
        points = torch.stack([radius * angle.cos(), radius * angle.sin(), tube * around.sin()], dim=-1)
        return Part(points, torch.ones_like(ring[:, 0]))


def _offset(at: Tensor | float) -> Tensor | float:
    return at[:, None] if isinstance(at, Tensor) else at


def _at(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.stack([x, y, z], dim=-1)


def _legs(draw: Draw, x: Tensor, y: Tensor, thick: Tensor, height: Tensor) -> list[Part]:
    """Four legs at the corners of a rectangle x by y, from z = 0 down to -height."""
    corners = [(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
    return [draw.box(thick, thick, height, _at(a * (x - thick), b * (y - thick), -height / 2)) for a, b in corners]


def _egg(draw: Draw) -> list[Part]:
    return [draw.ellipsoid(*(draw.uniform(0.45, 1) for _ in range(3)))]


def _box(draw: Draw) -> list[Part]:
    return [draw.box(*(draw.uniform(0.4, 1) for _ in range(3)))]


def _cylinder(draw: Draw) -> list[Part]:
    radius = draw.uniform(0.25, 0.7)
    return [draw.cylinder(radius, radius, draw.uniform(0.5, 1.6))]


def _cone(draw: Draw) -> list[Part]:
    radius = draw.uniform(0.35, 0.8)
    return [draw.cylinder(radius, 0 * radius, draw.uniform(0.7, 1.6))]


def _torus(draw: Draw) -> list[Part]:
    return [draw.torus(draw.uniform(0.6, 0.8), draw.uniform(0.12, 0.4))]


def _chair(draw: Draw) -> list[Part]:
    x, y, thick, leg = (
        draw.uniform(0.7, 1.1),
        draw.uniform(0.7, 1.1),
        draw.uniform(0.06, 0.14),
        draw.uniform(0.07, 0.14),
    )
    height, back = draw.uniform(0.5, 1.0), draw.uniform(0.5, 1.2)
    seat = draw.box(x, y, thick, _at(0 * x, 0 * x, thick / 2))
    rest = draw.box(x, thick, back, _at(0 * x, (y - thick) / 2, thick + back / 2))
    return [seat, rest, *_legs(draw, x, y, leg, height)]


def _table(draw: Draw) -> list[Part]:
    x, y, thick, leg = (
        draw.uniform(0.9, 1.8),
        draw.uniform(0.7, 1.1),
        draw.uniform(0.06, 0.14),
        draw.uniform(0.07, 0.16),
    )
    top = draw.box(x, y, thick, _at(0 * x, 0 * x, thick / 2))
    return [top, *_legs(draw, x, y, leg, draw.uniform(0.5, 1.0))]


def _lamp(draw: Draw) -> list[Part]:
    foot, pole, height = draw.uniform(0.3, 0.5), draw.uniform(0.03, 0.06), draw.uniform(0.8, 1.5)
    low, shade = draw.uniform(0.35, 0.65), draw.uniform(0.3, 0.6)
    high, zero = low * draw.uniform(0.3, 0.9), 0 * foot
    return [
        draw.cylinder(foot, foot, 0.08 + zero),
        draw.cylinder(pole, pole, height, _at(zero, zero, height / 2)),
        draw.cylinder(low, high, shade, _at(zero, zero, height)),
    ]


SOLIDS: dict[str, Callable[[Draw], list[Part]]] = {
    "egg": _egg,
    "box": _box,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
    "chair": _chair,
    "table": _table,
    "lamp": _lamp,
}


def solids(n: int, generator: torch.Generator, split: str = "train") -> Data:
    """n clouds, float [n, 1024, 3] in the unit ball, cloud i of class i % 8; every draw has proportions of its own."""
    labels = torch.arange(n, device="cpu", dtype=torch.int64) % len(SOLIDS)
    clouds = torch.empty(n, POINTS, 3, device="cpu", dtype=torch.float32)
    for label, parts_of in enumerate(SOLIDS.values()):
        for chosen in (labels == label).nonzero()[:, 0].split(CHUNK):
            draw = Draw(len(chosen), generator)
            parts = parts_of(draw)
            which = draw.choice(torch.stack([part.area for part in parts], dim=-1))  # [n, 1024]
            points = torch.stack([part.points for part in parts], dim=1)  # [n, parts, 1024, 3]
            points = points.gather(1, which[:, None, :, None].expand(-1, 1, -1, 3))[:, 0]
            clouds[chosen] = upright(points, draw.uniform(0, 2 * math.pi))
    return Data(clouds, labels)


def upright(points: Tensor, angle: Tensor) -> Tensor:
    """Clouds [n, N, 3], turned about z by angle [n], centred, and scaled so that the farthest point has distance 1."""
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).unflatten(1, (2, 2))
    turned = torch.cat([points[..., :2] @ turn.transpose(1, 2), points[..., 2:]], dim=-1)
    centred = turned - (turned.amax(1, keepdim=True) + turned.amin(1, keepdim=True)) / 2
    return centred / centred.norm(dim=-1).amax(1)[:, None, None]


@torch.no_grad()
@typed_arguments
def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """The Chamfer distance of each pair of clouds: a [B, N, D] and b [B, M, D] -> [B].

    Raises ValueError for clouds that are no pairs.
    """
    float_data("a", a)
    float_data("b", b)
    if a.ndim != 3 or b.ndim != 3 or a.shape[::2] != b.shape[::2]:
        raise ValueError(f"Clouds are [B, points, D], as many of a as of b; got {list(a.shape)} and {list(b.shape)}.")
    squares = torch.cdist(a, b).square()  # [B, N, M]
    return squares.amin(2).mean(1) + squares.amin(1).mean(1)


@typed_arguments
def chamfer_table(a: Tensor, b: Tensor) -> Tensor:
    """The Chamfer distances of every cloud of a [A, N, D] to every one of b [B, M, D] -> [A, B]."""
    device = choose_device("auto")
    b = b.to(device)
    rows = [
        torch.cat([chamfer(one.to(device).expand(len(part), -1, -1), part) for part in b.split(CHUNK)]) for one in a
    ]
    return torch.stack(rows).cpu()


@typed_arguments
def measure_clouds(data: Data, reference: Data) -> dict[str, float]:
    """How clouds, float [N, 1024, 3], compare with as many real ones, by the Chamfer distance.

    one_nn: the accuracy of the 1-nearest-neighbour classifier that tells the two sets apart, each cloud left out in
    turn: 0.5 is the best, 1 the worst (Yang et al. 2019, "PointFlow", Section 5.1; Lopez-Paz & Oquab 2017). coverage:
    the share of real clouds that are the nearest real one of some cloud. chamfer: the mean distance of a real cloud to
    the nearest one. class_kept: the share of clouds whose nearest real cloud has their class.

    Raises ValueError unless both sets have the same shape.
    """
    same_shape("the clouds and the reference", data.x_0, reference.x_0)
    n = len(data.x_0)
    across = chamfer_table(data.x_0, reference.x_0)
    within = [chamfer_table(one, one).fill_diagonal_(math.inf) for one in (data.x_0, reference.x_0)]
    table = torch.cat([torch.cat([within[0], across], 1), torch.cat([across.T, within[1]], 1)])
    nearest = table.argmin(1)
    same = (nearest < n) == (torch.arange(2 * n, device="cpu", dtype=torch.int64) < n)
    chosen = across.argmin(1)
    return {
        "one_nn": float(same.float().mean()),
        "coverage": len(chosen.unique()) / n,
        "chamfer": float(across.amin(0).mean()),
        "class_kept": float((reference.labels[chosen] == data.labels).float().mean()),
    }


def blobs(data: Data, generator: torch.Generator) -> Data:
    """Chance: normally distributed points with the mean and the covariance of each cloud, and the labels exchanged."""
    x_0 = data.x_0
    mean = x_0.mean(1, keepdim=True)
    centred = x_0 - mean
    covariance = centred.transpose(1, 2) @ centred / x_0.shape[1]
    noise = torch.randn(x_0.shape, generator=generator, device="cpu", dtype=torch.float32)
    order = torch.randperm(len(x_0), generator=generator, device="cpu", dtype=torch.int64)
    return Data(mean + noise @ torch.linalg.cholesky(covariance).transpose(1, 2), data.labels[order])


def clouds_ply(x_0: Tensor, names: Sequence[str] = ()) -> bytes:
    """Clouds [B, N, 3] in a row along x, as one PLY file (ASCII), which Blender and MeshLab open.

    A vertex has its place and the number of its cloud; the classes stand in comments.
    """
    shifts = SPACING * torch.arange(len(x_0), device="cpu", dtype=torch.float32)
    lines = [
        "ply",
        "format ascii 1.0",
        *(f"comment cloud {i} is of class {name}" for i, name in enumerate(names)),
        f"element vertex {x_0.shape[0] * x_0.shape[1]}",
        *(f"property float {axis}" for axis in "xyz"),
        "property int cloud",
        "end_header",
    ]
    for i, (cloud, shift) in enumerate(zip(x_0, shifts, strict=True)):
        lines += [f"{x + float(shift):.4f} {y:.4f} {z:.4f} {i}" for x, y, z in cloud.tolist()]
    return ("\n".join(lines) + "\n").encode()


SHAPES = Kind(
    name="shapes",
    shape=(POINTS, 3),
    class_names=tuple(SOLIDS),
    sample_data=solids,
    train_size=32_000,
    measure=measure_clouds,
    chance=blobs,
    sampling={"num_inference_steps": 50, "sampler": "heun"},
    writers={".ply": clouds_ply},
)
