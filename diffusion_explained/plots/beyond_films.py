"""Runs and data that are no pictures, as films for the scrubber: clips of a video, and clouds of points.

steps = list(model.steps([3], num_inference_steps=20, seed=0))
scrub(clip_film(steps))               # a video network: one row of frames per clip
scrub(frame_film(steps[-1].x_next))   # the finished clips, one frame at a time
scrub(cloud_film(steps))              # a network of shapes
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from diffusion_explained.checks import all_of, check_finite, check_some, float_data, number, typed_arguments, whole
from diffusion_explained.film import Film, caption, evenly_spaced, film, mosaic, pixels, shown
from diffusion_explained.palette import LIGHT, rgb
from diffusion_explained.samplers import Step

SIDE = 160  # pixels of a cloud's square picture
REACH = 1.35  # half the side of the picture, in the coordinates of the clouds; points beyond are not drawn
ELEVATION = 20.0  # degrees above the horizon from which a cloud is seen


@typed_arguments
def clip_film(steps: Sequence[Step], *, frames: int = 8) -> Film:
    """The film of a video sampler's steps: x_t and the predicted x_0, one row of frames per clip.

    steps: those of a sampler of clips [B, C, F, H, W], at least one. frames: how many of the F frames are shown, evenly
    spaced. Raises ValueError for no steps, and for steps that are no clips.
    """
    frames = whole("frames", frames, 1)

    def sheet(clips: Tensor) -> np.ndarray:
        kept = evenly_spaced(_clips("clips", clips).shape[2], frames)
        tiles = clips[:, :, kept].transpose(1, 2).flatten(0, 1)  # [B * frames, C, H, W]
        return mosaic(pixels(tiles), len(kept))

    return _film_of(steps, sheet, "clips, one row of frames each, from left to right")


@typed_arguments
def frame_film(clips: Tensor) -> Film:
    """The film that plays clips [B, C, F, H, W] in [-1, 1] side by side, one frame at a time.

    Raises ValueError for a tensor that holds no clips.
    """
    count = _clips("clips", clips).shape[2]
    sheets = [mosaic(pixels(clips[:, :, k])) for k in range(count)]
    return film(
        [("clips", f"{len(clips)} clips side by side", sheets)], [f"frame {k + 1} of {count}" for k in range(count)]
    )


@typed_arguments
def cloud_film(steps: Sequence[Step], *, turn: float = 30.0) -> Film:
    """The film of a sampler's steps over clouds of points: x_t and the predicted x_0, as `cloud_sheet` draws them.

    steps: those of a sampler of clouds [B, N, 3], at least one. turn: degrees about the vertical axis.
    Raises ValueError for no steps, and for steps that are no clouds.
    """
    return _film_of(steps, lambda clouds: cloud_sheet(clouds, turn=turn), "clouds of points, nearer points darker")


@typed_arguments
def cloud_sheet(clouds: Tensor, *, turn: float = 30.0, columns: int | None = None) -> np.ndarray:
    """Clouds [B, N, 3] as one picture, bytes [H, W, 4]: parallel rays, z upwards, nearer points darker and in front.

    turn: degrees about the vertical axis. Raises ValueError for a tensor that holds no clouds.
    """
    if float_data("clouds", clouds).ndim != 3 or clouds.shape[2] != 3 or 0 in clouds.shape:
        raise ValueError(f"clouds must be points [B, N, 3], B and N of 1 or more; got {list(clouds.shape)}.")
    check_finite(clouds, "clouds")
    angle, up = math.radians(number("turn", turn, "a number of degrees")), math.radians(ELEVATION)
    x, y, z = clouds.detach().cpu().float().unbind(-1)
    across, away = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    height, depth = z * math.cos(up) + away * math.sin(up), away * math.cos(up) - z * math.sin(up)
    return mosaic(np.stack([_dots(*one) for one in zip(across, height, depth, strict=True)]), columns, gap=4)


def _dots(across: Tensor, height: Tensor, depth: Tensor) -> np.ndarray:
    """Points [N] each, far ones first, as a picture [SIDE, SIDE, 4]; a point is a square of 2 x 2 pixels."""
    far, near = (np.array(rgb(colour), np.float32) for colour in (LIGHT.grid, LIGHT.data))
    picture = np.full((SIDE, SIDE, 4), 255, np.uint8)
    picture[..., :3] = rgb(LIGHT.background)
    order = depth.argsort(descending=True)
    columns, rows = (((one[order] / REACH + 1) / 2 * (SIDE - 2)).round().int().numpy() for one in (across, -height))
    nearness = ((1 - depth[order]) / 2).clamp(0.15, 1).numpy()[:, None]
    colours = (far + nearness * (near - far)).round().astype(np.uint8)
    for row, column, colour in zip(rows, columns, colours, strict=True):
        if 0 <= row <= SIDE - 2 and 0 <= column <= SIDE - 2:
            picture[row : row + 2, column : column + 2, :3] = colour
    return picture


def _film_of(steps: Sequence[Step], sheet: Callable[[Tensor], np.ndarray], what: str) -> Film:
    """The film of x_t and of the predicted x_0, each drawn by `sheet`, and of the end."""
    steps = all_of("steps", steps, Step)
    check_some("steps", steps)
    noisy = [*(sheet(shown(step.x_t, step.level)) for step in steps), sheet(steps[-1].x_next)]
    predicted = [sheet(step.pred.x_0) for step in steps]
    count = steps[-1].i + 1
    return film(
        [("xₜ", f"the noisy {what}", noisy), ("predicted x₀", f"the predicted {what}", [*predicted, predicted[-1]])],
        [*(caption(step, count) for step in steps), f"after {count} step{'s' if count > 1 else ''}"],
    )


def _clips(what: str, clips: Tensor) -> Tensor:
    if float_data(what, clips).ndim != 5 or 0 in clips.shape:
        raise ValueError(f"{what} must be [B, C, frames, H, W], none of them 0; got {list(clips.shape)}.")
    return clips
