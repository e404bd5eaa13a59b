"""Walks through what decides a picture: from prompt to prompt, from noise to noise, or around a circle of noise.

    pictures = walk(model, "a red apple", to_prompt="a purple apple", count=9)     # [9, 3, H, W]
    pictures = walk(model, "a cat", seed=3, to_seed=5)
    pictures = walk(model, "a cat", seed=3, to_seed=5, around=True)

Prompts are mixed linearly by their embeddings, noises on a sphere (`latent_space.slerp`). The circle through two
independent noises a and b is

    x(angle) = cos(angle) a + sin(angle) b,     which is N(0, I) at every angle, and closes at 360 degrees.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments, whole
from diffusion_explained.samplers import final, run
from diffusion_explained.stable_diffusion.latent_space import slerp
from diffusion_explained.stable_diffusion.latents import Start
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.text import Text


@named_options
@typed_arguments
def walk(
    model: StableDiffusion,
    prompt: str,
    *,
    to_prompt: str | None = None,
    seed: int = 0,
    to_seed: int | None = None,
    around: bool = False,
    count: int = 9,
    negative: str | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Tensor:
    """Pictures [count, 3, H, W] in [-1, 1] at evenly spaced places of a walk, from its first end to its second.

    Args:
        to_prompt, to_seed: the second end; None stays at the first. A walk may change both.
        around: around the circle through the noises of both seeds; its last picture is followed by its first.
        negative and the rest: as for `StableDiffusion.steps`.

    Raises ValueError if nothing changes, for a circle without to_seed, for fewer than two pictures, and what `steps`
    raises.
    """
    count = whole("count", count, 2)
    if to_prompt is None and to_seed is None:
        raise ValueError("A walk needs a second end: give to_prompt, to_seed, or both.")
    if around and to_seed is None:
        raise ValueError("A circle goes through two noises: give to_seed too.")
    name = model.default_sampler if sampler is None else sampler
    levels = model.levels(num_inference_steps, name, spacing, height=height, width=width)

    def prepared(seeds: list[int]) -> Start:
        return model.prepare(seeds, levels=levels, height=height, width=width, sampler=name, spacing=spacing)

    a, b = prepared([seed, seed if to_seed is None else to_seed]).x_t.split(1)
    if around:
        angles = [2 * math.pi * k / count for k in range(count)]
        states = [math.cos(angle) * a + math.sin(angle) * b for angle in angles]
    else:
        states = [slerp(a, b, k / (count - 1)) for k in range(count)]
    begun = replace(prepared([seed] * count), x_t=torch.cat(states))
    text = _between(model, prompt, prompt if to_prompt is None else to_prompt, negative, count)
    denoise: Any = model.denoiser(text, guidance_scale, start=begun)
    return model.decode(final(run(name, denoise, begun)))


def _between(model: StableDiffusion, prompt: str, to_prompt: str, negative: str | None, count: int) -> Text:
    """The embeddings of two prompts, and count - 2 between them; the tokens of all are those of the first."""
    ends = model.encode_text([prompt, to_prompt])
    text = model.encode_text([prompt] * count, None if negative is None else [negative] * count)
    shares = torch.linspace(0, 1, count, dtype=torch.float64, device="cpu").tolist()

    def mixed(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.stack([torch.lerp(x[0], x[1], share) for share in shares])

    embeds = mixed(ends.embeds)
    return replace(text, embeds=text.embeds if embeds is None else embeds, pooled=mixed(ends.pooled))
