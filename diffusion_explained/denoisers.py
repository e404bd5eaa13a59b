"""From a network to a belief: parameterisation, classifier-free guidance and clipping in one adapter.

A `Denoiser` is anything that maps (x_t, level) to a `Prediction`. Samplers see nothing else, so one sampler drives
a network, Stable Diffusion, and the exact denoisers of `exact`, whose answers are known in closed form.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffusion_explained.checks import float_data, named_options, number, same_shape
from diffusion_explained.forward import like
from diffusion_explained.predictions import check_kind, input_scale, to_x0_eps
from diffusion_explained.schedules import Level, Schedule


@dataclass(frozen=True)
class Prediction:
    """What a denoiser believes at x_t; every tensor is [B, ...] and x_t = alpha * x_0 + sigma * eps holds.

    x_0 and eps are after guidance and clipping; eps_cond and eps_uncond are the two sides of guidance before them,
    eps_uncond None when guidance is off.
    """

    x_0: Tensor
    eps: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor | None = None


class Denoiser(Protocol):
    """Anything that says what it believes at a level."""

    def __call__(self, x_t: Tensor, level: Level) -> Prediction: ...


MAX_GUIDANCE_SCALE = 100.0  # far beyond any use: pictures burn out from 10 or 20 on
MIDDLE = (0.2, 3.0)  # of the noise, in sigma/alpha: the guidance_interval that is measured in benchmarks/quality.py


def guide(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance, uncond + w * (cond - uncond).

    w = 1 is off and w = 0 unconditional: the convention of Imagen, Eq. 2, and of Stable Diffusion. (The first paper,
    Ho & Salimans, Eq. 6, writes (1 + w') * cond - w' * uncond, so its w' is w - 1.)
    """
    same_shape("cond and uncond", float_data("cond", cond), float_data("uncond", uncond))
    check_guidance(guidance_scale)
    return uncond + guidance_scale * (cond - uncond)


def rescale_guided(guided: Tensor, cond: Tensor, guidance_rescale: float) -> Tensor:
    """Give the guided output back the contrast of the conditional one (Lin et al. 2023, Eq. 15-16).

        guided * (1 - phi + phi * std(cond) / std(guided)),   the standard deviations per image

    phi = guidance_rescale: 0 is off, 0.7 is the paper's choice. A flat output (std 0) has no contrast and is left as
    it is. Raises ValueError for images of a single number, which have no standard deviation.
    """
    same_shape("guided and cond", float_data("guided", guided), float_data("cond", cond))
    phi = number("guidance_rescale", guidance_rescale, "from 0 (off) to 1", 0, 1)
    if len(guided) == 0 or guided[0].numel() < 2:
        raise ValueError("guidance_rescale compares the contrasts of images, and an image of one number has none.")
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdim=True)
    flat = spread < 1e-12
    ratio = torch.where(flat, 1.0, cond.std(axes, keepdim=True) / torch.where(flat, 1.0, spread))
    return guided * (phi * ratio + (1 - phi))


def clip_x_0(pred: Prediction, x_t: Tensor, level: Level, clip: float) -> Prediction:
    """Clamp x_0 to [-clip, clip] and derive eps again, so that x_t = alpha * x_0 + sigma * eps still holds.

    Without the second half a sampler would step with a noise that belongs to another picture.
    """
    x_0 = pred.x_0.clamp(-clip, clip)
    eps = (x_t - like(level.alpha, x_t) * x_0) / like(level.sigma, x_t)
    return Prediction(x_0, eps, pred.eps_cond, pred.eps_uncond)


class NetworkDenoiser:
    """A trained network as a `Denoiser`.

    The raw outputs are guided first and converted afterwards (on one level the conversion is linear, so the order
    matters only to rescaling). Both sides run as one batch of 2B; with guidance off there is one pass of B.

    Args:
        network: called as network(x, t [B], cond [B, ...] or None) -> [B, ...].
        schedule: whose levels will be visited; it also tells the network the time.
        kind: what the network predicts, one of `predictions.KINDS`.
        cond: the condition, one per image: labels [B], or embeddings [B, ...]; None: what the network takes as none.
        uncond: what stands in for "no condition": the null label, another class (a negative prompt), or empty text.
        guidance_scale: w of `guide`; 1 is off.
        guidance_interval: guide only where low <= sigma/alpha <= high (Kynkaanniemi et al. 2024); elsewhere w = 1.
        guidance_rescale: phi of `rescale_guided`.
        clip: clamp x_0 to [-clip, clip] and derive eps again; None is off. 1 suits images in pixel space.
    """

    @named_options
    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Any], Tensor],
        schedule: Schedule,
        kind: str,
        *,
        cond: Tensor | None = None,
        uncond: Tensor | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        guidance_rescale: float = 0.0,
        clip: float | None = None,
    ) -> None:
        check_kind(kind)
        check_guidance(guidance_scale, guidance_interval, guidance_rescale)
        if guidance_scale != 1 and (cond is None or uncond is None):
            raise ValueError(
                f"guidance_scale={guidance_scale} needs a condition to move towards and one to move away from; "
                "give cond and uncond (labels and the null label), or leave guidance_scale at 1."
            )
        both = cond is not None and uncond is not None
        if both and (cond.shape[1:] != uncond.shape[1:] or len(uncond) not in (1, len(cond))):
            raise ValueError(
                f"uncond {list(uncond.shape)} must be as cond {list(cond.shape)}, one per image or one for all."
            )
        if clip is not None and number("clip", clip, "a positive number, or None for none") <= 0:
            raise ValueError(f"clip must be a positive number, or None for none; got {clip}.")
        self.network, self.schedule, self.kind = network, schedule, kind
        self.cond, self.uncond = cond, uncond
        self.guidance_scale, self.guidance_interval = float(guidance_scale), guidance_interval
        self.guidance_rescale, self.clip = float(guidance_rescale), clip

    @torch.no_grad()
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The prediction at x_t [B, ...] and its level, or with guidance off a level per image: its three numbers [B].

        x_t may be of any floating-point dtype, and the prediction is of the same; the network is given its own.
        Raises ValueError for a shape, a dtype or a device that does not fit.
        """
        float_data("x_t", x_t)
        if not isinstance(level, Level):
            raise ValueError(f"level must be a Level, as a schedule gives them (schedule.level(t)); got {level!r}.")
        image_shape = getattr(self.network, "image_shape", None)
        if image_shape is not None and tuple(x_t.shape[1:]) != tuple(image_shape):
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}, but this network takes [B, *{tuple(image_shape)}].")
        if self.cond is not None and len(self.cond) != len(x_t):
            raise ValueError(
                f"x_t holds {len(x_t)} images but there are {len(self.cond)} conditions: give one per image."
            )
        weight = next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        if weight is not None and weight.device != x_t.device:
            raise ValueError(
                f"x_t is on {x_t.device} and the network on {weight.device}: move one of them with .to(device)."
            )
        if isinstance(level.t, Tensor):
            if self.guidance_scale != 1:
                raise ValueError("A level per image is for a denoiser without guidance: give guidance_scale=1.")
            time = self.schedule.network_time(level.t).to(x_t.device)
        else:
            # filled in on the device: a tensor sent to a GPU would wait for all that was asked of it before
            time = torch.full((), self.schedule.time_at(level), device=x_t.device, dtype=torch.float32)
        scaled = x_t * like(input_scale(self.kind, level.alpha, level.sigma), x_t) if self.kind == "edm" else x_t

        def call(x: Tensor, cond: Any) -> Tensor:
            fitting = x if weight is None else x.to(weight.dtype)
            return self.network(fitting, time.expand(len(x)), cond).to(x.dtype)

        def pair(output: Tensor) -> tuple[Tensor, Tensor]:
            return to_x0_eps(self.kind, output, x_t, level.alpha, level.sigma)

        if not self.guides_at(level):
            x_0, eps = pair(call(scaled, self.cond))
            pred = Prediction(x_0, eps, eps_cond=eps)
        else:
            both = torch.cat([self.uncond.expand_as(self.cond), self.cond])
            uncond, cond = call(torch.cat([scaled, scaled]), both).chunk(2)
            guided = guide(cond, uncond, self.guidance_scale)
            if self.guidance_rescale > 0:
                guided = rescale_guided(guided, cond, self.guidance_rescale)
            x_0, eps = pair(guided)
            pred = Prediction(x_0, eps, eps_cond=pair(cond)[1], eps_uncond=pair(uncond)[1])
        return pred if self.clip is None else clip_x_0(pred, x_t, level, self.clip)

    def guides_at(self, level: Level) -> bool:
        """Whether guidance is on at this level."""
        if self.guidance_scale == 1:
            return False
        if self.guidance_interval is None:
            return True
        low, high = self.guidance_interval
        return low * level.alpha <= level.sigma <= high * level.alpha or (level.alpha == 0 and high == math.inf)


def check_guidance(scale: float, interval: tuple[float, float] | None = None, rescale: float = 0.0) -> None:
    """Raise ValueError for a guidance scale, interval or rescale that means nothing."""
    number(
        "guidance_scale", scale, f"a finite number from 0 to {MAX_GUIDANCE_SCALE:g} (1 is off)", 0.0, MAX_GUIDANCE_SCALE
    )
    if interval is not None:
        try:
            low, high = (float(end) for end in interval)
        except (TypeError, ValueError):
            low = high = math.nan
        if not 0 <= low < high:
            raise ValueError(
                f"guidance_interval must be (low, high) in sigma/alpha with 0 <= low < high; got {interval!r}."
            )
    number("guidance_rescale", rescale, "from 0 (off) to 1", 0.0, 1.0)
