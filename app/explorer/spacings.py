"""How a run's levels are spaced: one control for every page on which a visitor chooses the number of steps.

The control offers only spacings for which the schedule has levels: each is tried with the steps that would run.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS
from explorer import controls, stable
from explorer.loading import USUAL, Loading
from explorer.runs import model
from explorer.stable import OWN

HELP = (
    "How the noise levels of the steps are distributed from noise to image: leading, linspace and trailing space the "
    "timesteps; karras, exponential and beta space the noise ratio σ/α. Spacings for which this model's schedule has "
    "no levels at this number of steps are not in the list."
)


def _allowed(levels: Callable[[str], object]) -> tuple[str, ...]:
    """The names of the spacings for which `levels` does not raise ValueError."""
    allowed = []
    for spacing in (*RATIO_SPACINGS, *SPACINGS):
        try:
            levels(spacing)
        except ValueError:
            continue
        allowed.append(spacing)
    return tuple(allowed)


@lru_cache(256)
def of_network(name: str, *counts: int) -> tuple[str, ...]:
    """The spacings that one of our networks allows at every one of these numbers of steps."""
    of = model(name)
    return _allowed(lambda spacing: [of.levels(count, spacing=spacing) for count in counts])


def of_stable_diffusion(name: str, count: int, sampler: str, loading: Loading = USUAL) -> tuple[str, ...]:
    """The spacings that a Stable Diffusion model allows; all of them if the model is not on this machine."""
    return _allowed(lambda spacing: stable.levels(name, count, sampler, spacing, loading))


def choose(where: Any, allowed: tuple[str, ...], *, key: str, **options: Any) -> str | None:
    """Show the control. Return the chosen name out of `allowed`, or None for the model's own spacing."""
    chosen = controls.choice(where, "Spacing", (OWN, *allowed), OWN, key=key, help=HELP, **options)
    return None if chosen == OWN else chosen
