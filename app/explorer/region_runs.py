"""The runs of the part "Two prompts" of the page Control: by one prompt, and by a prompt for each region."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_explained.film import Film
from diffusion_explained.micro.control_pictures import BLUE, RED
from diffusion_explained.micro.fidelity import only
from diffusion_explained.micro.retrieval import rank
from diffusion_explained.samplers import Step
from explorer import drawings, stable
from explorer.cache import named_cache
from explorer.control_kinds import Given
from explorer.control_runs import BothRuns, Drawn, draw_both
from explorer.turns import HEAVY, Tell

if TYPE_CHECKING:
    from diffusion_explained.stable_diffusion.region_films import RecordedRegions


@dataclass(frozen=True)
class RegionRuns(BothRuns):
    """With two prompts, for the red region and for the blue one; scale: how far each keeps to its own.

    things: the prompts without the words for their places.
    """

    prompts: tuple[str, str] = ("", "")
    things: tuple[str, str] = ("", "")


def areas(given: Given) -> tuple[Tensor, Tensor]:
    """The two regions, [128, 128] each, 0 or 1."""
    return given.picture[0, RED], given.picture[0, BLUE]


def draw(ask: RegionRuns, given: Given, tell: Tell) -> Drawn:
    """Draw with one prompt and with two in their regions. Raises the engine's ValueErrors and OSErrors."""

    def make(tell: Tell) -> Drawn:
        from diffusion_explained.stable_diffusion.region_films import RecordedRegions, region_film
        from diffusion_explained.stable_diffusion.regions import regional

        here = stable.load(stable.models(), stable.MICRO, tell)
        of_run = {"num_inference_steps": ask.num_inference_steps, "seed": ask.seed}

        def record(model: Any) -> "AbstractContextManager[RecordedRegions]":
            start = model.prepare(ask.seed, levels=model.levels(ask.num_inference_steps))
            masks = [0.5 + ask.scale * (area - 0.5) for area in areas(given)]
            return nullcontext(RecordedRegions(regional(model, ask.prompts, masks, ask.guidance_scale, start=start)))

        def second(_: Any, regions: "RecordedRegions") -> Iterator[Step]:
            return here.model.steps(regions, **of_run)

        def show(plain: Tensor, mixed: Tensor, steps: list[Step], regions: "RecordedRegions") -> Film:
            return region_film(plain, mixed, steps, regions, regions.pictures(here.model))

        return draw_both(here, here.model, ask, second, record, show, tell)

    return named_cache("in regions").get((ask, given.key), make, tell)


def recognised(ask: RegionRuns, given: Given, drawn: Drawn) -> tuple[str, ...]:
    """Which of the two things is in the first region, by two prompts and by one, and in the second region.

    Empty if the things are not two.
    """
    if not all(thing.strip() for thing in ask.things) or len(set(ask.things)) < 2:
        return ()

    def make(tell: Tell) -> tuple[str, ...]:
        pictures = torch.cat([drawn.controlled, drawn.plain])
        parts = torch.cat([only(pictures, area > 0.5) for area in areas(given)])
        with HEAVY.turn(tell):
            return tuple(best[0][0] for best in rank(drawings.reader()[0], parts, ask.things, 1))

    return named_cache("things in regions", 64).get((ask, given.key), make)


def program(ask: RegionRuns, given: Given) -> str:
    """Both runs in Python: plain and steps, their pictures, and how far the prompts' predictions are apart."""
    return f"""{given.program}

from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.region_films import RecordedRegions
from diffusion_explained.stable_diffusion.regions import regional

model = load({stable.MICRO!r})
plain = list(model.steps(
    {ask.prompt!r},
{ask.printed()}))
start = model.prepare({ask.seed}, levels=model.levels({ask.num_inference_steps}))
masks = [0.5 + {ask.scale!r} * (mask - 0.5) for mask in masks]
prompts = [{ask.prompts[0]!r}, {ask.prompts[1]!r}]
regions = RecordedRegions(regional(model, prompts, masks, {ask.guidance_scale!r}, start=start))
steps = []
for step in model.steps(regions, num_inference_steps={ask.num_inference_steps!r}, seed={ask.seed!r}):
    regions.after(step)
    steps.append(step)
pictures = [model.decode(run[-1].x_next) for run in (plain, steps)]
spread = regions.spread()  # [steps, regions]: how far the prompts' predictions are apart"""
