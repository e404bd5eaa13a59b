"""The figures of a network's inside draw what they are given, where it lies."""

import numpy as np
import pytest
import torch

from diffusion_explained.inside import Feature, Skip
from diffusion_explained.plots import (
    alt_text,
    attention_panels,
    heat_panels,
    map_rows,
    png,
    shape_diagram,
    similarity_panels,
    token_panels,
)

BOTH_THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
FEATURES = [
    Feature("stem", "Conv2d", (8, 16, 24)),
    Feature("encoder.0", "Block", (8, 16, 24)),
    Feature("middle.0", "Block", (16, 8, 12)),
    Feature("decoder.0", "Block", (8, 16, 24)),
]


@BOTH_THEMES
def test_the_diagram_is_as_high_as_the_rows_and_as_wide_as_the_channels(theme):
    fig = shape_diagram(FEATURES, [Skip("encoder.0", "decoder.0", 8)], title="Shapes", theme=theme)
    (ax,) = fig.axes
    stem, _, middle, _ = ax.patches[:4]
    assert stem.get_height() == 2 * middle.get_height() and stem.get_width() < middle.get_width()
    words = [text.get_text() for text in ax.texts]
    assert words[:3] == ["16×24", "8", "stem"] and words[6:9] == ["8×12", "16", "middle\n0"]
    (across,) = ax.lines
    assert list(across.get_xdata()) == [1, 1, 3]  # from the second place to the fourth
    assert "skips encoder.0 to decoder.0" in alt_text(fig) and "middle.0 (16, 8, 12)" in alt_text(fig)
    assert png(fig).startswith(b"\x89PNG")


def test_a_feature_without_places_has_no_height():
    with pytest.raises(ValueError, match=r"\[C, rows, columns\].*\(192,\)"):
        shape_diagram([Feature("embed_time", "TimeEmbedding", (192,))])


def test_maps_of_every_resolution_are_drawn_at_one_size():
    fine, coarse = torch.zeros(3, 4, 4), torch.zeros(3, 2, 2)
    coarse[1, 0, 1] = 5.0
    fig = map_rows({"fine": fine, "coarse": coarse}, title="Maps")
    sheet = np.asarray(fig.axes[0].images[0].get_array())  # tiles of 4 x 4, with gaps of 2
    tile = sheet[6:10, 6:10, :3].astype(int)
    assert (tile[:2, 2:] == tile[0, 2]).all() and tile[0, 2, 0] > tile[0, 2, 2]  # the quarter at the top right is red
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["fine", "coarse"]
    assert alt_text(fig).startswith("Maps: fine, coarse, 3 images each")


@BOTH_THEMES
def test_tokens_stand_beside_their_patches(theme):
    image = torch.linspace(-1, 1, 3 * 4 * 6).reshape(3, 4, 6)
    fig = token_panels(image, 2, title="Tokens", theme=theme)
    patches, tokens = fig.axes
    drawn = np.asarray(tokens.images[0].get_array())
    assert drawn.shape == (6, 12)
    np.testing.assert_allclose(drawn[4], image[:, 2:4, 2:4].flatten())  # the fifth: second row, second column
    assert np.asarray(patches.images[0].get_array()).shape[:2] == (5, 8)  # 2 and 3 patches, a gap between them
    assert "6 patches" in alt_text(fig) and png(fig).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="patch_size 4 must divide the 4 x 6 image"):
        token_panels(image, 4)


@BOTH_THEMES
def test_attention_is_drawn_over_the_grid_with_the_asking_place_framed(theme):
    maps = {"blocks.0": torch.rand(4, 6), "blocks.1": torch.rand(4, 6)}
    pictures = {"t = 0.1": torch.zeros(3, 8, 12), "t = 0.9": torch.ones(3, 8, 12)}
    fig = attention_panels(pictures, dict.fromkeys(pictures, maps), at=(1, 4), title="Looks", theme=theme)
    assert len(fig.axes) == 6 and [ax.get_title() for ax in fig.axes[:3]] == ["", "blocks.0", "blocks.1"]
    assert [fig.axes[k].get_ylabel() for k in (0, 3)] == ["t = 0.1", "t = 0.9"]
    np.testing.assert_allclose(fig.axes[5].images[0].get_array(), maps["blocks.1"])
    for ax in fig.axes:  # the picture too has the grid's coordinates
        assert tuple(ax.images[0].get_extent()) == (-0.5, 5.5, 3.5, -0.5)
        assert ax.patches[0].get_xy() == (3.5, 0.5)
    assert alt_text(fig) == "Looks from position (1, 4): t = 0.1, t = 0.9; blocks.0, blocks.1"
    assert png(fig).startswith(b"\x89PNG")


@BOTH_THEMES
def test_heat_panels_write_each_number_on_one_scale(theme):
    first, second = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[4.0, 5.0], [6.0, 10.04]])
    fig = heat_panels({"a": first, "b": second}, ["r", "s"], ["x", "y"], xlabel="t", title="Heat", theme=theme)
    a, b = fig.axes
    assert [text.get_text() for text in a.texts] == ["0.0", "1.0", "2.0", "3.0"] and b.texts[-1].get_text() == "10.0"
    assert a.images[0].get_clim() == b.images[0].get_clim() == (0.0, pytest.approx(10.04))
    assert (a.texts[0].get_color(), b.texts[-1].get_color()) == ("white", "black")  # legible on dark and on bright
    assert a.get_xlabel() == "t" and [label.get_text() for label in a.get_yticklabels()] == ["r", "s"]
    assert alt_text(fig) == (
        "Heat, over t: a: r 0.0 at x, 1.0 at y; s 2.0 at x, 3.0 at y; b: r 4.0 at x, 5.0 at y; s 6.0 at x, 10.0 at y"
    ) and png(fig).startswith(b"\x89PNG")


@BOTH_THEMES
def test_similarities_share_the_scale_from_minus_one_to_one(theme):
    matrix = torch.eye(3) - 0.5
    fig = similarity_panels({"one": matrix, "two": -matrix}, ["a", "b", "c"], title="Alike", theme=theme)
    one, two, bar = fig.axes
    np.testing.assert_allclose(two.images[0].get_array(), -matrix)
    assert one.images[0].get_clim() == two.images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in one.get_xticklabels()] == ["a", "b", "c"] and bar.get_ylabel() == "cosine"
    assert alt_text(fig).startswith("Alike of a, b, c: one, most alike c and b (-0.5), least b and a (-0.5); two,")
    assert png(fig).startswith(b"\x89PNG")
