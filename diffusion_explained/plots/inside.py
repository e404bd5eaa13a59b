"""Figures of the inside of a network: the shapes of its features, the features themselves, attention, similarities.

As in `plots`, every function returns a Figure with its alt text. The data come from `inside`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from diffusion_explained.charts import three_digits
from diffusion_explained.checks import check_finite, check_some, float_data, typed_arguments, whole
from diffusion_explained.film import mosaic, pixels
from diffusion_explained.inside import Feature, Skip
from diffusion_explained.palette import DIVERGING, SEQUENTIAL, THEMES
from diffusion_explained.plots.images import filmstrip
from diffusion_explained.plots.style import dress, figure, literal
from diffusion_explained.plots.words import sentence, table_words


@typed_arguments
def shape_diagram(
    features: Sequence[Feature], skips: Sequence[Skip] = (), *, title: str = "", theme: str = "light"
) -> Figure:
    """Features [C, rows, columns] as boxes from left to right: their height shows the rows, their width the channels.

    Each box is labelled with rows x columns above and the channels below; skips are arrows from source to target.

    Raises ValueError for features of another shape.
    """
    check_some("features", features)
    if any(len(feature.shape) != 3 for feature in features):
        raise ValueError(f"only features [C, rows, columns] have a height to draw; got {[f.shape for f in features]}.")
    fig, axes = figure(9.4, 3.6, theme)
    ax, colours = axes[0, 0], THEMES[theme]
    most_channels, most_rows = (max(feature.shape[axis] for feature in features) for axis in (0, 1))
    place = {feature.layer: (x, feature.shape[1] / most_rows / 2) for x, feature in enumerate(features)}  # its top
    for feature in features:
        channels, rows, columns = feature.shape
        (x, top), width = place[feature.layer], 0.08 + 0.72 * channels / most_channels
        ax.add_patch(Rectangle((x - width / 2, -top), width, 2 * top, facecolor=colours.data, linewidth=0))
        words = {"ha": "center", "fontsize": 9, "color": colours.text}
        ax.text(x, top + 0.03, f"{rows}×{columns}", va="bottom", **words)
        ax.text(x, -top - 0.03, channels, va="top", **words)
        ax.text(x, -0.68, feature.layer.replace(".", "\n"), va="top", **{**words, "color": colours.muted})
    for k, skip in enumerate(reversed(skips)):  # the innermost first, each drawn above the previous one
        (x, top), (x_target, top_target), height = place[skip.source], place[skip.target], 0.74 + 0.13 * k
        line = {"color": colours.noise, "linewidth": 1.6}
        ax.plot([x, x, x_target], [top + 0.14, height, height], **line)
        ax.annotate("", (x_target, top_target + 0.12), (x_target, height), arrowprops={"arrowstyle": "-|>", **line})
    ax.set(xlim=(-0.6, len(features) - 0.4), ylim=(-0.95, 0.7 + 0.13 * len(skips)))
    dress(ax, theme, title=title, grid=False)
    ax.set(xticks=[], yticks=[])
    joined = f"; skips {', '.join(f'{s.source} to {s.target}' for s in skips)}" if skips else ""
    fig.set_label(f"{title or 'Feature shapes'}: {', '.join(f'{f.layer} {f.shape}' for f in features)}{joined}")
    return fig


@typed_arguments
def map_rows(rows: Mapping[str, Tensor], *, title: str = "", theme: str = "light") -> Figure:
    """Rows of feature maps: name -> maps [K, rows, columns], all drawn at the same size, blue below 0, red above.

    Each row has its own scale; 2% of its values lie beyond the ends of the colour map.
    Raises ValueError for no rows, and for maps of another shape.
    """
    check_some("rows", rows)
    for name, maps in rows.items():
        if float_data(f"maps of {name!r}", maps).ndim != 3 or not maps.numel():
            raise ValueError(f"maps of {name!r} must be [K, rows, columns], K of 1 or more; got {list(maps.shape)}.")
    largest = max((maps.shape[-2:] for maps in rows.values()), key=lambda size: size[0])
    same = {name: F.interpolate(maps[:, None].float(), tuple(largest), mode="nearest") for name, maps in rows.items()}
    limits = {name: float(maps.abs().flatten().quantile(0.98)) for name, maps in rows.items()}
    return filmstrip(same, limits=limits, title=title, theme=theme)


@typed_arguments
def token_panels(image: Tensor, patch_size: int, *, title: str = "", theme: str = "light") -> Figure:
    """An image [C, H, W] cut into patches, and beside it the same numbers as tokens [N, C * p * p], one row per token.

    Raises ValueError when patch_size does not divide the image.
    """
    if float_data("image", image).ndim != 3:
        raise ValueError(f"image must be [C, H, W]; got {list(image.shape)}.")
    channels, height, width = image.shape
    patch_size = whole("patch_size", patch_size, 1)
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f"patch_size {patch_size} must divide the {height} x {width} image.")
    tokens = F.pixel_unshuffle(image[None], patch_size).flatten(2)[0].T  # [N, C * p * p]
    patches = tokens.unflatten(1, (channels, patch_size, patch_size))
    fig, axes = figure(7.0, 3.7, theme, ncols=2, width_ratios=[1.25, 1])
    axes[0, 0].imshow(mosaic(pixels(patches), width // patch_size, gap=1))
    axes[0, 1].imshow(tokens.numpy(), cmap="gray", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    dress(axes[0, 0], theme, title=f"{len(tokens)} patches", grid=False)
    axes[0, 0].set(xticks=[], yticks=[])
    labels = {"xlabel": f"its {tokens.shape[1]} numbers", "ylabel": "token, row by row"}
    dress(axes[0, 1], theme, title="the same numbers, as tokens", grid=False, **labels)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)
    fig.set_label(f"{title or 'Tokens'}: an image as {len(tokens)} patches and as tokens of {tokens.shape[1]} numbers")
    return fig


@typed_arguments
def attention_panels(
    pictures: Mapping[str, Tensor],
    maps: Mapping[str, Mapping[str, Tensor]],
    at: tuple[int, int],
    *,
    title: str = "",
    theme: str = "light",
) -> Figure:
    """Attention maps of one query position: one row per image, name -> [C, H, W] in [-1, 1], beside its maps.

    maps: name of the image -> layer -> attention weights [rows, columns], bright where they are high. `at`: the query
    position (row, column), marked with a frame.
    Raises ValueError for no pictures, and for a picture without maps.
    """
    check_some("pictures", pictures)
    if missing := [name for name in pictures if name not in maps]:
        raise ValueError(f"maps must have an entry per picture; {', '.join(map(repr, missing))} has none.")
    row, column = at[0], at[1]
    at = (whole("row of at", row, 0), whole("column of at", column, 0))
    layers = list(next(iter(maps.values())))
    fig, axes = figure(1.35 * (1 + len(layers)) + 0.5, 1.45 * len(pictures) + 0.5, theme,
                       nrows=len(pictures), ncols=1 + len(layers))  # fmt: skip
    for k, (name, picture) in enumerate(pictures.items()):
        shown = [("", pixels(picture[None])[0]), *((layer, np.asarray(maps[name][layer])) for layer in layers)]
        rows, columns = shown[1][1].shape
        for ax, (layer, image) in zip(axes[k], shown, strict=True):
            ax.imshow(image, cmap=SEQUENTIAL, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
            _frame(ax, at, theme)
            dress(ax, theme, grid=False)
            ax.set(xticks=[], yticks=[])
            if k == 0:
                ax.set_title(layer, fontsize=11, color=THEMES[theme].text)
        axes[k, 0].set_ylabel(name, fontsize=11, color=THEMES[theme].text)
    fig.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=THEMES[theme].text)
    fig.set_label(f"{title or 'Attention'} from position {at}: {', '.join(pictures)}; {', '.join(layers)}")
    return fig


def _frame(ax: Axes, at: tuple[int, int], theme: str) -> None:
    row, column = at
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=THEMES[theme].noise, linewidth=2))


def check_tables(panels: Mapping[str, Tensor], shape: tuple[int, int]) -> None:
    """Raise ValueError unless there are panels, and each is a table of finite numbers of this shape, [R, K]."""
    check_some("panels", panels)
    for name, table in panels.items():
        if table.shape != shape or not table.numel():
            raise ValueError(f"Panel {name!r} must be a table {list(shape)}, as its names; got {list(table.shape)}.")
        check_finite(table, f"rows of panel {name!r}")


@typed_arguments
def heat_panels(
    panels: Mapping[str, Tensor],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    xlabel: str = "",
    digits: int = 1,
    theme: str = "light",
) -> Figure:
    """Tables [R, K] side by side, with each number in its cell; one colour scale from dark (least) to bright (most).

    Raises ValueError for no panels, and for a table that does not fit its names.
    """
    check_tables(panels, (len(rows), len(columns)))
    digits = whole("digits", digits, 0, 10)
    fig, axes = figure(
        0.62 * len(columns) * len(panels) + 1.2, 0.42 * len(rows) + 1.3, theme, ncols=len(panels), sharey=True
    )
    least, most = min(float(m.min()) for m in panels.values()), max(float(m.max()) for m in panels.values())
    for ax, (name, matrix) in zip(axes[0], panels.items(), strict=True):
        ax.imshow(matrix.numpy(), cmap=SEQUENTIAL, vmin=least, vmax=most, aspect="auto")
        for (i, j), value in np.ndenumerate(matrix.numpy()):
            colour = "black" if value > (least + most) / 2 else "white"
            ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=10, color=colour)
        dress(ax, theme, title=name, xlabel=xlabel, grid=False)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(length=0)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)
    tables = (table_words(name, rows, columns, matrix, digits) for name, matrix in panels.items())
    fig.set_label(sentence(f"{title or 'Tables'}, over {xlabel or 'columns'}", tables))
    return fig


@typed_arguments
def similarity_panels(
    panels: Mapping[str, Tensor], names: Sequence[str], *, title: str = "", theme: str = "light"
) -> Figure:
    """Matrices of cosine similarities [K, K] side by side, on one scale from -1 (blue) through 0 (white) to 1 (red)."""
    check_tables(panels, (len(names), len(names)))
    fig, axes = figure(4.3 * len(panels) + 0.9, 4.6, theme, ncols=len(panels))
    cmap = LinearSegmentedColormap.from_list("diverging", DIVERGING)
    for k, (ax, (name, matrix)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        drawn = ax.imshow(np.asarray(matrix), cmap=cmap, vmin=-1, vmax=1)
        dress(ax, theme, title=name, grid=False)
        ax.set_xticks(range(len(names)), list(map(literal, names)), rotation=90)
        ax.set_yticks(range(len(names)), list(map(literal, names)) if k == 0 else [])
        ax.tick_params(length=0)
    bar = fig.colorbar(drawn, ax=axes[0].tolist(), shrink=0.8, ticks=[-1, 0, 1])
    bar.set_label("cosine", fontsize=11, color=THEMES[theme].text)
    bar.ax.tick_params(labelcolor=THEMES[theme].text, color=THEMES[theme].muted)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=THEMES[theme].text)
    parts = (f"{name}, {_closest(matrix, names)}" for name, matrix in panels.items())
    fig.set_label(sentence(f"{title or 'Similarities'} of {', '.join(names)}", parts))
    return fig


def _closest(matrix: Tensor, names: Sequence[str]) -> str:
    """The most and the least similar pair of a matrix of similarities, in words."""
    pairs = [(float(matrix[i, j]), names[i], names[j]) for i in range(len(names)) for j in range(i)]
    if not pairs:
        return "one name"
    (high, *most), (low, *least) = max(pairs), min(pairs)
    return f"most alike {' and '.join(most)} ({three_digits(high)}), least {' and '.join(least)} ({three_digits(low)})"
