"""Video: clips of 16 frames, 32 x 32 pixels, in which one or two handwritten digits move and bounce at the edges.

The digits are those that the package includes, shrunk to 18 x 18 pixels. A clip's class is its digit, its speed, and
whether there is one digit or two: "3-slow" has one 3 and "33-fast" two. A digit's corner moves by

    p(t) = fold(p_0 + v t),    |v| = 0.75 (slow) or 2 (fast) pixels per frame,    fold: reflect at the edges

in a random direction from a random place (Srivastava et al. 2015, "Unsupervised Learning of Video Representations using
LSTMs", Section 4.1: moving digits). Digits of the split "test" are others than those of "train".
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffusion_explained.beyond.kinds import Data, Kind
from diffusion_explained.checks import typed_arguments
from diffusion_explained.data import bundled_mnist
from diffusion_explained.film import mosaic, pixels
from diffusion_explained.metrics import classify

FRAMES, SIDE, DIGIT = 16, 32, 18  # frames per clip, pixels per side of a frame and of a shrunk digit
SPEEDS = {"slow": 0.75, "fast": 2.0}  # pixels per frame
LOW, HIGH = -2.0, float(SIDE - DIGIT + 2)  # where a digit's corner may be; the digit's own margin is 2.5 pixels
TEST_DIGITS = 200  # of the 1,000 digits of each class, those kept for the split "test"
BRIGHTER = 1.4  # see `cut_out`
CHUNK = 500  # clips drawn at once
LLOYD = 8  # iterations of 2-means
APART = 11.0  # pixels between the middles of two digits that hardly touch; the halves of one digit are nearer
GIF_SCALE, GIF_MILLISECONDS = 4, 80  # screen pixels per pixel; the time of a frame

CLASS_NAMES = tuple(f"{str(digit) * count}-{speed}" for count in (1, 2) for speed in SPEEDS for digit in range(10))


@lru_cache(maxsize=2)
def small_digits(split: str) -> Tensor:
    """The shrunk digits of a split, by class: [10, N, 18, 18], from 0 (black) to 1."""
    digits = bundled_mnist()
    by_class = torch.stack([digits.images[digits.labels == label] for label in range(10)])[:, :, 0].float() / 255
    kept = by_class[:, TEST_DIGITS:] if split == "train" else by_class[:, :TEST_DIGITS]
    return F.interpolate(kept, (DIGIT, DIGIT), mode="bilinear", antialias=True)


def fold(x: Tensor) -> Tensor:
    """Reflect places x [...] at LOW and HIGH, as often as needed, so that they lie between."""
    span = HIGH - LOW
    return LOW + span - (torch.remainder(x - LOW, 2 * span) - span).abs()


def moving_digits(n: int, generator: torch.Generator, split: str = "train") -> Data:
    """n clips, uint8 [n, 1, 16, 32, 32], clip i of class i % 40."""
    labels = torch.arange(n, device="cpu", dtype=torch.int64) % len(CLASS_NAMES)
    digits = small_digits(split)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device="cpu", dtype=torch.float32)

    speeds = torch.tensor(list(SPEEDS.values()), device="cpu", dtype=torch.float32)[labels // 10 % 2]  # [n]
    chosen = (draw(2, n) * digits.shape[1]).long()  # two digits per clip; with one, the second stays out of sight
    angle = 2 * math.pi * draw(2, n)
    velocity = speeds[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)  # [2, n, 2]
    start = LOW + (HIGH - LOW) * draw(2, n, 2)
    times = torch.arange(FRAMES, device="cpu", dtype=torch.float32)
    places = fold(start[:, :, None] + velocity[:, :, None] * times[:, None])  # [2, n, 16, 2]
    clips = torch.empty(n, 1, FRAMES, SIDE, SIDE, device="cpu", dtype=torch.uint8)
    for part in torch.arange(n, device="cpu", dtype=torch.int64).split(CHUNK):
        first, second = (
            placed(digits[labels[part] % 10, one[part]], at[part]) for one, at in zip(chosen, places, strict=True)
        )
        two = (labels[part] >= 20)[:, None, None, None]
        clips[part, 0] = (255 * torch.where(two, torch.maximum(first, second), first)).round().to(torch.uint8)
    return Data(clips, labels)


def placed(digits: Tensor, places: Tensor) -> Tensor:
    """Frames [N, 16, 32, 32] with digits [N, 18, 18] whose corners (x, y) are at places [N, 16, 2], in pixels."""
    n, frames, _ = places.shape
    pixel = torch.arange(SIDE, device="cpu", dtype=torch.float32)
    inside = (pixel - places[..., None] + 0.5) * (2 / DIGIT) - 1  # [N, 16, 2, 32], the digit lies in [-1, 1]
    x, y = inside.unbind(dim=2)
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), dim=-1)  # [N, 16, 32, 32, 2]
    drawn = F.grid_sample(digits[:, None], grid.flatten(1, 2), align_corners=False)  # [N, 1, 16 * 32, 32]
    return drawn.view(n, frames, SIDE, SIDE)


@typed_arguments
def centres(clips: Tensor) -> Tensor:
    """The centre of brightness (x, y) of each frame, in pixels: clips [N, 1, F, H, W] in [-1, 1] -> [N, F, 2].

    Pixels darker than a tenth do not count, so that a dim background does not draw the centre to the middle.
    """
    light = _light(clips[:, 0])
    place = torch.arange(clips.shape[-1], device=clips.device, dtype=torch.float32)
    total = light.sum((-1, -2)).clamp_min(1e-6)
    return torch.stack([(light.sum(-2) * place).sum(-1), (light.sum(-1) * place).sum(-1)], dim=-1) / total[..., None]


def _light(frames: Tensor) -> Tensor:
    """How bright pixels in [-1, 1] are, from 0 to 1, where they count (`centres`)."""
    return F.threshold((frames + 1) / 2, 0.1, 0.0)


def cut_out(clips: Tensor) -> Tensor:
    """Each frame's digit, enlarged as the classifier of MNIST takes it: [N, 1, F, 32, 32] -> [N * F, 1, 28, 28].

    The 18 x 18 pixels around the centre of brightness are cut out, because MNIST's digits are centred by their mass,
    and made brighter by BRIGHTER, because shrinking has dimmed the strokes (without it the classifier names only 96% of
    the real ones).
    """
    return _cut_at(clips[:, 0].flatten(0, 1), centres(clips).flatten(0, 1))


def _cut_at(frames: Tensor, middle: Tensor) -> Tensor:
    """The 18 x 18 pixels of frames [N, 32, 32] around their middles (x, y), [N, 2], as `cut_out` gives them."""
    offsets = (torch.arange(28, device="cpu", dtype=torch.float32) - 13.5) * (DIGIT / 28)
    x, y = (((middle[:, i, None] + offsets) + 0.5) * (2 / SIDE) - 1 for i in range(2))
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    cut = F.grid_sample(frames[:, None].clamp(-1, 1) + 1, grid, align_corners=False)  # black (0) beyond the frame
    return (BRIGHTER * cut).clamp(0, 2) - 1


@typed_arguments
def two_pieces(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame's light in two pieces: their pictures [2, N * F, 32, 32] and middles [2, N * F, 2], in pixels.

    The 2-means of the frame's light (Lloyd 1982), begun at both sides of the middle, one standard deviation away along
    the direction in which the light spreads most. clips: [N, 1, F, 32, 32] in [-1, 1].
    """
    frames = clips[:, 0].flatten(0, 1).clamp(-1, 1)
    light, middle = _light(frames).flatten(1), centres(clips).flatten(0, 1)  # [N * F, pixels], [N * F, 2]
    place = torch.arange(SIDE, device="cpu", dtype=torch.float32)
    pixels_at = torch.stack([place.repeat(SIDE), place.repeat_interleave(SIDE)], dim=-1)  # (x, y) of each pixel
    away = pixels_at - middle[:, None]
    total = light.sum(1).clamp_min(1e-6)
    spread = torch.einsum("np,npi,npj->nij", light, away, away) / total[:, None, None]
    variances, directions = torch.linalg.eigh(spread)
    step = variances[:, -1, None].clamp_min(0).sqrt() * directions[:, :, -1]
    middles = middle + torch.stack([step, -step])  # [2, N * F, 2]
    for _ in range(LLOYD):
        nearest = torch.cdist(pixels_at.expand(len(light), -1, -1), middles.transpose(0, 1)).argmin(-1)
        mine = torch.stack([light * (nearest == k) for k in range(2)])  # [2, N * F, pixels]
        middles = mine @ pixels_at / mine.sum(-1, keepdim=True).clamp_min(1e-6)
    pictures = torch.stack([torch.where(nearest == k, frames.flatten(1), -1.0) for k in range(2)])
    return pictures.unflatten(-1, (SIDE, SIDE)), middles


@lru_cache(maxsize=1)
def bouncing_paths() -> tuple[Tensor, Tensor]:
    """Many paths that a digit's centre can take along one axis, [paths, 16], and their speeds [paths].

    A path has a speed, a phase (where it starts and whether it rises), and the distance from a digit's corner to its
    centre, each on a fine grid.
    """
    speeds = torch.arange(0, 2.41, 0.04, device="cpu", dtype=torch.float32)
    phases = LOW + torch.arange(0, 2 * (HIGH - LOW), 0.5, device="cpu", dtype=torch.float32)
    centre = torch.arange(6.5, 10.51, 0.25, device="cpu", dtype=torch.float32)
    times = torch.arange(FRAMES, device="cpu", dtype=torch.float32)
    paths = fold(phases[:, None] + speeds[:, None, None] * times)[:, :, None] + centre[:, None]  # [S, P, C, 16]
    return paths.flatten(0, 2), speeds.repeat_interleave(len(phases) * len(centre))


def nearest_path(along: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of `bouncing_paths` to along [N, 16]: the mean squared distance [N] and the path's speed [N]."""
    paths, speeds = bouncing_paths()
    lengths = paths.square().sum(-1)
    found = [(lengths - 2 * part @ paths.T).min(dim=1) for part in along.split(100)]
    squares = torch.cat([one.values for one in found]) + along.square().sum(-1)
    return squares.clamp_min(0) / FRAMES, speeds[torch.cat([one.indices for one in found])]


@typed_arguments
def measure_clips(data: Data, reference: Data | None = None) -> dict[str, float]:
    """What becomes of the digits over the frames of clips, float [N, 1, 16, 32, 32] in [-1, 1].

    Of clips with one digit: class_kept: the share of frames in which the shipped classifier of MNIST names the clip's
    digit. path_error: the root mean square distance of the digit's centre from the nearest path that bounces, in
    pixels, mean over clips; within_a_pixel: the share of clips whose distance is below 1. speed_kept: the share of
    clips whose nearest path has the speed of their class. (reference is not needed: what is right follows from the
    class.)

    Of clips with two digits, where there are such: two_apart, the share of frames whose light falls into two pieces
    APART from each other, as one digit's never does; both_named, of these frames the share in which the classifier
    names both pieces.

    Raises ValueError if no clip has one digit.
    """
    alone = data.labels < 20
    clips, labels = data.x_0[alone], data.labels[alone]
    if len(clips) == 0:
        raise ValueError(f"There is no clip with one digit among the {len(data.labels)}: give labels below 20.")
    _, logits = classify(cut_out(clips))
    kept = logits.argmax(1).view(len(clips), -1) == (labels % 10)[:, None]
    middle = centres(clips)
    squares, speeds = zip(*(nearest_path(middle[:, :, i]) for i in range(2)), strict=True)
    error = sum(squares).sqrt()
    threshold = sum(SPEEDS.values()) / 2
    fast = torch.stack(speeds).square().sum(0).sqrt() > threshold
    return {
        "class_kept": float(kept.float().mean()),
        "path_error": float(error.mean()),
        "within_a_pixel": float((error < 1).float().mean()),
        "speed_kept": float((fast == (labels // 10 == 1)).float().mean()),
        **({} if bool(alone.all()) else _measure_pairs(data.x_0[~alone], data.labels[~alone] % 10)),
    }


def _measure_pairs(clips: Tensor, digits: Tensor) -> dict[str, float]:
    pictures, middles = two_pieces(clips)
    apart = (middles[0] - middles[1]).norm(dim=-1) >= APART
    named = [classify(_cut_at(one[apart], at[apart]))[1].argmax(1) for one, at in zip(pictures, middles, strict=True)]
    right = [one == digits.repeat_interleave(FRAMES)[apart] for one in named]
    both = (right[0] & right[1]).sum() / apart.sum().clamp_min(1)
    return {"two_apart": float(apart.float().mean()), "both_named": float(both)}


@typed_arguments
def shuffled(data: Data, generator: torch.Generator) -> Data:
    """Chance: the frames of each clip in a random order, and the clips' labels exchanged."""
    n, _, frames, _, _ = data.x_0.shape
    order = torch.rand(n, frames, generator=generator, device="cpu", dtype=torch.float32).argsort(1)
    mixed = torch.stack([clip[:, one] for clip, one in zip(data.x_0, order, strict=True)])
    return Data(mixed, data.labels[torch.randperm(n, generator=generator, device="cpu", dtype=torch.int64)])


def clips_gif(x_0: Tensor, names: Sequence[str] = ()) -> bytes:
    """Clips [B, 1, F, H, W] in [-1, 1] side by side as one GIF that repeats for ever."""
    sheets = [mosaic(pixels(x_0[:, :, f])) for f in range(x_0.shape[2])]
    frames = [Image.fromarray(np.ascontiguousarray(sheet[..., 0])) for sheet in sheets]
    frames = [
        frame.resize((GIF_SCALE * frame.width, GIF_SCALE * frame.height), Image.Resampling.NEAREST) for frame in frames
    ]
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=GIF_MILLISECONDS, loop=0, optimize=False
    )
    return file.getvalue()


VIDEO = Kind(
    name="video",
    shape=(1, FRAMES, SIDE, SIDE),
    class_names=CLASS_NAMES,
    sample_data=moving_digits,
    train_size=40_000,
    measure=measure_clips,
    chance=shuffled,
    sampling={"num_inference_steps": 20, "sampler": "dpm_solver_pp_2m"},
    writers={".gif": clips_gif},
)
