"""Films: the frames hold the very images, the words fit the steps, and the GIF plays them; charts follow."""

import base64
import io
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_explained.charts import Curve, curves_chart, histogram_chart, level_chart
from diffusion_explained.denoisers import Prediction
from diffusion_explained.film import (
    EPS_RANGE,
    branch_film,
    evenly_spaced,
    film,
    film_of,
    gif,
    mosaic,
    one_value,
    pixels,
    shown,
    strip,
    style,
)
from diffusion_explained.palette import DARK, LIGHT, diverging
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level


def make_steps(count=3, batch=2, guided=True, size=4):
    levels = FlowSchedule().levels(count)
    g = torch.Generator().manual_seed(0)

    def image():
        return torch.randn(batch, 1, size, size, generator=g)

    return [
        Step(i, a, b, image(), Prediction(image(), image(), image(), image() if guided else None), image())
        for i, (a, b) in enumerate(pairwise(levels))
    ]


def panels_of(a_film, frame):
    sheet = np.asarray(Image.open(io.BytesIO(a_film.frames[frame])))
    return sheet.reshape(len(a_film.titles), a_film.height, a_film.width, 4)


def test_pictures_become_bytes_as_data_reads_them():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 1, 5)
    assert pixels(x)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (pixels(x)[..., 3] == 255).all()
    colour = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    assert pixels(colour)[0, 0, 0].tolist() == [0, 128, 255, 255]


def test_a_signed_field_is_coloured_by_its_limit():
    eps = torch.tensor([-3.0, 0.0, 1.5]).reshape(1, 1, 1, 3)
    assert (pixels(eps, 3.0)[0, 0, :, :3] == diverging(np.array([-1.0, 0.0, 0.5]))).all()
    assert pixels(torch.zeros(1, 1, 1, 1), 0.0).shape == (1, 1, 1, 4)  # a difference that is nothing but zero


def test_the_noise_of_a_colour_image_is_as_strong_as_that_of_a_grey_one():
    eps = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert one_value(eps).shape == (4, 32, 32) and float(one_value(eps).std()) == pytest.approx(1, abs=0.03)
    assert (pixels(eps, 3.0)[..., :3] == diverging(one_value(eps).numpy() / 3)).all()
    assert torch.equal(one_value(eps[:, :1]), eps[:, 0])


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 4, 4\)"):
        pixels(torch.zeros(2, 2, 4, 4))


def test_a_mosaic_is_filled_row_by_row_with_transparent_gaps():
    tiles = np.stack([np.full((2, 3, 4), k + 1, np.uint8) for k in range(5)])
    sheet = mosaic(tiles, columns=2, gap=1)
    assert sheet.shape == (3 * 3 - 1, 2 * 4 - 1, 4)
    assert [sheet[r * 3, c * 4, 0] for r in range(3) for c in range(2)] == [1, 2, 3, 4, 5, 0]
    assert (sheet[2] == 0).all() and (sheet[:, 3] == 0).all()


def test_a_film_holds_every_field_of_every_step_and_the_end():
    steps = make_steps()
    a_film = film_of(steps)
    assert len(a_film.frames) == len(a_film.captions) == 4 and len(a_film.titles) == len(a_film.alts) == 5
    assert a_film.rows == (2, 3)
    for k, step in enumerate(steps):
        shown_panels = panels_of(a_film, k)
        for panel, images in (
            (0, pixels(step.x_t)),
            (1, pixels(step.pred.x_0)),
            (2, pixels(step.pred.eps_cond, EPS_RANGE)),
        ):
            assert (shown_panels[panel] == mosaic(images)).all()
    assert (panels_of(a_film, 3)[0] == mosaic(pixels(steps[-1].x_next))).all()
    assert (panels_of(a_film, 3)[1] == mosaic(pixels(steps[-1].pred.x_0))).all()
    assert a_film.captions[0] == "step 1 of 3 · t = 1 · α = 0.000 · σ = 1"
    assert a_film.captions[-1] == "final image after 3 steps"


def test_without_guidance_there_is_no_difference_to_show():
    assert film_of(make_steps(guided=False)).titles == ("xₜ", "predicted x₀", "ε conditional")


def test_where_guidance_is_off_for_some_steps_its_panels_are_blank_there():
    steps = make_steps(count=2)
    first = replace(steps[0], pred=make_steps(guided=False)[0].pred)
    a_film, guided = film_of([first, steps[1]]), film_of(steps)
    assert len(a_film.titles) == 5 and all("blank where guidance is off" in alt for alt in a_film.alts[3:])
    assert not any("blank" in alt for alt in guided.alts)
    middle = diverging(np.zeros(1))[0]
    for panel in (3, 4):
        image = panels_of(a_film, 0)[panel]
        assert (image[..., :3][image[..., 3] == 255] == middle).all()
    assert (panels_of(a_film, 1)[3] == panels_of(guided, 1)[3]).all()


def test_the_first_panels_alone_in_rows_of_their_own():
    a_film = film_of(make_steps(), 2, count=100, panels=2, rows=(1, 1))
    assert a_film.titles == ("xₜ", "predicted x₀") and a_film.rows == (1, 1)
    assert a_film.captions[1].startswith("step 2 of 100")


def test_a_film_of_some_steps_counts_those_of_the_whole_run():
    first, _, last = make_steps()
    assert [words.split(" ·")[0] for words in film_of([first, last]).captions] == [
        "step 1 of 3",
        "step 3 of 3",
        "final image after 3 steps",
    ]


def test_films_that_do_not_fit_are_refused():
    sheet = np.zeros((2, 2, 4), np.uint8)
    with pytest.raises(ValueError, match="no steps"):
        film_of([])
    with pytest.raises(ValueError, match="1 frames, but there are 2"):
        film([("a", "", [sheet])], ["one", "two"])
    with pytest.raises(ValueError, match="rows"):
        film([("a", "", [sheet])], ["one"], rows=(2,))


def test_the_message_is_json_and_its_key_names_the_contents():
    import json

    a_film = film_of(make_steps())
    message = json.loads(json.dumps(a_film.to_message()))
    assert base64.b64decode(message["frames"][0]) == a_film.frames[0]
    assert message["key"] == film_of(make_steps()).key != film_of(make_steps(count=2)).key


def test_large_x_t_is_shown_at_its_own_scale():
    level = EDMSchedule().level(80.0)
    x_t = torch.full((1, 1, 1, 1), 80.0)
    assert shown(x_t, level).item() == pytest.approx(1.0, rel=1e-3)
    assert shown(x_t, FlowSchedule().level(0.5)).item() == 80.0


def test_a_gif_plays_all_frames_and_holds_the_last():
    a_film = film_of(make_steps(count=4, batch=3, size=8), columns=3)
    image = Image.open(io.BytesIO(gif(a_film, panels=(0, 1), scale=3, seconds=1.0, hold=2.0)))
    assert image.n_frames == 5
    durations = []
    for k in range(image.n_frames):
        image.seek(k)
        durations.append(image.info["duration"])
    assert durations == [200, 200, 200, 200, 2200]
    assert image.info["loop"] == 0
    last = np.asarray(image.convert("L")).astype(int)
    expected = panels_of(a_film, 4)[0][..., 0].repeat(3, 0).repeat(3, 1)
    tile = last[22 : 22 + expected.shape[0], 12 : 12 + expected.shape[1]]
    opaque = panels_of(a_film, 4)[0][..., 3].repeat(3, 0).repeat(3, 1) > 0
    assert np.abs(tile - expected)[opaque].mean() < 6  # 32 shades of grey
    coloured = Image.open(io.BytesIO(gif(a_film, panels=(2,))))
    assert np.ptp(np.asarray(coloured.convert("RGB"))[30:60, 20:60].astype(int), axis=-1).max() > 100


def test_the_histogram_of_noise_is_the_normal_density():
    noise = torch.randn(1, 1, 300, 300, generator=torch.Generator().manual_seed(0))
    assert histogram_chart([noise.reshape(1, 1, 100, -1)]).x_label == "pixel value"
    assert histogram_chart([noise.reshape(1, 3, 100, -1)]).x_label == "value of red, green or blue"
    chart = histogram_chart([noise, torch.full_like(noise, 9.0)], bins=24)
    width = 6 / 24
    assert sum(chart.bars[0]) * width == pytest.approx(1, abs=1e-3)
    centres = [-3 + (k + 0.5) * width for k in range(24)]
    for centre, height in list(zip(centres, chart.bars[0], strict=True))[1:-1]:
        assert height == pytest.approx(math.exp(-(centre**2) / 2) / math.sqrt(2 * math.pi), abs=0.02)
    assert chart.bars[1][-1] == pytest.approx(1 / width)  # beyond the range: in the last bar


def test_the_marker_stays_on_the_curve_and_infinities_at_its_ends():
    schedule = DDPMSchedule.cosine(num_train_timesteps=10)
    levels = [schedule.clean, *reversed(schedule.levels(10)[:-1]), Level(10, 0.0, 1.0)]
    chart = level_chart("log SNR", "", levels, [level.log_snr for level in levels])
    curve = dict(zip(chart.curves[0].x, chart.curves[0].y, strict=True))
    assert len(curve) == 10 and len(chart.markers) == 12
    for x, y in chart.markers[1:-1]:
        assert curve[x] == y
    assert chart.markers[0][1] == max(curve.values()) and chart.markers[-1][1] == min(curve.values())
    with pytest.raises(ValueError, match="one value per level"):
        level_chart("", "", levels, [1.0])


def test_a_strip_holds_the_chosen_frames_one_below_the_other():
    a_film = film_of(make_steps(count=6, batch=2, size=16), columns=2)
    chosen = evenly_spaced(len(a_film.frames), 5)
    assert chosen == [0, 2, 3, 4, 6] and evenly_spaced(len(film_of(make_steps(count=1)).frames), 5) == [0, 1]
    with Image.open(io.BytesIO(strip(a_film, chosen))) as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    for k, frame in enumerate(chosen):
        top, tile = 18 + k * (a_film.height + 22) + 18, panels_of(a_film, frame)[0]
        seen = tile[..., 3] == 255
        assert abs(sheet[top : top + a_film.height, : a_film.width] - tile[..., :3])[seen].mean() < 20  # of 16 shades
    with pytest.raises(ValueError, match="0 to 6"):
        strip(a_film, [7])


def test_a_branch_stands_beside_its_run_and_is_the_run_before_it_begins():
    run, other = make_steps(3), make_steps(3, size=4)[1:]
    other = [replace(step, x_t=-step.x_t, x_next=-step.x_next) for step in other]
    both = branch_film(run, other, sides=("the run", "class 8"), large=("a", "b"), pick=1)
    assert both.lead.beside == "pair" and both.lead.fork == 1 and both.lead.sides == ("the run", "class 8")
    assert both.captions == film_of(run).captions and len(both.titles) == 4 and "class 8" in both.titles[2]
    for frame, step in enumerate([*run, None]):
        of_run, x_0, of_branch, its_x_0 = panels_of(both, frame)
        state = run[-1].x_next if step is None else step.x_t
        assert (of_run[:, :4] == pixels(state)[0]).all()
        if frame == 0:
            assert (of_run == of_branch).all() and (x_0 == its_x_0).all()
        else:
            theirs = other[-1].x_next if step is None else other[frame - 1].x_t
            assert (of_branch[:, :4] == pixels(theirs)[0]).all()
    gif(both, panels=(0, 2))


@pytest.mark.parametrize("branch", [[], [0], [2, 1], [1], [1, 2, 3]], ids=str)
def test_steps_that_are_no_branch_of_the_run_are_refused(branch):
    run = make_steps(3)
    with pytest.raises(ValueError, match="from one of them on"):
        branch_film(run, [replace(run[min(i, 2)], i=i) for i in branch])


def test_a_chart_of_several_curves_says_their_numbers_and_leaves_out_what_cannot_be_drawn():
    a = Curve((0.0, 0.5, 1.0), (math.inf, 1.0, 3.0), "series-0", "one")
    chart = curves_chart("both", [a, Curve((0.0, 1.0), (2.0, 5.0), "series-1", "two")], "time", cursor=(0.0, 0.5, 1.0))
    assert chart.curves[0].x == (0.5, 1.0) and chart.x == (0.0, 1.0) and chart.y[0] < 1 and chart.y[1] > 5
    assert chart.alt == "one 1 at 0.5, 3 at 1; two 2 at 0, 5 at 1"
    log = curves_chart("costs", [Curve((1.0, 10.0), (0.0, 0.1), "series-0", "one", dots=True)], "cost", log="xy")
    assert log.curves[0].x == (10.0,) and log.x[0] < 10 < log.x[1] and 0 < log.y[0] < 0.1 < log.y[1]
    with pytest.raises(ValueError, match="no value that can be drawn"):
        curves_chart("none", [Curve((1.0,), (math.nan,))], "x")
    with pytest.raises(ValueError, match="log must be"):
        curves_chart("costs", [a], "x", log="both")


def test_the_series_of_canvas_charts_are_the_palette_s():
    for k, (light, dark) in enumerate(zip(LIGHT.series, DARK.series, strict=True)):
        assert f"--series-{k}: light-dark({light}, {dark});" in style("scrubber")
