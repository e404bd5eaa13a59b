"""The refiner of Stable Diffusion XL: a second network, trained on the last steps alone (SDXL, Sec. 2.5).

    base       from noise, at the levels of times t >= (1 - s) T        s: refiner_start, 0.8 by default
    refiner    from the base's latents, at the other levels of the same schedule; no noise is added in between

This is diffusers' denoising_end=s of the base's pipeline, and denoising_start=s of the refiner's. The refiner reads the
prompt with its own text encoder, and takes an aesthetic score where the base takes the size of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import number
from diffusion_explained.denoisers import Denoiser
from diffusion_explained.samplers import Start, Step, run
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.families import REFINER, Family

SCORES = (6.0, 2.5)  # aesthetic scores of the prompt's side and of the other one: diffusers' defaults


def check_refiner(base: Family, refiner: Family) -> None:
    """Raise ValueError unless the second of two models refines what the first one draws."""
    if (base.name, refiner.name) != ("sdxl", REFINER):
        raise ValueError(
            f"A refiner belongs to Stable Diffusion XL: the model is {base.title}, and refiner is {refiner.title}. "
            "Give a model of Stable Diffusion XL and its refiner (stabilityai/stable-diffusion-xl-refiner-1.0)."
        )


def split(levels: Sequence[Level], of_refiner: Sequence[Level], start: float, T: int) -> int:
    """The number of steps that the base takes. levels, of_refiner: those of both models' schedulers.

    Raises ValueError for a start that leaves either model no step, and for schedulers that visit other levels.
    """
    number("refiner_start", start, "a number between 0 and 1", 0, 1)
    if list(levels) != list(of_refiner):
        raise ValueError(
            "The schedulers of base and refiner visit different levels: give the same sampler and spacing."
        )
    last = round(T - start * T)
    steps = sum(level.t >= last for level in levels[:-1])
    if not 0 < steps < len(levels) - 1:
        raise ValueError(
            f"refiner_start {start:g} leaves {'the base' if steps == 0 else 'the refiner'} none of {len(levels) - 1} "
            "steps: 0.8 is usual. Take more steps, or another start."
        )
    return steps


def refined(
    name: str, base: Denoiser, refiner: Denoiser, begun: Start, steps: int, of_sampler: dict[str, Any]
) -> Iterator[Step]:
    """Yield `steps` steps of the base, then those of the refiner from there on, numbered on.

    The sampler begins anew with the refiner, as in diffusers: it remembers no prediction of the base.
    """
    x_t = begun.x_t
    for step in islice(run(name, base, begun, **of_sampler), steps):
        x_t = step.x_next
        yield step
    second = replace(begun, x_t=x_t, levels=begun.levels[steps:])
    for step in run(name, refiner, second, **of_sampler):
        yield replace(step, i=step.i + steps)


def with_score(condition: tuple[Tensor, ...], score: float) -> tuple[Tensor, ...]:
    """The condition (embeds [N, L, D], pooled [N, P]) with the aesthetic scores [N] that the refiner takes."""
    embeds = condition[0]
    return *condition, torch.full((len(embeds),), score, device=embeds.device, dtype=embeds.dtype)
