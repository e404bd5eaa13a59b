"""The course's figures draw what they are given."""

import numpy as np
import pytest
import torch

from diffusion_explained.plots import alt_text, curves, png, point_panels


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_curves_draw_every_series_and_the_reference(theme):
    fig = curves(
        {"a": ([1, 2, 3], [0.1, 0.2, 0.3]), "b": (torch.arange(40), torch.linspace(0.1, 1, 40))},
        title="T", xlabel="t", reference=("chance", 0.5), log="y", theme=theme,
    )  # fmt: skip
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.linspace(0.1, 1, 40), rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "chance"]
    assert ax.get_yscale() == "log" and ax.get_xscale() == "linear"
    assert alt_text(fig) == (
        "T, over t: a 0.1 at 1, 0.2 at 2, 0.3 at 3; b from 0.1 at 0 to 1 at 39; dashed, chance 0.5"
    ) and png(fig).startswith(b"\x89PNG")


def test_point_panels_draw_the_points_over_the_data():
    data, points = torch.zeros(10, 2), torch.rand(7, 2)
    fig = point_panels({"GAN": points, "diffusion": points + 1}, data=data, title="Modes")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["GAN", "diffusion"]
    np.testing.assert_allclose(fig.axes[1].collections[1].get_offsets(), points + 1)
    assert len(fig.axes[0].collections[0].get_offsets()) == 10
    assert alt_text(fig).startswith("Modes: GAN, 7 points around (0.") and png(fig).startswith(b"\x89PNG")
