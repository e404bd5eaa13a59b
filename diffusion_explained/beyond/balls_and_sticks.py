"""Molecules as balls and sticks, seen from the side on which they are flattest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.beyond.bonds import ELEMENTS, find_bonds, to_molecules, with_double_bonds
from diffusion_explained.checks import typed_arguments
from diffusion_explained.palette import THEMES
from diffusion_explained.plots.style import check_theme, figure, labelled

WIDE, HIGH = 4.4, 3.0  # half of a picture, in angstroms
BETWEEN = 0.2  # angstroms between the lines of a double bond


@typed_arguments
def balls_and_sticks(items: Tensor, titles: Sequence[str] = (), *, theme: str = "light") -> Figure:
    """Molecules [N, 9, 8] side by side: a letter per atom, and the bonds that their distances say.

    A molecule without bonds that fit is drawn as its atoms alone. Raises ValueError for another shape, for NaN, and
    unless there is one title per molecule, or none.
    """
    drawn = to_molecules(items)
    if titles and len(titles) != len(drawn):
        raise ValueError(f"Give one title per molecule, or none; got {len(titles)} for {len(drawn)}.")
    check_theme(theme)
    named, colours = list(titles) or [""] * len(drawn), THEMES[theme]
    of_element = dict(zip(ELEMENTS, (colours.muted, *colours.series[:3]), strict=True))
    fig, axes = figure(1.55 * len(drawn), 1.55, theme, ncols=len(drawn))
    for ax, molecule, title in zip(axes[0], drawn, named, strict=True):
        ax.set(aspect="equal", xlim=(-WIDE, WIDE), ylim=(-HIGH, HIGH))
        ax.set_axis_off()
        ax.set_title(labelled(title), fontsize=12, color=colours.text)
        if not molecule.elements:
            continue
        centred = molecule.positions - molecule.positions.mean(dim=0)
        places = (centred @ torch.linalg.svd(centred).Vh.T)[:, :2]
        for (a, b), order in (with_double_bonds(molecule) if find_bonds(molecule) else {}).items():
            along = places[b] - places[a]
            aside = BETWEEN * torch.stack([-along[1], along[0]]) / along.norm().clamp(min=1e-6)
            for k in range(order):
                ax.plot(
                    *(places[[a, b]] + (k - (order - 1) / 2) * aside).T, color=colours.muted, linewidth=1.3, zorder=1
                )
        for place, element in zip(places.tolist(), molecule.elements, strict=True):
            name = ELEMENTS[element]
            ax.scatter(*place, s=90, color=of_element[name], zorder=2)
            ax.text(*place, name, ha="center", va="center_baseline", fontsize=7, color=colours.background, zorder=3)
    words = ", ".join(f"{title} {one.formula}".strip() for one, title in zip(drawn, named, strict=True))
    fig.set_label(f"{len(drawn)} molecules as balls and sticks: {words}")
    return fig
