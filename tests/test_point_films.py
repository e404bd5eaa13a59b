"""Films of points in the plane: what they hold is what samplers and distributions give."""

import base64

import numpy as np
import pytest
import torch

from diffusion_explained.exact import ExactDenoiser, GaussianMixture, least_loss, tilted
from diffusion_explained.film import evenly_spaced
from diffusion_explained.noise import randn, stream
from diffusion_explained.plots import plane
from diffusion_explained.plots.point_films import (
    ARROWS,
    BINS,
    FIELD,
    REACH,
    caption,
    noised,
    plane_film,
    sampled,
)
from diffusion_explained.samplers import euler
from diffusion_explained.schedules import EDMSchedule, FlowSchedule
from diffusion_explained.widgets import Plane

MIXTURE = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.3, classes=[0, 1])


def run(schedule, steps=4, points=50):
    x_T = schedule.init_noise_sigma * randn((points, 2), stream(0))
    return list(euler(ExactDenoiser(MIXTURE), x_T, schedule.levels(steps)))


def panel_of(steps):
    return sampled("exact", steps, lambda n: ExactDenoiser(MIXTURE), MIXTURE, MIXTURE.means.float())


def places(text, *shape):
    return np.frombuffer(base64.b64decode(text), "<i2").reshape(*shape) / 32767 * REACH


def test_the_message_holds_the_points_of_every_step():
    steps = run(FlowSchedule())
    film = plane_film([panel_of(steps)], MIXTURE.means.float(), [caption(s.level) for s in steps] + ["data"])
    message = film.to_message()
    points = places(message["panels"][0]["points"], 5, 50, 2)
    for k, step in enumerate(steps):
        np.testing.assert_allclose(points[k], step.x_t, atol=2e-4)
    np.testing.assert_allclose(points[-1], steps[-1].x_next, atol=2e-4)
    assert message["key"] == film.key and len(message["panels"][0]["alts"]) == 5
    assert "50 points" in message["panels"][0]["alts"][0] and "on the data" in message["panels"][0]["alts"][-1]
    other = plane_film([panel_of(run(FlowSchedule(), points=49))], MIXTURE.means.float(), list(film.captions))
    assert other.key != film.key


@pytest.mark.parametrize("schedule", [FlowSchedule(), EDMSchedule()], ids=["flow", "edm"])
def test_density_arrows_and_score_are_those_of_the_distribution(schedule):
    steps = run(schedule)
    panel = panel_of(steps)
    level, scale = steps[1].level, max(1.0, (steps[1].level.alpha ** 2 + steps[1].level.sigma ** 2) ** 0.5)
    density = MIXTURE.log_density(plane(FIELD, BINS) * scale, level).exp()
    np.testing.assert_allclose(panel.density[1].flatten(), density / density.max(), atol=1e-5)
    grid = plane(FIELD, ARROWS) * scale
    score = (-ExactDenoiser(MIXTURE)(grid, level).eps / level.sigma).numpy()
    shown = panel.score[1].numpy()
    inside = np.linalg.norm(shown, axis=1) < 1.49
    ratio = np.linalg.norm(score, axis=1)[inside] / np.linalg.norm(shown, axis=1)[inside]
    assert np.ptp(ratio) < 1e-3 * ratio.max(), "one scale for a frame"
    moved = next(euler(ExactDenoiser(MIXTURE), grid, [level, steps[1].next_level]))
    arrows = panel.arrows[1].numpy()
    direction = moved.x_next.numpy() / max(
        1.0, (steps[1].next_level.alpha ** 2 + steps[1].next_level.sigma ** 2) ** 0.5
    )
    direction = direction - grid.numpy() / scale
    cosine = (direction * arrows).sum(1) / np.linalg.norm(direction, axis=1) / np.linalg.norm(arrows, axis=1)
    assert cosine.min() > 0.999


def test_pairs_are_lines():
    x_0, eps = MIXTURE.sample(6, stream(0))[0], randn((6, 2), stream(1))
    levels = FlowSchedule().levels(4)
    panel = noised("pairs", x_0, eps, levels, MIXTURE)
    np.testing.assert_allclose(panel.points[2], (x_0 + eps) / 2, atol=1e-6)
    assert panel.points.shape == (5, 6, 2) and panel.density.shape == (5, BINS, BINS) and panel.arrows is None


def test_long_runs_keep_their_ends_and_bad_films_are_refused():
    assert evenly_spaced(3, 49) == [0, 1, 2]
    many = evenly_spaced(250, 49)
    assert many[0] == 0 and many[-1] == 249 and len(many) == 49
    panel = panel_of(run(FlowSchedule()))
    with pytest.raises(ValueError, match="5 frames, but there are 2 captions"):
        plane_film([panel], MIXTURE.means.float(), ["a", "b"])
    with pytest.raises(ValueError, match=r"points \[N, 2\]"):
        plane_film([panel], torch.zeros(3, 3), ["a"] * 5)
    with pytest.raises(ValueError, match="no steps to show"):
        sampled("nothing", [])
    with pytest.raises(ValueError, match="same shape"):
        noised("pairs", torch.zeros(3, 2), torch.zeros(4, 2), FlowSchedule().levels(2))


def test_the_tilted_distribution_is_sharper_than_the_class_and_is_the_class_at_1():
    x, _ = tilted(MIXTURE, 1, 1.0).sample(20_000, stream(0))
    np.testing.assert_allclose(x.mean(0), [1.0, 0.5], atol=0.02)
    np.testing.assert_allclose(x.std(0), [0.3, 0.3], atol=0.02)
    strong, _ = tilted(MIXTURE, 1, 4.0).sample(20_000, stream(0))
    assert strong.mean(0)[0] > 1.001 and strong[:, 0].std() < x[:, 0].std()
    with pytest.raises(ValueError, match="no components of class 5"):
        tilted(MIXTURE, 5, 2.0)
    with pytest.raises(ValueError, match="std above 0"):
        tilted(GaussianMixture(torch.zeros(1, 2), classes=[0]), 0, 2.0)


def test_the_least_loss_is_that_of_the_exact_denoiser():
    one = GaussianMixture(torch.zeros(1, 2), 1.0)  # x_0 ~ N(0, I): E[(eps - x_0)^2 | x_t] = 1 / (a^2 + s^2)
    schedule = FlowSchedule(t_distribution="uniform")
    exact = np.pi / 2  # the integral of 1 / ((1 - t)^2 + t^2) over t from 0 to 1
    assert least_loss(one, schedule, "flow", times=400, points=64) == pytest.approx(exact, rel=0.03)


def test_a_notebook_shows_the_same_film():
    steps = run(FlowSchedule())
    film = plane_film([panel_of(steps)], MIXTURE.means.float(), [caption(s.level) for s in steps] + ["data"])
    widget = Plane(film, at=500, layers=("paths", "arrows"))
    assert widget.film["key"] == film.key and widget.at == 500 and widget.layers == ["paths", "arrows"]
    source = str(Plane._esm)
    assert "inJupyter" in source and "inStreamlit" in source and "http" not in source and ".plane" in str(Plane._css)
    assert repr(widget) == "Plane(5 frames of exact)"
    with pytest.raises(Exception, match=r"0 \.\. 1000"):
        widget.at = 1001
    with pytest.raises(Exception, match="colours"):
        Plane(film, layers=("colours",))
