"""Record a run of Stable Diffusion as a `Trace`: thumbnails and norms of every step, to show without a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.devices import hardware
from diffusion_explained.film import pixels
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.float8 import is_float8
from diffusion_explained.stable_diffusion.inpainting import SAMPLER as REPAINTS_WITH
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.trace_rules import LARGEST, MOST_IMAGES
from diffusion_explained.stable_diffusion.traces import Trace


@typed_arguments
def record(
    model: StableDiffusion,
    prompt: str | Sequence[str],
    *,
    negative: str | Sequence[str] | None = None,
    thumbnail: int = 64,
    progress: Callable[[Step], object] | None = None,
    **options: Any,
) -> Trace:
    """Run `model.steps(prompt, ...)` and keep its thumbnails and norms.

    The predicted x_0 of each step is decoded by the model's preview decoder if it has one, and the final pictures by
    its own decoder. Of a video its middle frame is kept.

    Args:
        prompt, negative, options: as for `StableDiffusion.steps`.
        thumbnail: the longer side of the small pictures, in pixels.
        progress: called with each step.

    Raises ValueError for more than 4 images or a thumbnail out of range, and what `steps` raises.
    """
    if not 8 <= thumbnail <= LARGEST:
        raise ValueError(f"thumbnail must be from 8 to {LARGEST} pixels, got {thumbnail}.")
    started = time.perf_counter()
    text = model.encode_text(prompt, negative)
    in_text = time.perf_counter() - started
    seed, batch_size = options.get("seed", 0), options.get("batch_size")
    seeds = np.ravel(seed).tolist() if np.ndim(seed) else [int(seed) + i for i in range(batch_size or len(text))]
    if len(seeds) > MOST_IMAGES:
        raise ValueError(f"A trace holds at most {MOST_IMAGES} images, so that it stays small; got {len(seeds)} seeds.")
    rows, x_0, latents, in_steps = [], [], [], 0.0
    last: Step | None = None
    steps = model.steps(text, **options)
    while True:
        started = time.perf_counter()
        step = next(steps, None)
        if step is None:
            break
        rows.append(row_of(step))  # reading the norms waits for the GPU, so the time includes its work
        in_steps += time.perf_counter() - started
        latents.append(small(frame_of(model.preview(step.x_t)), thumbnail))
        x_0.append(small(frame_of(model.decode_preview(step.pred.x_0)), thumbnail))
        last = step
        if progress is not None:
            progress(step)
    if last is None:
        raise ValueError("The sampler yielded no step, so there is nothing to record.")
    latents.append(small(frame_of(model.preview(last.x_next)), thumbnail))
    started = time.perf_counter()
    decoded = model.decode(last.x_next).cpu()
    images = frame_of(decoded)
    in_decoding = time.perf_counter() - started
    scale, resamplings = options.get("guidance_scale"), options.get("resamplings")
    settings = {
        "model": _named(model, options.get("refiner")),
        "prompt": list(text.prompts),
        "negative": None if text.negative is None else list(text.negative),
        "sampler": options.get("sampler") or (REPAINTS_WITH if resamplings else model.default_sampler),
        "spacing": options.get("spacing"),
        "guidance_scale": model.default_guidance_scale if scale is None else float(scale),
        "num_inference_steps": len(rows),
        "seeds": seeds,
        "height": images.shape[2],
        "width": images.shape[3],
        "latent_shape": [last.x_next.shape[1], *last.x_next.shape[-2:]],
        "frames": decoded.shape[1] if decoded.ndim == 5 else None,
        "text_shape": list(text.embeds.shape[1:]),
        "from_image": options.get("image") is not None,
        "strength": options.get("strength", 1.0),
        "inpainting": options.get("mask") is not None,
        "resamplings": resamplings,
        "safety_checker_left_out": model.unchecked,
        "parameters": model.parameters(),
        "device": hardware(model.device),
        "dtype": str(model.network.dtype).removeprefix("torch.") + ", float8" * is_float8(model.network),
        "preview_decoder": None if model.preview_decoder is None else model.preview_decoder.name[:300],
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": {"text": in_text, "steps": in_steps, "decode": in_decoding},
    }
    tokens = [[asdict(one) for one in of_prompt] for of_prompt in text.tokens]
    small_images = small(images, min(LARGEST, max(images.shape[2:])))
    return Trace(model.label, settings, tokens, rows, np.stack(x_0), np.stack(latents), small_images)


def _named(model: StableDiffusion, refiner: StableDiffusion | None) -> str:
    """The model's name, with the LoRAs that its weights contain, and its refiner."""
    loras = [f"{name} ({scale:g})" for name, scale in model.loras.items()]
    return " + ".join([model.name, *loras, *([] if refiner is None else [refiner.name])])[:300]


def frame_of(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W]: themselves, or of videos [B, F, 3, H, W] the middle frames."""
    return pictures[:, pictures.shape[1] // 2] if pictures.ndim == 5 else pictures


@typed_arguments
def row_of(step: Step) -> dict[str, Any]:
    """The numbers of a step: its level, and per image the norms of x_t, of both predicted noises, of their difference.

    |eps| = sqrt(sum eps^2),   about sqrt(C h w) for noise
    """
    pred = step.pred
    return {
        "i": step.i,
        "t": step.level.t,
        "alpha": step.level.alpha,
        "sigma": step.level.sigma,
        "x_t_norm": norms(step.x_t),
        "cond_norm": norms(pred.eps_cond),
        "uncond_norm": None if pred.eps_uncond is None else norms(pred.eps_uncond),
        "difference_norm": None if pred.eps_uncond is None else norms(pred.eps_cond - pred.eps_uncond),
    }


def norms(x: Tensor) -> list[float]:
    """The Euclidean norm of each x of [B, ...]."""
    return x.flatten(1).norm(dim=1).tolist()


def small(images: Tensor, side: int) -> np.ndarray:
    """Pictures [B, 3, H, W] in [-1, 1] as bytes [B, h, w, 3], resized so that the longer side has `side` pixels."""
    height, width = images.shape[2:]
    scale = side / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    if size != [height, width]:
        mode = "area" if scale < 1 else "nearest"
        images = torch.nn.functional.interpolate(images, size=size, mode=mode)
    return pixels(images)[..., :3]
