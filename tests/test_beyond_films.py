"""Films of clips and of clouds: which frames, panels and captions they have, and where points are drawn."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_explained import plots
from diffusion_explained.denoisers import Prediction
from diffusion_explained.plots.beyond_films import REACH, SIDE
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import FlowSchedule


def steps_of(x_0):
    """Two steps at the flow's levels from data x_0 [B, ...] plus noise of ones, which predict x_0."""
    levels = FlowSchedule().levels(2)
    states = [level.alpha * x_0 + level.sigma for level in levels]
    pred = Prediction(x_0, torch.ones_like(x_0), torch.ones_like(x_0))
    return [Step(i, levels[i], levels[i + 1], states[i], pred, states[i + 1]) for i in range(2)]


def picture(film, k):
    return np.asarray(Image.open(io.BytesIO(film.frames[k])))


def test_a_clip_is_a_row_of_frames_at_every_step():
    clips = torch.linspace(-1, 1, 16).view(1, 1, 16, 1, 1).expand(2, 1, 16, 4, 4)
    film = plots.clip_film(steps_of(clips), frames=4)
    assert film.titles == ("xₜ", "predicted x₀") and len(film.captions) == 3 and film.captions[-1] == "after 2 steps"
    assert (film.height, film.width) == (2 * 4 + 2, 4 * 4 + 3 * 2)
    for panel in (0, 1):  # at the end x_t is the prediction
        row = picture(film, 2)[panel * film.height, ::6, 0]
        assert np.abs(row.astype(int) - [0, 85, 170, 255]).max() <= 1
    assert (picture(film, 0)[: film.height, :4, 0] == 255).all(where=picture(film, 0)[: film.height, :4, 3] > 0)


def test_a_clip_is_played_frame_by_frame():
    clips = torch.linspace(-1, 1, 16).view(1, 1, 16, 1, 1).expand(2, 1, 16, 4, 4)
    film = plots.frame_film(clips)
    assert film.captions[0] == "frame 1 of 16" and len(film.captions) == 16
    assert picture(film, 0)[0, 0, 0] == 0 and picture(film, 15)[0, 0, 0] == 255


def test_points_are_drawn_where_they_are_and_nearer_ones_in_front():
    above, right = torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    rows, _ = np.nonzero(plots.cloud_sheet(above, turn=0.0)[..., 0] < 255)
    assert rows.max() < SIDE / 2
    _, columns = np.nonzero(plots.cloud_sheet(right, turn=0.0)[..., 0] < 255)
    assert abs(columns.min() - (1 / REACH + 1) / 2 * (SIDE - 2)) <= 1
    _, turned = np.nonzero(plots.cloud_sheet(right, turn=180.0)[..., 0] < 255)
    assert turned.max() < SIDE / 2
    along = torch.tensor([[[0.0, 0.9, 0.0], [0.0, -0.9, 0.0]]])  # from the side: both are seen at one place or two
    both, near = (plots.cloud_sheet(one, turn=0.0) for one in (along, along[:, 1:]))
    drawn = near[..., 0] < 255
    assert (both[drawn] == near[drawn]).all()
    outside = plots.cloud_sheet(torch.full((1, 1, 3), 9.0))
    assert (outside[..., :3] == 255).all()


def test_a_cloud_film_has_its_steps_and_the_end():
    film = plots.cloud_film(steps_of(torch.zeros(3, 5, 3)))
    assert len(film.frames) == 3 and film.width == 3 * SIDE + 2 * 4


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.clip_film([]), "steps must have at least one entry"),
        (lambda: plots.clip_film(steps_of(torch.zeros(1, 3, 4, 4))), r"clips must be \[B, C, frames, H, W\]"),
        (lambda: plots.clip_film(steps_of(torch.zeros(1, 1, 2, 4, 4)), frames=0), "frames"),
        (lambda: plots.frame_film(torch.zeros(1, 1, 0, 4, 4)), "clips must be"),
        (lambda: plots.cloud_film(steps_of(torch.zeros(1, 5, 2))), r"clouds must be points \[B, N, 3\]"),
        (lambda: plots.cloud_sheet(torch.full((1, 5, 3), float("nan"))), "NaN"),
        (lambda: plots.cloud_sheet(torch.zeros(1, 5, 3), turn=float("inf")), "turn"),
    ],
)
def test_what_is_no_film_is_refused_in_words(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
