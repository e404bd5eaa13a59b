"""Draw scenes: repaint, scale, rotate and place sprites over a background; a batch at once, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.words import COLOURS
from diffusion_explained.palette import rgb

SPRITES = 4  # at most per scene
WHITE = (1.0, 1.0, 1.0)
# A colour is three shades, for the dark, middle and light parts of a drawing. One hue for all lightnesses would not
# work: dark yellow looks brown, and light red looks pink.
SHADES = {
    "red": ("#4a0508", "#dd2a2f", "#ffd5d0"),
    "orange": ("#5a2a00", "#f5851a", "#ffe6c9"),
    "yellow": ("#6b4e00", "#f8d12c", "#fffbe0"),
    "green": ("#06310f", "#35a34b", "#d8f5d9"),
    "blue": ("#06184a", "#2f6fe0", "#d6e6ff"),
    "purple": ("#26064a", "#8a3fcf", "#ecdcff"),
    "pink": ("#6b1240", "#f77fb6", "#ffe8f2"),
    "brown": ("#28130a", "#85532f", "#e6cdb8"),
    "black": ("#000000", "#2b2b30", "#8b8b94"),
    "white": ("#6d737d", "#e9ecf0", "#ffffff"),
    "grey": ("#2c2e31", "#8f9398", "#e4e6e8"),
}
CONTRAST = 0.9  # the share of a drawing's contrast that repainting keeps
LUMA = (0.299, 0.587, 0.114)  # the perceived lightness of red, green and blue (ITU-R BT.601)


class Sprite(NamedTuple):
    """One drawing in a scene: its picture, the position of its centre (in [-1, 1], y down), size, angle and colour."""

    picture: int
    x: float = 0.0
    y: float = 0.0
    size: float = 1.0  # 1: the picture fills the scene
    angle: float = 0.0  # radians, clockwise
    colour: int = -1  # index of COLOURS, -1: not repainted


class Scene(NamedTuple):
    """One scene: its caption, its sprites (later ones are drawn over earlier ones), its background."""

    caption: str
    sprites: tuple[Sprite, ...]
    background: tuple[float, float, float] = WHITE


@dataclass(frozen=True)
class Scenes:
    """B scenes with up to S = 4 sprites each.

    captions:   B strings.
    sprite:     int64 [B, S], index into EmojiSet.images, -1 = no sprite.
    place:      float [B, S, 4]: centre x and y (in [-1, 1], y down), size (1 = full picture), angle in radians.
    colour:     int64 [B, S], index of COLOURS to repaint with, -1 = not repainted.
    background: float [B, 3] in [0, 1].
    """

    captions: list[str]
    sprite: Tensor
    place: Tensor
    colour: Tensor
    background: Tensor

    def __len__(self) -> int:
        return len(self.captions)


@typed_arguments
def batch_scenes(scenes: Sequence[Scene]) -> Scenes:
    """Convert scenes to tensors. Raises ValueError for a scene with more than four sprites."""
    for scene in scenes:
        if len(scene.sprites) > SPRITES:
            raise ValueError(f"{scene.caption!r} has {len(scene.sprites)} sprites; a scene holds at most {SPRITES}")
    rows = [[*scene.sprites, *[Sprite(-1)] * (SPRITES - len(scene.sprites))] for scene in scenes]
    numbers = torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(len(rows), SPRITES, len(Sprite._fields))
    return Scenes(
        captions=[scene.caption for scene in scenes],
        sprite=numbers[..., 0].long(),
        place=numbers[..., 1:5].float(),
        colour=numbers[..., 5].long(),
        background=torch.tensor([scene.background for scene in scenes], dtype=torch.float32, device="cpu").reshape(
            -1, 3
        ),
    )


@typed_arguments
def draw_scenes(scenes: Scenes, images: Tensor) -> Tensor:
    """Draw scenes from `images` (uint8 [N, 4, H, W], straight alpha): float [B, 3, H, W] in [-1, 1] on their device.

    Sprites are composited with the operator "over" of Porter and Duff, Compositing Digital Images, 1984: with colours
    premultiplied by alpha it is `new + (1 - alpha) * old`, and interpolation does not mix in colours of transparent
    pixels. Raises ValueError for a sprite that is not among the images.
    """
    device = images.device
    if len(scenes) and int(scenes.sprite.max()) >= len(images):
        raise ValueError(f"a scene uses sprite {int(scenes.sprite.max())}, but there are only {len(images)} images")
    sprite, place = scenes.sprite.to(device), scenes.place.to(device)
    colour, background = scenes.colour.to(device), scenes.background.to(device)
    canvas = background[:, :, None, None].repeat(1, 1, *images.shape[-2:])
    for layer in range(sprite.shape[1]):
        rows = (scenes.sprite[:, layer] >= 0).nonzero()[:, 0].to(device)
        if len(rows) == 0:
            continue
        straight = images[sprite[rows, layer]].float() / 255
        painted = repaint(straight, colour[rows, layer])
        moved = transform(premultiply(painted), place[rows, layer])
        canvas[rows] = moved[:, :3] + (1 - moved[:, 3:]) * canvas[rows]
    return canvas.clamp(0, 1) * 2 - 1


def premultiply(image: Tensor) -> Tensor:
    """Multiply the colours of float [..., 4, H, W] by alpha."""
    return torch.cat([image[..., :3, :, :] * image[..., 3:, :, :], image[..., 3:, :, :]], dim=-3)


def transform(sprites: Tensor, place: Tensor) -> Tensor:
    """Scale, rotate and move sprites, premultiplied float [B, 4, H, W], by `place` [B, 4]: x, y, size, angle.

    Reading only every second or third pixel of a drawing would alias, so small sprites are read from a copy of half
    the size.
    """
    x, y, size, angle = place.unbind(1)
    cos, sin = angle.cos() / size, angle.sin() / size
    # affine_grid asks where each output pixel comes from, so this is the inverse: move back, turn back, scale up
    inverse = torch.stack(
        [torch.stack([cos, sin, -(cos * x + sin * y)], 1), torch.stack([-sin, cos, sin * x - cos * y], 1)], 1
    )
    grid = F.affine_grid(inverse, list(sprites.shape), align_corners=False)
    moved = torch.empty_like(sprites)
    for shrink, chosen in ((1, size > 0.7), (2, size <= 0.7)):
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            source = F.avg_pool2d(sprites[rows], shrink) if shrink > 1 else sprites[rows]
            moved[rows] = F.grid_sample(source, grid[rows], padding_mode="zeros", align_corners=False)
    return moved


def repaint(images: Tensor, colour: Tensor) -> Tensor:
    """Paint float [B, 4, H, W] (straight alpha) with `colour` [B], an index of COLOURS; -1 leaves a picture unchanged.

    A pixel's lightness, relative to the drawing's mean, selects a shade between the colour's three shades. So eyes stay
    dark, highlights stay light, and a black drawing can be painted yellow.
    """
    rows = (colour >= 0).nonzero()[:, 0]
    if len(rows) == 0:
        return images
    rgb_, alpha = images[rows, :3], images[rows, 3:]
    luma = (rgb_ * rgb_.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    mean = (luma * alpha).sum((1, 2, 3), keepdim=True) / alpha.sum((1, 2, 3), keepdim=True).clamp(min=1)
    tone = (0.5 + CONTRAST * (luma - mean)).clamp(0, 1)
    dark, middle, light = shades(rgb_)[colour[rows]].unbind(1)
    painted = torch.where(
        tone < 0.5,
        torch.lerp(dark, middle, (2 * tone).clamp(max=1)),
        torch.lerp(middle, light, (2 * tone - 1).clamp(min=0)),
    )
    result = images.clone()
    result[rows, :3] = painted
    return result


def shades(like: Tensor) -> Tensor:
    """The three shades of every colour as float [11, 3, 3, 1, 1] in [0, 1], in the order of COLOURS."""
    table = [[rgb(shade) for shade in SHADES[name]] for name in COLOURS]
    return like.new_tensor(table)[..., None, None] / 255


@typed_arguments
def background_colour(name: str) -> tuple[float, float, float]:
    """The middle shade of a colour, which is used for "on a green background"; raises ValueError for another name."""
    if name not in SHADES:
        raise unknown_name("background colour", name, SHADES)
    red, green, blue = rgb(SHADES[name][1])
    return red / 255, green / 255, blue / 255
