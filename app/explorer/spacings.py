"""How a run's levels are spaced: one control for every page on which steps are chosen.

What a schedule has no levels for is not offered: each spacing is tried on the very steps that the page would run.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS
from explorer import controls, stable
from explorer.runs import model
from explorer.stable import OWN

HELP = (
    "How the noise levels of the steps are spread from noise to image: leading, linspace and trailing space the "
    "timesteps, karras, exponential and beta the noise ratio σ/α. What this model's schedule has no levels for, at "
    "this number of steps, is not offered."
)


def _allowed(levels: Callable[[str], object]) -> tuple[str, ...]:
    """Those spacings, by name, of which a schedule has levels."""
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
    """The spacings of one of our networks, for each of these numbers of steps."""
    of = model(name)
    return _allowed(lambda spacing: [of.levels(count, spacing=spacing) for count in counts])


def of_stable_diffusion(name: str, count: int, sampler: str) -> tuple[str, ...]:
    """The spacings of a Stable Diffusion model; of one that is not here, all."""
    return _allowed(lambda spacing: stable.levels(name, count, sampler, spacing))


def choose(where: Any, allowed: tuple[str, ...], *, key: str, **options: Any) -> str | None:
    """The control; None for the model's own spacing. allowed: by name."""
    chosen = controls.choice(where, "Spacing", (OWN, *allowed), OWN, key=key, help=HELP, **options)
    return None if chosen == OWN else chosen
