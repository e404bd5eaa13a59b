"""Figures of the attention maps of a prompt's words, step by step.

As in `plots`, every function returns a Figure with its alt text. The maps come from `stable_diffusion.attention`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_explained.checks import check_finite, typed_arguments
from diffusion_explained.film import pixels
from diffusion_explained.palette import SEQUENTIAL, THEMES
from diffusion_explained.plots.style import dress, figure, labelled, literal


@typed_arguments
def word_maps(
    pictures: Tensor,
    maps: Tensor,
    words: Sequence[str],
    captions: Sequence[str],
    *,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """One row per step: its image, then one map per word, bright where attention to the word is highest.

    Args:
        pictures: [rows, 3, H, W] in [-1, 1], the images at those steps.
        maps: attention shares [rows, words, h, w]. All maps of a word have the same scale, from 0 to its largest share,
            which is written above the column: so steps can be compared by colour, and words only by that number.
        captions: one per row.

    Raises ValueError for numbers of captions, words, pictures and maps that do not fit.
    """
    count, columns = len(captions), len(words)
    if maps.ndim != 4 or len(pictures) != count or tuple(maps.shape[:2]) != (count, columns):
        raise ValueError(
            f"{count} captions and {columns} words need as many images and maps; got {len(pictures)} images and "
            f"maps {tuple(maps.shape)}."
        )
    check_finite(maps, "maps")
    fig, axes = figure(1.12 * (1 + columns) + 0.8, 1.14 * count + 0.8, theme, nrows=count, ncols=1 + columns)
    colours, drawn, peaks = THEMES[theme], pixels(pictures), maps.amax((0, 2, 3))
    for row, caption in enumerate(captions):
        for column, ax in enumerate(axes[row]):
            if column == 0:
                ax.imshow(drawn[row])
            else:
                shown = np.asarray(maps[row, column - 1])
                ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=float(peaks[column - 1]) or 1.0, interpolation="nearest")
            dress(ax, theme, grid=False)
            ax.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(labelled(caption), fontsize=11, color=colours.text)
    for ax, word, peak in zip(axes[0, 1:], words, peaks.tolist(), strict=True):
        ax.set_title(f"{literal(word)}\n0 to {peak:.1%}", fontsize=10.5, color=colours.text)
    fig.suptitle(labelled(title), x=0.01, ha="left", fontsize=12, fontweight="bold", color=colours.text)
    fig.set_label(
        f"{title or 'Attention'}: {', '.join(captions)}; largest share of "
        + ", ".join(f"{word} {peak:.1%} ({_where(maps[-1, k])})"
                    for k, (word, peak) in enumerate(zip(words, peaks.tolist(), strict=True)))
    )  # fmt: skip
    return fig


def _where(heat: Tensor) -> str:
    """Where in the image the centre of a map lies, in words."""
    share = heat / heat.sum().clamp(min=1e-12)
    height, width = heat.shape
    place: dict[str, Any] = {"device": heat.device, "dtype": torch.float32}
    y = float((share.sum(1) * torch.linspace(-1, 1, height, **place)).sum())
    x = float((share.sum(0) * torch.linspace(-1, 1, width, **place)).sum())
    vertical = "upper" if y < -0.15 else "lower" if y > 0.15 else ""
    horizontal = "left" if x < -0.15 else "right" if x > 0.15 else ""
    return f"at the end {' '.join(filter(None, (vertical, horizontal))) or 'centred'}"
