"""Panels of paths and of densities in the plane, and the grid that densities are given on."""

import numpy as np
import pytest
import torch

from diffusion_explained import plots
from diffusion_explained.palette import DIVERGING, rgb
from diffusion_explained.plots import alt_text, png


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_trajectory_panels_draw_each_run_from_start_to_end(theme):
    paths = torch.arange(12.0).reshape(3, 2, 2)
    fig = plots.trajectory_panels({"a": paths, "b": paths + 1}, data=torch.zeros(5, 2), title="T", theme=theme)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b"]
    data, start, end = fig.axes[1].collections
    assert len(data.get_offsets()) == 5
    np.testing.assert_allclose(start.get_offsets(), paths[0] + 1)
    np.testing.assert_allclose(end.get_offsets(), paths[-1] + 1)
    np.testing.assert_allclose(fig.axes[1].lines[1].get_xydata(), paths[:, 1] + 1)
    assert alt_text(fig).startswith("T: a, 2 paths of 2 steps, from around (1.0, 2.0), spread 1.0 and 1.0, to") and png(
        fig
    ).startswith(b"\x89PNG")


def test_the_plane_runs_over_the_square_row_by_row():
    points = plots.plane(2.0, bins=4)
    assert points.shape == (16, 2)
    assert (
        points[0].tolist() == [-1.5, -1.5] and points[1].tolist() == [-0.5, -1.5] and points[-1].tolist() == [1.5, 1.5]
    )


def test_signed_panels_share_one_scale_on_which_zero_is_white():
    changes = torch.linspace(-1, 0, 16), torch.linspace(0, 2, 16)
    fig = plots.density_panels({"falls": changes[0], "grows": changes[1]}, 2.0, signed=True)
    falls, grows = (ax.images[0].get_array() for ax in fig.axes)
    assert tuple(falls[-1, -1]) == tuple(grows[0, 0]) == rgb(DIVERGING[3])  # 0 is in the middle
    assert tuple(grows[-1, -1]) == rgb(DIVERGING[-1]) and tuple(falls[0, 0]) != rgb(DIVERGING[0])


def test_density_panels_put_a_value_where_its_point_is():
    points = plots.plane(2.0, bins=40)
    values = torch.exp(-8 * (points - torch.tensor([1.0, -1.0])).square().sum(1))
    fig = plots.density_panels({"p": values, "q": values}, 2.0, points={"q": torch.ones(3, 2)})
    image = fig.axes[0].images[0]
    row, column = np.unravel_index(np.argmax(image.get_array()), (40, 40))
    left, right, bottom, top = image.get_extent()
    assert left + (column + 0.5) * (right - left) / 40 == pytest.approx(1.0, abs=0.06)
    assert bottom + (row + 0.5) * (top - bottom) / 40 == pytest.approx(-1.0, abs=0.06)
    assert len(fig.axes[0].collections) == 0 and len(fig.axes[1].collections[0].get_offsets()) == 3


def test_densities_that_fill_no_square_and_paths_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="one per point of plane"):
        plots.density_panels({"p": torch.ones(17)}, 2.0)
    with pytest.raises(ValueError, match=r"paths must be \[n \+ 1, N, 2\]"):
        plots.trajectory_panels({"a": torch.zeros(4, 2)})
