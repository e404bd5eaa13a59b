"""Every plot: what it draws from known data, what it says in words, what it refuses, and that it needs no pyplot."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from diffusion_explained import plots
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.noise import generators, randn
from diffusion_explained.palette import DARK, LIGHT, diverging, rgb
from diffusion_explained.plots import figure
from diffusion_explained.samplers import euler
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def guided_steps():
    data = torch.linspace(-1, 1, 6)[:, None, None, None] * torch.ones(6, 1, 4, 4)
    mixture = GaussianMixture(data, classes=torch.tensor([0, 0, 0, 1, 1, 1]))
    denoise = ExactDenoiser(mixture, labels=torch.tensor([0, 1]), guidance_scale=2.0)
    return list(euler(denoise, randn((2, 1, 4, 4), generators(2)), FlowSchedule().levels(5)))


def figures(steps):
    x = torch.linspace(-1, 1, 5 * 3 * 16).reshape(5, 3, 4, 4)
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    schedules = {"cosine": DDPMSchedule.cosine(), "flow": FlowSchedule()}
    return {
        "image_grid": plots.image_grid(x, captions=list("abcde"), title="Five"),
        "filmstrip": plots.filmstrip({"x": x, "noise": x}, captions=list("abcde"), limits={"noise": 2.0}),
        "step_table": plots.step_table(steps),
        "schedule_curves": plots.schedule_curves(schedules, "log_snr", marker=(0.5, 0.0)),
        "pixel_histogram": plots.pixel_histogram(x),
        "loss_curve": plots.loss_curve(range(1, 101), np.geomspace(1, 0.1, 100)),
        "sampler_race": plots.sampler_race({"euler": [(4, 0.1), (2, 0.2)]}),
        "guidance_sweep": plots.guidance_sweep([1, 2], [0.5, 1.0], [3.0, 2.0], real_diversity=4.0),
        "trajectories": plots.trajectories(torch.stack([points, points * 2, points * 3]), data=points),
        "density": plots.density(points, limit=3.0),
        "vector_field": plots.vector_field(points, -points, data=points),
    }


def test_every_figure_has_words_and_legible_type(guided_steps):
    for name, fig in figures(guided_steps).items():
        assert len(plots.alt_text(fig)) > 20, name
        assert plots.png(fig).startswith(b"\x89PNG"), name
        for ax in fig.axes:
            texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label, *ax.texts]
            sizes = [text.get_fontsize() for text in texts if text.get_text()] or [11]
            assert min(sizes) >= 10.5, name


def test_every_plot_with_axes_names_them(guided_steps):
    for name, fig in figures(guided_steps).items():
        if name not in ("image_grid", "filmstrip", "step_table"):
            assert fig.axes[-1].get_xlabel() or fig.axes[0].get_xlabel(), name


@pytest.mark.parametrize("theme, colours", [("light", LIGHT), ("dark", DARK)])
def test_a_theme_colours_text_and_curves(theme, colours):
    ax = plots.schedule_curves({"flow": FlowSchedule(), "cosine": DDPMSchedule.cosine()}, theme=theme).axes[0]
    assert [line.get_color() for line in ax.lines] == list(colours.series[:2])
    assert ax.xaxis.label.get_color() == colours.text
    assert {text.get_color() for text in ax.get_legend().get_texts()} == {colours.text}


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="light, dark"):
        figure(1, 1, "sepia")


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_and_curves_stand_out_from_the_background(theme):
    def contrast(colour):
        high, low = sorted((luminance(colour), luminance(theme.background)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.text) > 7  # WCAG 2.2, 1.4.6
    assert contrast(theme.muted) > 4.5  # 1.4.3
    assert min(contrast(colour) for colour in theme.series) > 3  # 1.4.11


def test_the_diverging_map_is_white_at_zero_and_equally_dark_at_its_ends():
    low, zero, high = (diverging(np.array(v)) for v in (-1.0, 0.0, 1.0))
    assert zero.min() > 240
    assert low[2] > low[0] and high[0] > high[2]
    weights = np.array([0.299, 0.587, 0.114])
    assert abs(low @ weights - high @ weights) < 15
    assert (diverging(np.array(5.0)) == high).all()  # clipped


def test_schedule_curves_draw_the_schedule():
    schedule = DDPMSchedule.cosine(num_train_timesteps=100)
    for quantity, expected in {
        "alpha": schedule.alphas_cumprod.sqrt(),
        "sigma": (1 - schedule.alphas_cumprod).sqrt(),
        "alphas_cumprod": schedule.alphas_cumprod,
        "log_snr": (schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)).log(),
    }.items():
        line = plots.schedule_curves({"cosine": schedule}, quantity).axes[0].lines[0]
        np.testing.assert_allclose(line.get_ydata(), expected.numpy(), rtol=1e-6)
        np.testing.assert_allclose(line.get_xdata(), np.arange(1, 101) / 100)


def test_pure_noise_of_a_flow_leaves_no_infinity_in_log_snr():
    line = plots.schedule_curves({"flow": FlowSchedule()}, "log_snr").axes[0].lines[0]
    assert np.isnan(line.get_ydata()[-1]) and np.isfinite(line.get_ydata()[:-1]).all()


def test_edm_gets_a_log_axis_for_sigma_only():
    assert plots.schedule_curves({"edm": EDMSchedule()}, "sigma").axes[0].get_yscale() == "log"
    assert plots.schedule_curves({"flow": FlowSchedule()}, "sigma").axes[0].get_yscale() == "linear"


def test_an_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match="alphas_cumprod"):
        plots.schedule_curves({"flow": FlowSchedule()}, "beta")


def test_the_histogram_tells_mean_and_spread():
    x = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0)) * 0.5 + 1
    fig = plots.pixel_histogram(x)
    assert "mean 1.00" in plots.alt_text(fig) and "deviation 0.50" in plots.alt_text(fig)
    heights = [bar.get_height() for bar in fig.axes[0].patches]
    assert sum(heights) * 8 / 64 == pytest.approx(1.0)  # a density


def test_the_filmstrip_holds_the_pictures_themselves():
    x = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 1, 2, 2)
    sheet = plots.filmstrip({"x": x}, captions=["a", "b", "c"]).axes[0].images[0].get_array()
    assert [int(sheet[0, 4 * k, 0]) for k in range(3)] == [0, 128, 255]
    assert sheet[0, 2, 3] == 0  # the gap is transparent


def test_a_filmstrip_of_uneven_rows_is_refused():
    with pytest.raises(ValueError, match="same number"):
        plots.filmstrip({"a": torch.zeros(2, 1, 2, 2), "b": torch.zeros(3, 1, 2, 2)})


def test_the_step_table_shows_the_five_fields_of_a_guided_run(guided_steps):
    fig = plots.step_table(guided_steps, image=1, columns=3)
    rows = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert rows[:4] == ["xₜ", "predicted x₀", "ε conditional", "ε unconditional"] and rows[4].startswith("difference")
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["t = 1", "t = 0.6", "t = 0.2"]
    with pytest.raises(ValueError, match="no steps"):
        plots.step_table([])


def test_the_race_is_drawn_on_log_axes_with_plain_numbers():
    ax = plots.sampler_race({"euler": [(2, 0.4), (8, 0.1)]}).axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert list(ax.lines[0].get_xdata()) == [2, 8] and list(ax.lines[0].get_ydata()) == [0.4, 0.1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.1", "0.2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "5"]


def test_the_density_integrates_to_one():
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    image = plots.density(points, limit=6.0, bins=40).axes[0].images[0].get_array()
    assert image.sum() * (12 / 40) ** 2 == pytest.approx(1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plots.trajectories(torch.zeros(3, 4, 3)),
        lambda: plots.trajectories(torch.zeros(4, 2)),
        lambda: plots.density(torch.zeros(4, 3)),
        lambda: plots.vector_field(torch.zeros(4, 2), torch.zeros(5, 2)),
        lambda: plots.loss_curve([1, 2], [1.0]),
        lambda: plots.image_grid(torch.zeros(2, 2, 4, 4)),
    ],
)
def test_wrong_shapes_are_refused_with_the_shape(call):
    with pytest.raises(ValueError, match="got"):
        call()


def test_plots_need_no_pyplot_and_join_it_where_it_is():
    code = """
import sys, torch
from diffusion_explained import plots
fig = plots.pixel_histogram(torch.zeros(1, 1, 4, 4))
plots.png(fig)
assert "matplotlib.pyplot" not in sys.modules
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt
fig = plots.pixel_histogram(torch.zeros(1, 1, 4, 4))
assert plt.get_fignums() == [fig.number]
plots.png(fig)
assert plt.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_grid_leaves_room_for_captions_of_several_lines():
    pictures = torch.zeros(4, 3, 128, 128)
    fig = plots.image_grid(pictures, captions=["a cat\non a mat", *"bcd"], columns=2, tile=1.5, title="Four")
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    top, below = (fig.axes[0].texts[k].get_window_extent(canvas.get_renderer()) for k in (0, 2))
    images = fig.axes[0].transData.transform([(0, 0), (0, 128)])[
        :, 1
    ]  # the first row's upper and lower edge, in pixels
    assert top.y0 >= images[0] and below.y1 <= images[1]
    assert plots.alt_text(fig) == "Four: 4 images in 2 rows (a cat on a mat, b, c, d)"
