"""Hands whose fingers can be counted and words that can be read back: drawn here, so that a weakness can be measured.

    images = draw_hands(torch.tensor([5, 4]))          # uint8 [2, 1, 32, 32]
    count_fingers(to_float(images))                    # tensor([5, 4])
    images = draw_words(["CAT", "SUN"])                # uint8 [2, 1, 16, 32]
    read_words(to_float(images))                       # ["CAT", "SUN"]

Two things that large models draw wrong have a number that is right or wrong: how many fingers a hand has, and which
letters stand in a picture. Both are counted by procedures without a network: fingers are the pieces that remain of a
hand without its palm, and a letter is that of the most similar drawing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import all_of, image_batch, typed_arguments, whole_vector
from diffusion_explained.data.images import to_uint8
from diffusion_explained.noise import stream

SIDE = 32  # of a hand's picture; a word's picture is half as high
MOST_FINGERS = 7
BONE = 0.7  # half the width of a bone in pixels
REAL: Any = {"device": "cpu", "dtype": torch.float32}
WHOLE: Any = {"device": "cpu", "dtype": torch.int64}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LENGTH = 3  # letters per word
# Columns of five by seven dots, from left to right; bit 0 is the top.
DOTS = (
    "7C1211127C 7F49494936 3E41414122 7F4141413E 7F49494941 7F09090901 3E41415173 7F0808087F 00417F4100 2040413F01 "
    "7F08142241 7F40404040 7F021C027F 7F0408107F 3E4141413E 7F09090906 3E4151215E 7F09192946 2649494932 03017F0103 "
    "3F4040403F 1F2040201F 3F4038403F 6314081463 0304780403 6159494D43"
)


def _check_images(images: Tensor, height: int) -> None:
    """Raise ValueError unless images are [N, 1, height, 32]."""
    if tuple(image_batch("images", images, 1).shape[2:]) != (height, SIDE):
        raise ValueError(f"images must be [N, 1, {height}, {SIDE}]; got {list(images.shape)}.")


# -- hands -----------------------------------------------------------------------------------------------------


@typed_arguments
def draw_hands(fingers: Tensor | Sequence[int], seed: int = 0, bones: bool = False) -> Tensor:
    """Draw one hand per number of fingers, 1 to 7: uint8 [N, 1, 32, 32], white on black.

    A palm with a wrist, and around it fingers of random lengths, widths and directions; the whole hand is turned by up
    to 30 degrees. The same seed draws the same hands.

    fingers: int64 [N]. bones: draw the same hands as thin lines, from the middle of the palm to the fingers' tips and
    to the wrist.
    Raises ValueError for a number of fingers out of range.
    """
    number = whole_vector("fingers", fingers, MOST_FINGERS, f"whole numbers from 1 to {MOST_FINGERS}")
    if len(number) and int(number.min()) < 1:
        raise ValueError(f"fingers must be whole numbers from 1 to {MOST_FINGERS}; got {int(number.min())}.")
    n, generator = len(number), stream(seed)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=generator, **REAL)

    place = torch.arange(SIDE, **REAL)
    points = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1)  # [H, W, (x, y)]
    centre = torch.stack([between(15, 17), between(17, 19)], dim=1)
    turned, palm = between(-math.pi / 6, math.pi / 6), between(5, 5.8)
    every = torch.arange(MOST_FINGERS, **REAL)
    angle = (every - (number[:, None].cpu() - 1) / 2) * between(0.52, 0.58, 1) + between(-0.05, 0.05, MOST_FINGERS)
    angle = angle + turned[:, None]
    tip = centre[:, None] + between(11.5, 13.5, MOST_FINGERS)[..., None] * _up(angle)
    width = between(1.1, 1.4, MOST_FINGERS)
    if bones:
        palm, width = torch.full_like(palm, BONE), torch.full_like(width, BONE)
    hand = palm[:, None, None] - _to_line(points, centre, centre)
    hand = torch.maximum(hand, (BONE if bones else 3.2) - _to_line(points, centre, centre - 24 * _up(turned)))
    for k in range(MOST_FINGERS):
        finger = width[:, k, None, None] - _to_line(points, centre, tip[:, k])
        hand = torch.where((k < number.cpu())[:, None, None], torch.maximum(hand, finger), hand)
    return to_uint8((2 * hand).clamp(-1, 1)[:, None])


def _up(angle: Tensor) -> Tensor:
    """Unit vectors [..., (x, y)] at an angle to the upward direction."""
    return torch.stack([angle.sin(), -angle.cos()], dim=-1)


def _to_line(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distances [N, H, W] of points [H, W, 2] to the line segments from start to end, both [N, 2]."""
    along = (end - start)[:, None, None]
    from_start = points[None] - start[:, None, None]
    share = ((from_start * along).sum(-1) / along.square().sum(-1).clamp(min=1e-9)).clamp(0, 1)
    return (from_start - share[..., None] * along).norm(dim=-1)


@typed_arguments
def count_fingers(images: Tensor) -> Tensor:
    """The number of fingers of each hand, int64 [N]. images: [N, 1, 32, 32] in [-1, 1], white on black.

    Opening by a disc that is wider than a finger leaves palm and wrist (erosion, then dilation); the connected pieces
    of the hand outside of them are the fingers. Raises ValueError for images of another shape.
    """
    _check_images(images, SIDE)
    drawn = F.interpolate(images.float().cpu(), scale_factor=2, mode="bilinear") > 0
    rest = drawn & ~_dilated(~_dilated(~drawn, 3.7), 7.6)
    names = torch.arange(1, rest[0].numel() + 1, **REAL).reshape(rest.shape[1:]) * rest
    while True:
        grown = F.max_pool2d(names, 3, stride=1, padding=1) * rest
        if torch.equal(grown, names):
            break
        names = grown
    pieces = [piece.unique(return_counts=True) for piece in names.flatten(1).long()]
    return torch.tensor([int(((name > 0) & (size >= 5)).sum()) for name, size in pieces], **WHOLE)


def _dilated(mask: Tensor, radius: float) -> Tensor:
    """bool [N, 1, H, W]: the pixels within a radius of a true pixel of the mask."""
    reach = int(radius)
    place = torch.arange(-reach, reach + 1, **REAL)
    disc = (place.square() + place.square()[:, None] <= radius**2).float()
    return F.conv2d(mask.float(), disc[None, None], padding=reach) > 0.5


# -- words -----------------------------------------------------------------------------------------------------


@typed_arguments
def draw_words(words: Sequence[str], seed: int = 0) -> Tensor:
    """Draw words of three capital letters: uint8 [N, 1, 16, 32], white on black.

    Each letter is moved and scaled a little at random; the same seed draws the same pictures.
    Raises ValueError for a word that is not three letters from A to Z.
    """
    given = all_of("words", words, str)
    for word in given:
        if len(word) != LENGTH or not set(word) <= set(LETTERS):
            raise ValueError(f"a word has {LENGTH} capital letters from A to Z; got {word!r}.")
    index = torch.tensor([[LETTERS.index(letter) for letter in word] for word in given], **WHOLE)
    generator = stream(seed)
    drawn = torch.rand((len(given), LENGTH, 3), generator=generator, **REAL) * 2 - 1
    cells = [_cells(index[:, i], drawn[:, i] * torch.tensor([0.8, 1.5, 0.1], **REAL)) for i in range(LENGTH)]
    return to_uint8(F.pad(torch.cat(cells, dim=-1), (1, 1), value=-1.0))


CELL = 10  # pixels of width per letter


def _cells(letters: Tensor, moved: Tensor) -> Tensor:
    """Letters [N], moved by (x, y, log scale) [N, 3], as pictures [N, 1, 16, 10] in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(SIDE // 2, **REAL) + 0.5, torch.arange(CELL, **REAL) + 0.5, indexing="ij")
    scale = 1.35 * moved[:, 2].exp()[:, None, None]  # pixels per dot
    column = (x - CELL / 2 - moved[:, 0, None, None]) / scale / 2.5
    row = (y - SIDE / 4 - moved[:, 1, None, None]) / scale / 3.5
    shown = F.grid_sample(_dots()[letters], torch.stack([column, row], dim=-1), align_corners=False)
    return (2.6 * shown - 1.3).clamp(-1, 1)


@functools.cache
def _dots() -> Tensor:
    """The letters, [26, 1, 7, 5]: 1 for a dot."""
    columns = torch.tensor([list(bytes.fromhex(each)) for each in DOTS.split()], **WHOLE)
    return ((columns[:, None, :] >> torch.arange(7, **WHOLE)[:, None]) & 1).float()[:, None]


@functools.cache
def _templates() -> Tensor:
    """Unit vectors [26, M, 160] of the letters, moved and scaled in all the ways that `draw_words` does."""
    x, y, scale = [-0.8, 0.0, 0.8], [-2.0, -1.0, 0.0, 1.0, 2.0], [-0.1, 0.0, 0.1]
    moves = torch.tensor(list(itertools.product(x, y, scale)), **REAL)
    letters = torch.arange(len(LETTERS), **WHOLE).repeat_interleave(len(moves))
    cells = _cells(letters, moves.repeat(len(LETTERS), 1)).flatten(1) + 1
    return F.normalize(cells, dim=1).reshape(len(LETTERS), len(moves), -1)


@typed_arguments
def read_letters(images: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar letter at each of the three places, int64 [N, 3], and the cosine to its drawing, [N, 3].

    images: [N, 1, 16, 32] in [-1, 1]. A cosine of 1 is a letter as `draw_words` draws it.
    Raises ValueError for images of another shape.
    """
    _check_images(images, SIDE // 2)
    cells = images.float().cpu()[..., 1:-1].clamp(-1, 1).unfold(-1, CELL, CELL)  # [N, 1, 16, 3, 10]
    seen = F.normalize(cells.permute(0, 3, 1, 2, 4).flatten(2) + 1, dim=-1)
    cosine, letter = torch.einsum("nid,lmd->nilm", seen, _templates()).amax(-1).max(-1)
    return letter, cosine


@typed_arguments
def read_words(images: Tensor) -> list[str]:
    """The words in pictures [N, 1, 16, 32] in [-1, 1]: the most similar letter at each place.

    Raises ValueError for images of another shape.
    """
    return ["".join(LETTERS[i] for i in word) for word in read_letters(images)[0].tolist()]
