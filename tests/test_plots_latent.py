"""The figures of latent diffusion draw what they are given, and their words neither overlap nor leave the figure."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from diffusion_explained.plots import (
    alt_text,
    latent_strip,
    norm_panels,
    png,
    poke_panels,
    reach_map,
    token_chips,
    walked_levels,
    word_maps,
    work_dots,
)
from diffusion_explained.schedules import DDPMSchedule
from diffusion_explained.stable_diffusion.latent_space import Reach
from diffusion_explained.stable_diffusion.text import Tokens

SCHEDULE = DDPMSchedule.scaled_linear()
ROWS = [{"cond_norm": [60.0 + k], "uncond_norm": [59.0 + k], "difference_norm": [6.0 - k]} for k in range(5)]
WORK = {"text": 0.0266, "30 steps of the U-Net": 48.2, "decoding": 2.51}


def tokens(prompt=("cat", "castle"), length=77):
    pieces = ("<|startoftext|>", *(f"{word}</w>" for word in prompt), "<|endoftext|>")
    padding = length - len(pieces)
    pieces += ("<|endoftext|>",) * padding
    counted = tuple((word, 1) for word in prompt)
    return Tokens("text_encoder", tuple(range(40000, 40000 + length)), pieces, counted, length - padding, "")


def reach():
    return torch.ones(3, 77).triu(1) * torch.linspace(0.1, 0.9, 77)


def strip():
    rows = {"latents": torch.randn(4, 1, 8, 8), "decoded": torch.rand(4, 3, 64, 64)}
    return latent_strip(rows, captions=["t = 958", "t = 700", "t = 300", "t = 1"], limits={"latents": 2.0}, title="Run")


def poked():
    """Pictures of 32 x 32 whose pixels 8 to 16 brighten by 0.5, and those 4 around by 0.1."""
    before, moved = torch.zeros(3, 32, 32), torch.zeros(32, 32)
    moved[4:20, 4:20], moved[8:16, 8:16] = 0.1, 0.5
    return Reach(before, before + moved, moved, (8, 16, 8, 16))


def heat(rows=3):
    maps = torch.full((rows, 2, 4, 4), 0.1)
    maps[:, 0, :, 0], maps[:, 1, 0, 3] = 0.3, 0.8
    return word_maps(torch.rand(rows, 3, 16, 16) * 2 - 1, maps, ["cat", "dog"],
                     [f"t = {t}" for t in (900, 500, 20)[:rows]], title="Words")  # fmt: skip


def levels():
    return SCHEDULE.levels(30)


FIGURES = {
    "token_chips": lambda theme: token_chips(tokens(["mountains"] * 40), title="Tokens", theme=theme),
    "reach_map": lambda theme: reach_map(reach(), ["a", "painting", "sea"], title="Reach", theme=theme),
    "walked_levels": lambda theme: walked_levels(
        levels(), {"strength 0.3": levels()[-10:], "strength 1.0": levels()}, title="Walked", theme=theme
    ),
    "norm_panels": lambda theme: norm_panels(ROWS, title="Opinions", theme=theme),
    "work_dots": lambda theme: work_dots(WORK, title="Cost", theme=theme),
    "latent_strip": lambda theme: strip(),
    "poke_panels": lambda theme: poke_panels(
        dict.fromkeys(["channel 1", "channel 2", "channel 3"], poked()), title="Poked", theme=theme
    ),
    "word_maps": lambda theme: heat(),
}


def words(fig):
    """All text that is drawn: labels of ticks beyond an axis' ends exist, and are not."""
    for ax in fig.axes:
        yield from ax.texts
        yield from (ax.xaxis.label, ax.yaxis.label, ax._left_title, ax.title)
        for axis, ends in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            for tick in axis.get_major_ticks():
                if min(ends) <= tick.get_loc() <= max(ends):
                    yield from (label for label in (tick.label1, tick.label2) if label.get_visible())
        if ax.get_legend():
            yield from ax.get_legend().get_texts()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_words_neither_overlap_nor_leave_the_figure(name, theme):
    fig = FIGURES[name](theme)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in words(fig) if text.get_text()]
    assert len(boxes) > 2
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= fig.bbox.x1 + 1 and box.y1 <= fig.bbox.y1 + 1, text
    for (text, box), (other, box_2) in itertools.combinations(boxes, 2):
        apart = box.x1 <= box_2.x0 + 1 or box_2.x1 <= box.x0 + 1 or box.y1 <= box_2.y0 + 1 or box_2.y1 <= box.y0 + 1
        assert apart, f"{text!r} lies on {other!r}"
    assert png(fig).startswith(b"\x89PNG")


def test_token_chips_show_pieces_ids_and_padding():
    read = Tokens("text_encoder", (9, 1, 2, 8, 8), ("<|startoftext|>", "li", "e</w>", "<|endoftext|>", "!"),
                  (("lie", 2),), 4, "")  # fmt: skip
    fig = token_chips(read, columns=5, title="T")
    assert [text.get_text() for text in fig.axes[0].texts] == [
        "start",
        "9",
        "li-",
        "1",
        "e",
        "2",
        "end",
        "8",
        "padding",
        "8",
    ]
    assert alt_text(fig) == "T: 5, 1 of them padding; tokens per word: lie (2)"
    long = token_chips(tokens(["unbelievablyexpensive"]))
    assert long.axes[0].texts[2].get_text() == "unbeliev…"


def test_reach_map_draws_the_changes_and_counts_them():
    fig = reach_map(reach(), ["a", "painting", "sea"], title="R")
    image = fig.axes[0].images[0].get_array()
    assert image.mask[1, :2].all() and not image.mask[1, 2:].any()
    np.testing.assert_allclose(image.data[0, 1:], torch.linspace(0.1, 0.9, 77)[1:], rtol=1e-6)
    assert "a 76, painting 75, sea 74" in alt_text(fig) and fig.axes[1].get_ylabel() == "relative change"


def test_walked_levels_fill_those_that_are_walked():
    way = levels()
    fig = walked_levels(way, {"all": way, "some": way[-10:]}, title="W")
    filled = {(float(line.get_xdata()[0]), int(line.get_ydata()[0])) for line in fig.axes[0].lines
              if line.get_markerfacecolor() != "none"}  # fmt: skip
    assert filled == {(level.t, 0) for level in way[:-1]} | {(level.t, 1) for level in way[-10:-1]}
    assert [text.get_text() for text in fig.axes[0].texts] == ["30 steps", "9 steps"]
    assert alt_text(fig) == "W: steps taken of 30: all 30, some 9"


def test_latent_strip_enlarges_pixel_by_pixel_and_averages():
    small, large = torch.full((1, 1, 2, 2), -1.0), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    small[..., 0, 0] = 1
    sheet = latent_strip({"s": small, "l": large}, side=4).axes[0].images[0].get_array()
    assert sheet[:2, :2, :3].min() == 255 and sheet[2:4, :4, :3].max() == 0  # each pixel twice as large
    assert set(np.unique(sheet[-4:, :4, :3])) == {128}  # black and white, averaged
    assert latent_strip({"s": small, "l": large}).axes[0].images[0].get_array().shape[:2] == (8 + 2 + 8, 8)
    assert alt_text(strip()) == "Run: latents, decoded, 4 images each (t = 958, t = 700, t = 300, t = 1)"
    with pytest.raises(ValueError, match="same number"):
        latent_strip({"s": small, "l": [*large, *large]})


def test_norm_panels_show_both_opinions_and_the_share_of_their_difference():
    above, below = norm_panels(ROWS, title="N").axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), [60, 61, 62, 63, 64])
    np.testing.assert_allclose(above.lines[1].get_ydata(), [59, 60, 61, 62, 63])
    np.testing.assert_allclose(below.lines[0].get_ydata()[[0, -1]], [10, 100 * 2 / 64])
    assert below.get_ylabel() == "difference, % of |ε|" and below.get_xlabel() == "step"
    with pytest.raises(ValueError, match="guided"):
        norm_panels([{**ROWS[0], "uncond_norm": None, "difference_norm": None}])


def test_work_dots_stand_at_the_amounts():
    fig = work_dots(WORK, title="B")
    assert [float(line.get_xdata()[0]) for line in fig.axes[0].lines] == list(WORK.values())
    assert fig.axes[0].get_xscale() == "log" and fig.axes[0].get_xlabel() == "TFLOP, on a logarithmic axis"
    assert "30 steps of the U-Net 48.2 TFLOP" in alt_text(fig)
    for nothing in ({}, {"a": 0.0}):
        with pytest.raises(ValueError, match="positive"):
            work_dots(nothing)


def test_poke_panels_frame_the_own_pixels_and_most_of_the_change():
    assert poked().box() == (4, 20, 4, 20) and poked().box(0.5) == (8, 16, 8, 16)
    fig = poke_panels({"all": poked()}, title="P")
    assert [len(ax.patches) for ax in fig.axes[:3]] == [1, 1, 2]
    assert fig.axes[2].patches[1].get_bbox().extents.tolist() == [3.5, 3.5, 19.5, 19.5]
    assert fig.axes[2].images[0].get_clim() == (0, 0.5)
    assert alt_text(fig) == "P: all: 62% of the change on its own 8 x 8 pixels, 95% within 16 x 16"


def test_word_maps_give_each_word_one_scale_and_say_it():
    fig = heat(2)
    assert len(fig.axes) == 6 and [ax.title.get_text() for ax in fig.axes[1:3]] == [
        "cat\n0 to 30.0%",
        "dog\n0 to 80.0%",
    ]
    assert fig.axes[4].images[0].get_clim() == pytest.approx((0, 0.3))
    assert "cat 30.0% (at the end left), dog 80.0% (at the end upper right)" in alt_text(fig)
    with pytest.raises(ValueError, match="as many images and maps"):
        word_maps(torch.zeros(1, 3, 8, 8), torch.zeros(2, 2, 4, 4), ["cat", "dog"], ["a", "b"])
