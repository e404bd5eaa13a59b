"""How a run's levels are spaced: one control for every page on which a visitor chooses the number of steps.

The control offers only spacings for which the schedule has levels: each is tried with the steps that would run.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from diffusion_explained.schedules import RATIO_SPACINGS, SPACINGS
from explorer import controls, labels, own_schedule, part_labels, stable
from explorer.loading import USUAL, Loading
from explorer.names import YOURS
from explorer.runs import Spacing, model, spacing_of
from explorer.stable import OWN
from explorer.words import literal


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
    of_yours = f"{part_labels.Spacings.help} {part_labels.Spacings.help_of_yours}"
    chosen = choose(where, (*of_network(name, *counts), YOURS), key=key, help=of_yours)
    if chosen != YOURS:
        return chosen
    handles, of = own_schedule.values(), model(name)
    where.page_link("pages_/schedules.py", label=labels.DRAG_YOURS, icon=":material/show_chart:")
    try:
        first, *_ = [of.levels(count, spacing=spacing_of(handles))[0] for count in counts]
    except ValueError as error:
        where.info(part_labels.Spacings.refused.format(error=literal(str(error))), icon=":material/show_chart:")
        return None
    if first.snr > own_schedule.VISIBLE_SNR:
        where.caption(part_labels.Spacings.first_level.format(alpha=first.alpha))
    return handles


def choose(
    where: Any, allowed: tuple[str, ...], *, key: str, help: str = part_labels.Spacings.help, **options: Any
) -> str | None:
    """Show the control. Return the chosen name out of `allowed`, or None for the model's own spacing."""
    chosen = controls.choice(where, part_labels.Spacings.spacing, (OWN, *allowed), OWN, key=key, help=help, **options)
    return None if chosen == OWN else chosen
