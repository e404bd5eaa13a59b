"""Figures that only latent diffusion needs: tokens, the influence of a word, latents over the steps, the cost.

As in `plots`, every function returns a Figure with its alt text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from diffusion_explained.checks import check_kind_of, check_some, number, typed_arguments, whole
from diffusion_explained.film import mosaic, pixels
from diffusion_explained.palette import SEQUENTIAL, THEMES
from diffusion_explained.plots.images import stacked
from diffusion_explained.plots.style import dress, figure, labelled, legend, literal
from diffusion_explained.schedules import Level

if TYPE_CHECKING:  # drawing needs nothing of the Stable Diffusion engine
    from diffusion_explained.stable_diffusion.latent_space import Reach

LONGEST_PIECE = 9  # characters that fit into a chip
SPECIAL = {"<|startoftext|>": "start", "<|endoftext|>": "end"}


@typed_arguments
def token_chips(tokens: Any, *, columns: int = 11, title: str = "", theme: str = "light") -> Figure:
    """One prompt's tokens (`stable_diffusion.text.Tokens`) as chips: the text above, the id below; padding is pale.

    A token that ends a word is written as it is; a token that the next one continues gets a dash ("li-").
    """
    columns = whole("columns", columns, 1)
    rows = -(-len(tokens.ids) // columns)
    fig, axes = figure(9.4, 0.5 * rows + 0.5, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    for k, (token, piece) in enumerate(zip(tokens.ids, tokens.pieces, strict=True)):
        x, y, word = k % columns, k // columns, k < tokens.used and piece not in SPECIAL
        pads = k >= tokens.used
        face = colours.data if word else "none" if pads else colours.muted
        ink = colours.background if not pads else colours.muted
        box = FancyBboxPatch((x + 0.06, y + 0.1), 0.88, 0.8, boxstyle="round,pad=0,rounding_size=0.12")
        box.set(facecolor=face, edgecolor=colours.grid if pads else face, linewidth=1)
        ax.add_patch(box)
        name = "padding" if pads else SPECIAL.get(piece) or _written(piece)
        ax.text(x + 0.5, y + 0.37, literal(name), ha="center", va="center", fontsize=9, color=ink)
        ax.text(x + 0.5, y + 0.72, token, ha="center", va="center", fontsize=8, color=ink)
    ax.set(xlim=(0, columns), ylim=(rows, 0))
    dress(ax, theme, title=title, grid=False)
    ax.set(xticks=[], yticks=[])
    words = ", ".join(f"{word} ({count})" for word, count in tokens.words)
    fig.set_label(f"{title or 'Tokens'}: {len(tokens.ids)}, {tokens.padding} of them padding; tokens per word: {words}")
    return fig


def _written(piece: str) -> str:
    text = piece.removesuffix("</w>").removeprefix("▁")
    text = text if len(text) <= LONGEST_PIECE else text[: LONGEST_PIECE - 1] + "…"
    return text if piece.endswith("</w>") or piece.startswith("▁") else text + "-"


@typed_arguments
def reach_map(changes: Tensor, words: Sequence[str], *, title: str = "", theme: str = "light") -> Figure:
    """The change of each embedding when one word is replaced, [words, positions]; 0 is drawn as the background.

    Raises ValueError for changes of another shape.
    """
    if changes.ndim != 2 or len(changes) != len(words) or not changes.numel():
        raise ValueError(f"changes must be [words, positions], {len(words)} words; got {list(changes.shape)}.")
    fig, axes = figure(9.4, 0.27 * len(words) + 1.3, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    shown = np.ma.masked_less_equal(np.asarray(changes, float), 1e-6)
    drawn = ax.imshow(shown, cmap=SEQUENTIAL, vmin=0, aspect="auto", interpolation="nearest")
    dress(ax, theme, title=title, xlabel="position of the embedding", ylabel="word replaced", grid=False)
    ax.set_yticks(range(len(words)), [literal(word) for word in words])
    ax.tick_params(axis="y", length=0)
    bar = fig.colorbar(drawn, ax=ax, pad=0.02)
    bar.set_label("relative change", fontsize=11, color=colours.text)
    bar.ax.tick_params(labelsize=10, labelcolor=colours.text, color=colours.muted)
    reached = [int((row > 1e-6).sum()) for row in np.asarray(changes)]
    fig.set_label(
        f"{title or 'Reach'}: the number of {changes.shape[1]} embeddings that change with each word: "
        + ", ".join(f"{word} {count}" for word, count in zip(words, reached, strict=True))
    )
    return fig


@typed_arguments
def walked_levels(
    levels: Sequence[Level], walked: Mapping[str, Sequence[Level]], *, title: str = "", theme: str = "light"
) -> Figure:
    """Which of a schedule's levels are visited: one row per name -> levels; levels that are skipped are hollow.

    The last level is the end of all of them, not a step, and is not drawn.
    """
    check_some("levels", levels)
    check_some("walked", walked)
    fig, axes = figure(9.4, 0.42 * len(walked) + 1.2, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    for y, visited in enumerate(walked.values()):
        times = {level.t for level in visited[:-1]}
        for level in levels[:-1]:
            face = colours.data if level.t in times else "none"
            ax.plot(level.t, y, "o", markersize=8, markerfacecolor=face, markeredgecolor=colours.data, linewidth=0)
        ax.text(-25, y, f"{len(times)} steps", va="center", ha="left", fontsize=11, color=colours.text)
    noisiest = levels[0].t
    ax.set(xlim=(1.04 * noisiest, -0.14 * noisiest), ylim=(len(walked) - 0.4, -0.6))
    dress(ax, theme, title=title, xlabel="time t, from noise to data", grid=False)
    ax.set_yticks(range(len(walked)), list(walked))
    ax.tick_params(axis="y", length=0)
    ax.spines["bottom"].set_visible(True)
    counted = ", ".join(f"{name} {len(visited) - 1}" for name, visited in walked.items())
    fig.set_label(f"{title or 'Levels'}: steps taken of {len(levels) - 1}: {counted}")
    return fig


@typed_arguments
def latent_strip(
    rows: Mapping[str, Sequence[Tensor]],
    *,
    captions: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
    side: int | None = None,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """A filmstrip (as `plots.filmstrip`) whose rows have images of different sizes: latents, and their decoded images.

    All are drawn `side` pixels high (by default the height of the largest): smaller ones are enlarged pixel by pixel,
    so that their resolution stays visible, and larger ones are averaged.

    rows: name -> images [C, H, W]. Raises ValueError for rows of different lengths.
    """
    check_some("rows", rows)
    stacks = {name: stacked(name, images).float() for name, images in rows.items()}
    counts = {name: len(images) for name, images in stacks.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"All rows need the same number of images, got {counts}.")
    largest = max((stack.shape for stack in stacks.values()), key=lambda shape: shape[2])
    count, height = largest[0], largest[2] if side is None else whole("side", side, 1, 4096)
    width = round(height * largest[3] / largest[2])
    gap, limits = max(2, height // 20), limits or {}

    def sized(x: Tensor) -> Tensor:
        return F.interpolate(x, (height, width), mode="nearest" if x.shape[2] <= height else "area")

    tiles = np.concatenate([pixels(sized(x), limits.get(name)) for name, x in stacks.items()])
    fig, axes = figure(count + 1.4, (len(stacks) * height) / width + 0.6, theme)
    ax = axes[0, 0]
    ax.imshow(mosaic(tiles, count, gap), interpolation="nearest")
    dress(ax, theme, title=title, grid=False)
    ax.set_xticks([k * (width + gap) + width / 2 for k in range(len(captions))], [labelled(one) for one in captions])
    ax.set_yticks([k * (height + gap) + height / 2 for k in range(len(stacks))], [labelled(one) for one in stacks])
    ax.tick_params(labelbottom=False, labeltop=True, length=0)
    columns = f" ({', '.join(captions)})" if captions else ""
    fig.set_label(f"{title or 'Latents'}: {', '.join(filter(None, stacks))}, {count} images each{columns}")
    return fig


@typed_arguments
def norm_panels(rows: Sequence[Mapping[str, Any]], *, image: int = 0, title: str = "", theme: str = "light") -> Figure:
    """The norms of a guided run's conditional and unconditional predictions, and the relative norm of their difference.

    rows: of `stable_diffusion.recording.row_of`, one per step. Raises ValueError for a step without guidance.
    """
    if not rows or any(row["difference_norm"] is None for row in rows):
        raise ValueError(
            "Every step must be guided: at scale 1 or outside guidance_interval there is no unconditional prediction."
        )
    image = whole("image", image, 0, len(rows[0]["cond_norm"]) - 1)
    cond, uncond, difference = (
        np.array([row[key][image] for row in rows]) for key in ("cond_norm", "uncond_norm", "difference_norm")
    )
    fig, axes = figure(7.0, 4.4, theme, nrows=2, sharex=True, height_ratios=[1.2, 1])
    (above, below), colours, steps = axes[:, 0], THEMES[theme], np.arange(1, len(rows) + 1)
    above.plot(steps, cond, color=colours.series[0], linewidth=3, label="with the prompt")
    above.plot(steps, uncond, "--", color=colours.series[1], linewidth=2, label="without a prompt")
    above.set_ylim(0, 1.5 * max(cond.max(), uncond.max()))
    legend(above, ncols=2, loc="upper right")
    dress(above, theme, title=title, ylabel="norm |ε|")
    share = 100 * difference / cond
    below.plot(steps, share, color=colours.series[2], linewidth=2.2)
    below.set_ylim(0, 1.15 * share.max())
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(below, theme, xlabel="step", ylabel="difference, % of |ε|")
    fig.set_label(
        f"{title or 'Two predictions'}: norms over {len(rows)} steps; with the prompt {cond[0]:.3g} to {cond[-1]:.3g}, "
        f"without {uncond[0]:.3g} to {uncond[-1]:.3g}, their difference {share[0]:.2g}% to {share[-1]:.2g}%"
    )
    return fig


@typed_arguments
def work_dots(work: Mapping[str, float], *, title: str = "", unit: str = "TFLOP", theme: str = "light") -> Figure:
    """Amounts as dots on a logarithmic axis, each with its number, to compare amounts that differ by large factors.

    Raises ValueError for an amount that is not positive, which a logarithmic axis cannot show.
    """
    for name, amount in work.items():
        number(f"the amount of {name!r}", amount, "a finite number")
    if not work or min(work.values()) <= 0:
        raise ValueError(f"A logarithmic axis needs positive amounts, at least one; got {dict(work)}.")
    fig, axes = figure(8.4, 0.42 * len(work) + 1.1, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    least, most = 10 ** np.floor(np.log10(0.7 * min(work.values()))), max(work.values())
    for y, amount in enumerate(work.values()):
        ax.plot(amount, y, "o", markersize=10, color=colours.data)
        ground = {"facecolor": colours.background, "linewidth": 0, "pad": 1}  # so that no grid line crosses the text
        ax.annotate(f"{amount:,.3g} {unit}", (amount, y), (11, 0), textcoords="offset points", va="center", fontsize=11,
                    color=colours.text, bbox=ground)  # fmt: skip
    ax.set_xscale("log")
    ax.set(xlim=(least, most * (most / least) ** 0.3), ylim=(len(work) - 0.5, -0.5))
    dress(ax, theme, title=title, xlabel=f"{unit}, on a logarithmic axis")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    ax.set_yticks(range(len(work)), list(work))
    ax.minorticks_off()
    ax.tick_params(axis="y", length=0)
    fig.set_label(f"{title or 'Work'}: " + ", ".join(f"{name} {amount:.3g} {unit}" for name, amount in work.items()))
    return fig


def poke_panels(reaches: Mapping[str, Reach], *, title: str = "", theme: str = "light") -> Figure:
    """The effect of changing one latent pixel: one column per change, with the image before, after, and the difference.

    A frame marks the image pixels that the latent pixel covers; a dashed frame contains 95% of the difference. All
    differences are drawn on one scale.
    """
    check_kind_of("reaches", reaches, Mapping[str, Any])
    check_some("reaches", reaches)
    fig, axes = figure(1.75 * len(reaches) + 1.6, 5.0, theme, nrows=3, ncols=len(reaches))
    colours, most = THEMES[theme], max(float(reach.moved.max()) for reach in reaches.values())
    for column, (name, reach) in enumerate(reaches.items()):
        before, after = pixels(torch.stack([reach.before, reach.after]))
        axes[0, column].imshow(before)
        axes[1, column].imshow(after)
        drawn = axes[2, column].imshow(reach.moved.numpy(), cmap=SEQUENTIAL, vmin=0, vmax=most or 1.0)
        for row, ax in enumerate(axes[:, column]):
            dress(ax, theme, grid=False, title=name if row == 0 else "")
            ax.set(xticks=[], yticks=[])
            for box, line in ((reach.own, "-"), (reach.box(), "--"))[: 1 + (row == 2)]:
                top, bottom, left, right = box
                ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, linestyle=line,
                                       edgecolor=colours.noise, linewidth=1.6))  # fmt: skip
    for ax, name in zip(axes[:, 0], ("before", "after", "change"), strict=True):
        ax.set_ylabel(name, fontsize=11, color=colours.text)
    bar = fig.colorbar(drawn, ax=axes.ravel().tolist(), shrink=0.3, anchor=(0.0, 0.02))
    bar.set_label("|change|", fontsize=11, color=colours.text)
    bar.ax.tick_params(labelsize=10, labelcolor=colours.text, color=colours.muted)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=colours.text)
    fig.set_label(f"{title or 'Pokes'}: " + "; ".join(
        f"{name}: {reach.inside:.0%} of the change on its own {reach.own[1] - reach.own[0]} x "
        f"{reach.own[3] - reach.own[2]} pixels, 95% within {reach.box()[1] - reach.box()[0]} x "
        f"{reach.box()[3] - reach.box()[2]}" for name, reach in reaches.items()
    ))  # fmt: skip
    return fig
