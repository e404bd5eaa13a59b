"""An endless list of made-up styles, so that an image prompt cannot know them by heart: style i is a rule for pictures.

    rule = random_style(7)
    rule(pictures)                              # [B, 3, H, W] in [-1, 1] to [B, 3, H, W]; all in one style

Each style is one or two of `FAMILIES`, with its own colours, widths and strengths. A picture and a reference in the
same style share the rule. Mosaics (`made_styles.mosaic`) are none of the families: they test a style of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments
from diffusion_explained.micro.emoji_set import hashed
from diffusion_explained.micro.random_choices import RandomChoices
from diffusion_explained.noise import numpy_stream

Rule = Callable[[Tensor], Tensor]
WHITE = 0.94  # pixels that are brighter in all colours are the background
BOTH = 0.35  # how often a style is made of two families
SEED = 1  # of the list
TESTED = 0.1  # the share of subjects that no adapter is trained on in a made-up style


def is_tested(subject: str) -> bool:
    """Whether a subject is left out of the made-up styles, so that they can be tested with it."""
    return hashed(f"made-up style of {subject}") < TESTED


@typed_arguments
def random_style(i: int) -> Rule:
    """Style i of the list: a rule for pictures [B, 3, H, W] in [-1, 1]. Raises ValueError for a negative number."""
    rng = RandomChoices(numpy_stream(SEED, i))
    first = rng.pick(tuple(FAMILIES))
    rules = [FAMILIES[first](rng)]
    if rng.chance(BOTH):
        rules.append(FAMILIES[rng.pick([name for name in FAMILIES if name != first])](rng))

    def rule(pictures: Tensor) -> Tensor:
        x = (image_batch("pictures", pictures, 3) + 1) / 2
        for one in rules:
            x = one(x).clamp(0, 1)
        return x * 2 - 1

    return rule


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)


def _drawn(x: Tensor) -> Tensor:
    """1 where something is drawn, 0 on the white background, [B, 1, H, W]."""
    return (x.amin(1, keepdim=True) < WHITE).to(x)


def _blurred(x: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False) if radius else x


def _rgb(rng: RandomChoices, low: float, high: float) -> tuple[float, float, float]:
    r, g, b = (low + (high - low) * rng.random() for _ in range(3))
    return r, g, b


def _as(x: Tensor, colour: tuple[float, float, float]) -> Tensor:
    return x.new_tensor(colour)[:, None, None]


def outlines(rng: RandomChoices) -> Rule:
    """Lines where lightness changes, in one colour on another, or over the colours."""
    ink, paper = _rgb(rng, 0.0, 0.5), _rgb(rng, 0.75, 1.0) if rng.chance(0.6) else (1.0, 1.0, 1.0)
    radius, gain, over = rng.pick((1, 1, 2, 3)), 4 + 8 * rng.random(), rng.chance(0.3)

    def rule(x: Tensor) -> Tensor:
        grey = F.pad(_blurred(_grey(x), radius), (1, 1, 1, 1), mode="replicate")
        dx, dy = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
        lines = (gain * (dx.square() + dy.square()).sqrt()).clamp(0, 1)
        return torch.lerp(x if over else _as(x, paper).expand_as(x), _as(x, ink).expand_as(x), lines)

    return rule


def two_colours(rng: RandomChoices) -> Rule:
    """Lightness as a shade between two colours."""
    dark, light = _rgb(rng, 0.0, 0.55), _rgb(rng, 0.6, 1.0)
    return lambda x: torch.lerp(_as(x, dark).expand_as(x), _as(x, light).expand_as(x), _grey(x))


def few_levels(rng: RandomChoices) -> Rule:
    """Each colour channel in two to four levels."""
    levels = rng.pick((2, 3, 4))
    return lambda x: (x * (levels - 1)).round() / (levels - 1)


def other_hues(rng: RandomChoices) -> Rule:
    """The hues turned by an angle around the grey axis."""
    angle = math.radians(40 + 280 * rng.random())
    cos, sin = math.cos(angle), math.sin(angle)
    a, b = (1 - cos) / 3, sin / math.sqrt(3)
    rows = ((cos + a, a - b, a + b), (a + b, cos + a, a - b), (a - b, a + b, cos + a))
    return lambda x: torch.einsum("ij,bjhw->bihw", x.new_tensor(rows), x)


def negative(rng: RandomChoices) -> Rule:
    """The negative of the picture, or of its drawing alone."""
    whole = rng.chance(0.5)
    return lambda x: 1 - x if whole else torch.where(_drawn(x) > 0, 1 - x, x)


def tinted(rng: RandomChoices) -> Rule:
    """Grey or pale colours under a coloured glass."""
    glass, kept = _rgb(rng, 0.35, 1.0), 0.6 * rng.random()
    return lambda x: torch.lerp(_grey(x).expand_as(x), x, kept) * _as(x, glass)


def silhouettes(rng: RandomChoices) -> Rule:
    """The drawing as an area of one colour."""
    ink, paper, kept = _rgb(rng, 0.0, 0.6), _rgb(rng, 0.7, 1.0), 0.35 * rng.random()

    def rule(x: Tensor) -> Tensor:
        flat = torch.lerp(_as(x, paper).expand_as(x), _as(x, ink).expand_as(x), _drawn(x))
        return torch.lerp(flat, x, kept)

    return rule


def stripes(rng: RandomChoices) -> Rule:
    """Stripes at an angle over the drawing."""
    period, angle, ink = 8 + 16 * rng.random(), math.pi * rng.random(), _rgb(rng, 0.0, 1.0)

    def rule(x: Tensor) -> Tensor:
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
        phase = (rows[:, None] * math.sin(angle) + columns * math.cos(angle)) * (2 * math.pi / period)
        return torch.lerp(x, _as(x, ink).expand_as(x), (_drawn(x) * (phase.sin() > 0.2)).clamp(0, 1))

    return rule


def soft(rng: RandomChoices) -> Rule:
    """A picture out of focus."""
    radius = rng.pick((2, 3, 4, 5))
    return lambda x: _blurred(_blurred(x, radius), radius)


def sticker(rng: RandomChoices) -> Rule:
    """A border in one colour around the drawing, and sometimes another background."""
    radius, border = rng.pick((3, 4, 6)), _rgb(rng, 0.0, 0.9)
    paper = _rgb(rng, 0.6, 1.0) if rng.chance(0.6) else (1.0, 1.0, 1.0)

    def rule(x: Tensor) -> Tensor:
        inside = _drawn(x)
        wide = F.max_pool2d(inside, 2 * radius + 1, 1, radius)
        around = torch.lerp(_as(x, paper).expand_as(x), _as(x, border).expand_as(x), wide)
        return torch.lerp(around, x, inside)

    return rule


def relief(rng: RandomChoices) -> Rule:
    """A grey relief, lit from one side, in one colour."""
    shift, colour, gain = rng.pick(((1, 1), (1, -1), (2, 0), (0, 2))), _rgb(rng, 0.45, 0.8), 1.5 + 2 * rng.random()

    def rule(x: Tensor) -> Tensor:
        grey = _blurred(_grey(x), 1)
        return _as(x, colour) + gain * (grey - torch.roll(grey, shift, (2, 3)))

    return rule


FAMILIES: dict[str, Callable[[RandomChoices], Rule]] = {
    "outlines": outlines, "two colours": two_colours, "few levels": few_levels, "other hues": other_hues,
    "negative": negative, "tinted": tinted, "silhouettes": silhouettes, "stripes": stripes, "soft": soft,
    "sticker": sticker, "relief": relief,
}  # fmt: skip
