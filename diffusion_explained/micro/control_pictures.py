"""Control pictures of scenes: their edges, a scribble of their things, and areas that say which thing is where.

    marks = draw_marks(scenes, emoji.images, x)        # uint8 [B, 128, 128]: one bit per kind, of drawn scenes x
    picture = control_picture(marks, "edges")          # float [B, 3, 128, 128] in [0, 1], black where nothing is said

Edges and scribbles are white lines on black, one pixel wide and about four; in a layout, the thing that the caption
says first is red, and the second is blue. One ControlNet reads all three, and tells them apart by what they look like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.drawing import Scenes, transform
from diffusion_explained.noise import stream

CONTROLS = ("edges", "scribble", "layout")
BITS = {"edges": 1, "scribble": 2, "first": 4, "second": 8}
LOW, HIGH = 0.04, 0.10  # of the gradient per pixel, where black to white is 1: Canny's two thresholds
GROWTH = 48  # the most pixels by which hysteresis follows a weak edge
COARSE = 8  # pixels: a scribble follows the outline of a thing to this accuracy
WOBBLE = 2.5  # pixels: how far a scribble strays from that outline
TILT = math.radians(30)
RED, BLUE = 0, 2  # the channels of the first and the second thing of a layout
WIDEN = 0.15  # how far an area is larger or smaller than its thing, at most


@typed_arguments
def edges(images: Tensor) -> Tensor:
    """The edges of pictures [B, 3, H, W] in [-1, 1], bool [B, H, W], as Canny (1986) finds them.

        g = max over colours of |S * G * x|,  G a Gaussian of one pixel, S Sobel's two kernels / 8, x in [0, 1]

    A pixel is an edge if g is at least as large as at its two neighbours along the gradient, and g >= HIGH, or
    g >= LOW and the pixel is joined to such a pixel through others with g >= LOW.
    """
    x = (image_batch("images", images, 3).float().clamp(-1, 1) + 1) / 2
    B, C, H, W = x.shape
    along, slope = _gradient(x.reshape(B * C, 1, H, W))
    g, strongest = slope.reshape(B, C, H, W).max(dim=1)
    angle = along.reshape(B, C, H, W).gather(1, strongest[:, None])[:, 0]
    thin = (g >= _neighbour(g, angle, 1)) & (g > _neighbour(g, angle, -1))
    weak, found = thin & (g >= LOW), thin & (g >= HIGH)
    for _ in range(GROWTH):
        found = weak & dilated(found)
    return found


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """The direction, 0 to 3 in eighths of a turn, and the size of the smoothed gradient of [N, 1, H, W]."""
    g = torch.exp(-0.5 * torch.arange(-2.0, 3.0, device=x.device, dtype=torch.float32) ** 2)
    g = g / g.sum()
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")
    x = F.conv2d(F.conv2d(x, g.reshape(1, 1, 5, 1)), g.reshape(1, 1, 1, 5))
    sobel = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device, dtype=torch.float32) / 8
    across, down = F.conv2d(x, torch.stack([sobel, sobel.T])[:, None]).unbind(1)
    return (torch.atan2(down, across) / (torch.pi / 4)).round().long() % 4, torch.hypot(across, down)


def _neighbour(g: Tensor, direction: Tensor, side: int) -> Tensor:
    """g [B, H, W] at the next pixel along the direction (0 across, 1 down and right, 2 down, 3 down and left)."""
    padded = F.pad(g[:, None], (1, 1, 1, 1))[:, 0]
    steps = ((0, 1), (1, 1), (1, 0), (1, -1))
    H, W = g.shape[1:]
    moved = [padded[:, 1 + side * y : 1 + side * y + H, 1 + side * x : 1 + side * x + W] for y, x in steps]
    return torch.stack(moved).gather(0, direction[None])[0]


def dilated(mask: Tensor, radius: int = 1) -> Tensor:
    """bool [B, H, W]: the pixels within `radius` pixels, along rows, columns and diagonals, of a pixel of the mask."""
    return F.max_pool2d(mask.float()[:, None], 2 * radius + 1, stride=1, padding=radius)[:, 0] > 0


@typed_arguments
def wandered(scenes: Scenes, share: float, seed: int = 0) -> Scenes:
    """The scenes, of which this share of those with one thing in the middle has it elsewhere, smaller and tilted.

    The captions do not say so: only a control picture does. The size is 0.4 to 1 of the picture, the angle up to TILT.
    """
    draw = torch.rand(len(scenes), 5, generator=stream(seed), device="cpu", dtype=torch.float32)
    place = scenes.place.clone()
    whole = torch.tensor([0, 0, 1, 0], device="cpu", dtype=torch.float32)
    alone = (scenes.sprite[:, 1:] < 0).all(dim=1) & (place[:, 0] == whole).all(dim=1) & (draw[:, 0] < share)
    size = 0.4 + 0.6 * draw[:, 1]
    x, y = ((2 * draw[:, 2:4] - 1) * (1.1 - size[:, None])).unbind(1)  # at most a tenth of its half beyond the border
    moved = torch.stack([x, y, size, (2 * draw[:, 4] - 1) * TILT], dim=1)
    place[alone, 0] = moved[alone]
    return replace(scenes, place=place)


@typed_arguments
def silhouettes(scenes: Scenes, images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the thing that each caption says first is drawn, and where the second is: bool [B, H, W] each.

    Several copies of one picture ("two dogs") are one thing. images: of the emoji set, uint8 [N, 4, H, W].
    """
    device, first = images.device, scenes.sprite[:, :1]
    found = torch.zeros(2, len(scenes), *images.shape[-2:], dtype=torch.bool, device=device)
    for layer in range(scenes.sprite.shape[1]):
        rows = (scenes.sprite[:, layer] >= 0).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        alpha = images[scenes.sprite[rows, layer].to(device), 3:].float() / 255
        drawn = transform(alpha.expand(-1, 4, -1, -1), scenes.place[rows, layer].to(device))[:, 3] > 0.5
        which = (scenes.sprite[rows, layer] != first[rows, 0]).long().to(device)
        rows = rows.to(device)
        found[which, rows] = (found[which, rows] & ~drawn) | drawn
        found[1 - which, rows] &= ~drawn  # later sprites are drawn over earlier ones
    return found[0], found[1]


@typed_arguments
def scribble(shape: Tensor, seed: int = 0) -> Tensor:
    """A rough outline of shapes bool [B, H, W], as drawn by hand: bool [B, H, W], lines about four pixels wide.

    The shape is averaged over squares of COARSE pixels, its outline at the level 1/2 is drawn, and every point of the
    outline is moved by up to WOBBLE pixels, by a smooth random field.
    """
    B, H, W = shape.shape
    device, generator = shape.device, stream(seed)
    coarse = F.avg_pool2d(shape.float()[:, None], COARSE)
    size = (B, 2, H // 32 + 2, W // 32 + 2)
    field = torch.rand(size, generator=generator, device="cpu", dtype=torch.float32).to(device) * 2 - 1
    field = F.interpolate(field, (H, W), mode="bicubic", align_corners=True)
    whole = torch.eye(2, 3, device=device, dtype=torch.float32).expand(B, -1, -1)
    grid = F.affine_grid(whole, [B, 1, H, W], align_corners=False)
    pixel = torch.tensor([2 / W, 2 / H], device=device, dtype=torch.float32)
    moved = grid + field.permute(0, 2, 3, 1) * WOBBLE * pixel
    blob = F.interpolate(coarse, (H, W), mode="bilinear", align_corners=False)
    inside = F.grid_sample(blob, moved, padding_mode="border", align_corners=False)[:, 0] > 0.5
    return dilated(inside, 2) & dilated(~inside, 2)


@typed_arguments
def area(shape: Tensor, seed: int = 0) -> Tensor:
    """The ellipse in the bounding box of each shape, bool [B, H, W]; empty where the shape is.

    Each half axis is longer or shorter by up to WIDEN, at random, so that the area says where and about how large.
    """
    B, H, W = shape.shape
    device = shape.device
    draw = torch.rand(B, 2, generator=stream(seed), device="cpu", dtype=torch.float32).to(device)
    scale = 1 + WIDEN * (2 * draw - 1)
    inside = torch.zeros(B, H, W, device=device, dtype=torch.float32)
    for axis, (side, other) in enumerate(((H, 2), (W, 1))):
        there = shape.any(dim=other)  # [B, side]
        place = torch.arange(side, device=device, dtype=torch.float32)
        least = torch.where(there, place, side).amin(1)
        most = torch.where(there, place, -1.0).amax(1)
        centre, half = (least + most) / 2, ((most - least + 1) / 2 * scale[:, axis]).clamp(min=0.5)
        square = ((place - centre[:, None]) / half[:, None]) ** 2
        inside += square[:, :, None] if axis == 0 else square[:, None, :]
    return (inside <= 1) & shape.any(dim=(1, 2))[:, None, None]


@typed_arguments
def round_areas(areas: Sequence[tuple[float, float, float]], side: int = 128) -> Tensor:
    """A layout of at most two discs, float [1, 3, side, side]: the first is red, the second blue, and lies over it.

    areas: centre x and y and the radius of each, where the picture reaches from -1 to 1, y down.

    Raises ValueError for more than two.
    """
    if len(areas) > 2:
        raise ValueError(f"A layout has at most two areas, a red one and a blue one; got {len(areas)}.")
    place = (torch.arange(side, device="cpu", dtype=torch.float32) + 0.5) * 2 / side - 1
    layout = torch.zeros(1, 3, side, side, device="cpu", dtype=torch.float32)
    for colour, (x, y, radius) in zip((RED, BLUE), areas, strict=False):
        inside = (place - x) ** 2 + (place[:, None] - y) ** 2 <= radius**2
        layout[0, :, inside] = 0
        layout[0, colour, inside] = 1
    return layout


@typed_arguments
def as_picture(lines: Tensor) -> Tensor:
    """Lines bool [B, H, W], from `edges` or `scribble`, as control pictures [B, 3, H, W]: white on black."""
    return lines[:, None].float().repeat(1, 3, 1, 1)


@typed_arguments
def draw_marks(scenes: Scenes, images: Tensor, drawn: Tensor, seed: int = 0) -> Tensor:
    """All control pictures of scenes in one: uint8 [B, H, W], the sum of the `BITS` of what is there.

    images: of the emoji set, uint8 [N, 4, H, W]; drawn: the scenes' pictures [B, 3, H, W] (`draw_scenes`).
    seed: of the scribbles' and the areas' random parts.
    """
    first, second = silhouettes(scenes, images)
    masks = {
        "edges": edges(drawn),
        "scribble": scribble(first, seed) | (scribble(second, seed + 1) & second.any(dim=(1, 2))[:, None, None]),
        "first": area(first, seed + 2),
        "second": area(second, seed + 3),
    }
    return torch.stack([BITS[name] * mask.to(torch.uint8) for name, mask in masks.items()]).sum(0, dtype=torch.uint8)


@typed_arguments
def control_picture(marks: Tensor, kind: str | Sequence[int] | Tensor) -> Tensor:
    """The control pictures, float [B, 3, H, W] in [0, 1], of marks uint8 [B, H, W].

    kind: one of `CONTROLS`, or an index into it for each picture, [B].

    Raises ValueError for another name.
    """
    if isinstance(kind, str):
        if kind not in CONTROLS:
            raise unknown_name("kind of control picture", kind, CONTROLS)
        kind = [CONTROLS.index(kind)] * len(marks)
    chosen = torch.as_tensor(kind, device=marks.device, dtype=torch.int64)[:, None, None]
    has = {name: (marks & bit) > 0 for name, bit in BITS.items()}
    lines = torch.where(chosen == 0, has["edges"], has["scribble"])
    areas, second = chosen == CONTROLS.index("layout"), has["second"]
    red = torch.where(areas, has["first"] & ~second, lines)
    blue = torch.where(areas, second, lines)
    return torch.stack([red, lines & ~areas, blue], dim=1).float()


@typed_arguments
def edge_f1(drawn: Tensor, asked: Tensor, tolerance: int = 1) -> Tensor:
    """The F1 in [0, 1], [B], of drawn edges and of the edges that were asked for, both bool [B, H, W].

        precision = share of drawn pixels within `tolerance` of an asked one,  recall = the other way round
        F1 = 2 precision recall / (precision + recall)

    tolerance: in pixels, along rows, columns and diagonals.
    """
    precision = (drawn & dilated(asked, tolerance)).sum((1, 2)) / drawn.sum((1, 2)).clamp(min=1)
    recall = (asked & dilated(drawn, tolerance)).sum((1, 2)) / asked.sum((1, 2)).clamp(min=1)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-9)
