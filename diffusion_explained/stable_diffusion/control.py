"""ControlNets on a Stable Diffusion: pictures of lines, depths or areas that steer what is drawn (Zhang et al. 2023).

    model = load_control(load("micro"), "micro")                     # or a folder of diffusers' ControlNetModel
    model.sample("a red cat", control=picture, control_scale=1.0, control_interval=(0, 0.8), seed=0)

Each network reads x_t, the time, the text and its control picture c, and adds a residual to each skip connection of the
U-Net and to its middle block's output. Several of them add up, each with its scale w_k:

    skip_i <- skip_i + sum_k w_k Z_ki(h_ki(x_t, t, text, c_k))                                   (Eq. 2 and Sec. 3.3)

Both sides of guidance get the same residuals, as in diffusers. A scale of 0, and a step outside the interval, runs the
U-Net alone: the prediction is then that of the model without control, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffusion_explained.checks import check_finite, float_data, number
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.messages import shortened
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.latents import Start

SHARES = "two shares of the steps, 0 <= start <= end <= 1"


@dataclass(frozen=True)
class LoadedControl:
    """A ControlNet that is loaded for a model: its name, and the module, diffusers' ControlNetModel.

    pixels: picture pixels per latent pixel along each side, of the model.
    """

    name: str
    network: Any
    pixels: int


@dataclass(frozen=True)
class Control:
    """One control of a run: picture [1 or B, C, H, W] in [0, 1]; active between these times, None at every time."""

    loaded: LoadedControl
    picture: Tensor
    scale: float
    times: tuple[float, float] | None = None

    def acts_at(self, level: Level) -> bool:
        """Whether the ControlNet is called at this level."""
        if self.scale == 0:
            return False
        return self.times is None or self.times[0] <= level.t <= self.times[1]

    def residuals(self, x: Tensor, named: Mapping[str, Any]) -> tuple[list[Tensor], Tensor]:
        """The residuals of the skip connections, [N, C_i, h_i, w_i] each, and of the middle block, for x [N, C, h, w].

        named: the U-Net's arguments besides x; N is B, or 2B with guidance. Raises ValueError for a picture of another
        size than x's.
        """
        _check_size(self.picture, x, self.loaded)
        shared = {key: named[key] for key in ("timestep", "encoder_hidden_states", "added_cond_kwargs") if key in named}
        picture = self.picture.repeat(len(x) // len(self.picture), 1, 1, 1)
        return self.loaded.network(
            x, **shared, controlnet_cond=picture, conditioning_scale=self.scale, return_dict=False
        )


def sum_of_residuals(controls: Sequence[Control], x: Tensor, named: Mapping[str, Any]) -> dict[str, Any]:
    """The U-Net's arguments that hold the residuals of all controls; none for no control. x [N, C, h, w]."""
    if not controls:
        return {}
    skips, middle = controls[0].residuals(x, named)
    for control in controls[1:]:
        more, other = control.residuals(x, named)
        skips, middle = [a + b for a, b in zip(skips, more, strict=True)], middle + other
    return {"down_block_additional_residuals": tuple(skips), "mid_block_additional_residual": middle}


@dataclass(frozen=True)
class ControlledDenoiser:
    """A `Denoiser` with controls, each at the levels of its interval only.

    with_controls: gives the denoiser with these controls, all of them active.
    """

    with_controls: Callable[[tuple[Control, ...]], Denoiser]
    controls: tuple[Control, ...]

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The prediction at x_t [B, C, h, w]."""
        return self.with_controls(tuple(control for control in self.controls if control.acts_at(level)))(x_t, level)


# -- what is given for a run ------------------------------------------------------------------------------------


def controls_of(
    loaded: Sequence[LoadedControl], control: Any, scale: Any, interval: Any, count: int, start: Start | None
) -> tuple[Control, ...]:
    """The controls of a run of `count` images: of each loaded network the picture, the scale and the interval.

    control: one picture, or one per network, None for no control; scale, interval: one for all, or one per network;
    start: of the run, for the size of its picture, and for intervals other than (0, 1).

    Raises ValueError for a number, a picture, a scale or an interval that does not fit.
    """
    if control is None:
        if scale != 1 or tuple(interval) != (0, 1):
            raise ValueError("control_scale and control_interval belong to a control picture: give control= too.")
        return ()
    if not loaded:
        raise ValueError("The model has no ControlNet: load one first, model = load_control(model, FOLDER).")
    pictures = list(control) if isinstance(control, (list, tuple)) else [control]
    scales = list(scale) if isinstance(scale, (list, tuple)) else [scale] * len(loaded)
    several = isinstance(interval, (list, tuple)) and bool(interval) and isinstance(interval[0], (list, tuple))
    intervals = list(interval) if several else [interval] * len(loaded)
    named = {"control": pictures, "control_scale": scales, "control_interval": intervals}
    for name, given in named.items():
        if len(given) != len(loaded):
            raise ValueError(
                f"{name} holds {len(given)} and the model has {len(loaded)} ControlNets "
                f"({', '.join(each.name for each in loaded)}): give one per ControlNet, in this order."
            )
    return tuple(
        Control(
            each,
            _checked_picture(picture, each, count, start),
            float(number("control_scale", w, "a finite number")),
            _times(one, start),
        )
        for each, picture, w, one in zip(loaded, pictures, scales, intervals, strict=True)
    )


def _checked_picture(picture: Any, loaded: LoadedControl, count: int, start: Start | None) -> Tensor:
    """The picture on the network's device; ValueError for another number, other channels or values outside 0 to 1."""
    channels, weight = loaded.network.config.conditioning_channels, next(loaded.network.parameters())
    shape = list(float_data("control", picture).shape)
    if len(shape) != 4 or shape[1] != channels:
        hint = f" Repeat a grey one: picture.repeat(1, {channels}, 1, 1)." if len(shape) == 4 and shape[1] == 1 else ""
        raise ValueError(
            f"control must be a picture [1 or B, {channels}, H, W], as {loaded.name} reads it; got {shape}.{hint}"
        )
    if start is not None:
        _check_size(picture, start.x_t, loaded)
    if shape[0] not in (1, count):
        raise ValueError(f"control holds {shape[0]} pictures for {count} images: give one for all, or one per image.")
    check_finite(picture, "control pictures", "give a picture with values from 0 to 1")
    if float(picture.min()) < 0 or float(picture.max()) > 1:
        raise ValueError(
            f"A control picture has values from 0 (black) to 1 (white); got {float(picture.min()):.3g} to "
            f"{float(picture.max()):.3g}. A picture in [-1, 1] becomes one by (x + 1) / 2."
        )
    return picture.detach().to(weight.device, weight.dtype)


def _check_size(picture: Tensor, x: Tensor, loaded: LoadedControl) -> None:
    """Raise ValueError unless a control picture [B, C, H, W] is as large as the picture of latents x [N, C, h, w]."""
    size = (x.shape[2] * loaded.pixels, x.shape[3] * loaded.pixels)
    if tuple(picture.shape[-2:]) != size:
        raise ValueError(
            f"The control picture is {picture.shape[2]} x {picture.shape[3]} and the picture to draw is {size[0]} x "
            f"{size[1]} pixels: resize the control picture, or give its height and width."
        )


def _times(interval: Any, start: Start | None) -> tuple[float, float] | None:
    """The least and the largest time at which a control is active, None for all.

    Step i of n is inside (start, end) if start <= i / n and (i + 1) / n <= end, as in diffusers.
    """
    if not isinstance(interval, (list, tuple)) or len(interval) != 2:
        raise ValueError(f"control_interval must be {SHARES}; got {shortened(interval)}.")
    first, last = (number("control_interval", one, SHARES, 0, 1) for one in interval)
    if first > last:
        raise ValueError(f"control_interval must be {SHARES}; got {first:g} and {last:g}.")
    if (first, last) == (0, 1):
        return None
    if start is None:
        raise ValueError("control_interval counts the steps of a run: give start= too (from prepare).")
    n = len(start.levels) - 1
    inside = [start.levels[i].t for i in range(n) if i / n >= first and (i + 1) / n <= last]
    return (min(inside), max(inside)) if inside else (math.inf, -math.inf)
