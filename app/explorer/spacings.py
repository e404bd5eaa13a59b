"""How a run's levels are spaced: one control for every page on which a visitor chooses the number of steps.

The control offers only spacings for which the schedule has levels: each is tried with the steps that would run.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS
from explorer import controls, own_schedule, stable
from explorer.loading import USUAL, Loading
from explorer.names import YOURS
from explorer.runs import Spacing, model, spacing_of
from explorer.stable import OWN
from explorer.words import literal

HELP = (
    "How the noise levels of the steps are distributed from noise to image: leading, linspace and trailing space the "
    "timesteps; karras, exponential and beta space the noise ratio σ/α. Spacings for which this model's schedule has "
    "no levels at this number of steps are not in the list."
)
OF_YOURS = "Yours takes the noise levels of your own schedule, which you drag on the page Schedules."


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


def choose_or_own(where: Any, name: str, *counts: int, key: str) -> Spacing:
    """The same for one of our networks and all of these numbers of steps; the visitor's own schedule is offered too."""
    offered = (OWN, *of_network(name, *counts), YOURS)
    chosen = controls.choice(where, "Spacing", offered, OWN, key=key, help=f"{HELP} {OF_YOURS}", format_func=_words)
    if chosen != YOURS:
        return None if chosen == OWN else chosen
    handles, of = own_schedule.values(), model(name)
    where.page_link("pages_/schedules.py", label="Drag yours on **Schedules**", icon=":material/show_chart:")
    try:
        first, *_ = [of.levels(count, spacing=spacing_of(handles))[0] for count in counts]
    except ValueError as error:
        where.info(f"{literal(str(error))} The model's own spacing is used.", icon=":material/show_chart:")
        return None
    if first.snr > own_schedule.VISIBLE_SNR:
        where.caption(
            f":material/info: The first level of **yours** holds {first.alpha:.1%} of the image; the noise that a run "
            "starts from holds none."
        )
    return handles


def _words(spacing: str) -> str:
    return "yours" if spacing == YOURS else spacing


def choose(where: Any, allowed: tuple[str, ...], *, key: str, **options: Any) -> str | None:
    """Show the control. Return the chosen name out of `allowed`, or None for the model's own spacing."""
    chosen = controls.choice(where, "Spacing", (OWN, *allowed), OWN, key=key, help=HELP, **options)
    return None if chosen == OWN else chosen
