"""The figures of measurements draw the rows' own numbers, where they lie."""

import numpy as np
import pytest
import torch

from diffusion_explained.measured import read_measured
from diffusion_explained.plots import (
    PANELS,
    alt_text,
    case_panels,
    exponent,
    extrapolation,
    guidance_panels,
    line_of,
    neighbour_curves,
    png,
    quality_curves,
    scaling_panels,
)

BOTH_THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
BY_N = {100: 5 + 300 / 100, 300: 5 + 300 / 300, 1000: 5 + 300 / 1000}


def rows(**where):
    study = read_measured("samplers")["rows"]
    return [row for row in study if all(row[key] == value for key, value in where.items())]


@BOTH_THEMES
def test_quality_is_drawn_over_evaluations_with_its_spread(theme):
    euler, heun = (rows(model="cifar10_unet_flow", sampler=name, guidance_scale=2.0) for name in ("euler", "heun"))
    fig = quality_curves({"Euler": euler[::-1], "Heun": heun}, floor=1.5, title="Quality", theme=theme)
    (ax,) = fig.axes
    for container, points in zip(ax.containers, (euler, heun), strict=True):
        points = sorted(points, key=lambda row: row["evaluations"])
        line, _, (bars,) = container
        assert line.get_xdata().tolist() == [row["evaluations"] for row in points]
        assert line.get_ydata().tolist() == [row["frechet_distance"] for row in points]
        heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        assert heights == pytest.approx([2 * row["frechet_spread"] for row in points])
    floor = next(line for line in ax.lines if line.get_label() == "unseen real images")
    assert set(floor.get_ydata()) == {1.5}
    assert ax.get_xscale() == ax.get_yscale() == "log" and "units" in ax.get_ylabel() and "image" in ax.get_xlabel()
    assert "dashed, unseen real images 1.5" in alt_text(fig) and png(fig).startswith(b"\x89PNG")


@BOTH_THEMES
def test_guidance_has_a_panel_for_each_measure(theme):
    study = read_measured("guidance")
    guided = [row for row in study["rows"] if not row["guidance_interval"] and not row["guidance_rescale"]]
    fig = guidance_panels({"guided": guided}, real=study["real"], theme=theme)
    assert len(fig.axes) == len(PANELS)
    for ax, key in zip(fig.axes, PANELS, strict=True):
        assert ax.lines[0].get_xdata().tolist() == sorted(row["guidance_scale"] for row in guided)
        drawn = dict(zip(ax.lines[0].get_xdata(), ax.lines[0].get_ydata(), strict=True))
        assert drawn == {row["guidance_scale"]: row[key] for row in guided}
        assert [line.get_ydata()[0] for line in ax.lines[1:]] == ([study["real"][key]] if key in study["real"] else [])
        assert ax.get_title(loc="left") == PANELS[key]
    assert "guided" in alt_text(fig) and png(fig).startswith(b"\x89PNG")


def test_the_line_finds_the_distance_of_infinitely_many():
    assert line_of(BY_N) == pytest.approx((300, 5))


@BOTH_THEMES
def test_the_bias_is_drawn_over_one_over_n_with_its_line(theme):
    fig = extrapolation({"mine": BY_N}, theme=theme)
    for ax in fig.axes:
        points, line = ax.lines
        assert points.get_xdata() == pytest.approx([1 / n for n in BY_N])
        assert list(points.get_ydata()) == list(BY_N.values())
        assert list(line.get_ydata()) == pytest.approx([5, 8]) and ax.get_xlabel() == "1/n"
    assert fig.axes[1].get_xlim()[1] < fig.axes[0].get_xlim()[1] / 4
    assert "mine 5.00" in alt_text(fig) and png(fig).startswith(b"\x89PNG")


@BOTH_THEMES
def test_cases_are_bars_a_panel_a_measure(theme):
    cases = {"real": {"accuracy": 1.0, "distance": 0.5}, "copies": {"accuracy": 0.9, "distance": 0.0}}
    fig = case_panels(cases, best="real", title="Cases", theme=theme)
    for ax, measure in zip(fig.axes, ("accuracy", "distance"), strict=True):
        assert [bar.get_width() for bar in ax.patches] == [case[measure] for case in cases.values()]
        assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()
        assert ax.lines[0].get_xdata()[0] == cases["real"][measure] and ax.get_title(loc="left") == measure
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["real", "copies"]
    assert alt_text(fig) == "Cases: real: accuracy 1, distance 0.5; copies: accuracy 0.9, distance 0" and png(
        fig
    ).startswith(b"\x89PNG")


@BOTH_THEMES
def test_neighbours_are_cumulative_shares(theme):
    fig = neighbour_curves({"samples": torch.tensor([3.0, 1.0, 2.0]), "copies": torch.zeros(4)}, theme=theme)
    samples, copies = fig.axes[0].lines
    assert samples.get_xdata().tolist() == [1, 2, 3] and samples.get_ydata() == pytest.approx([1 / 3, 2 / 3, 1])
    assert copies.get_xdata().tolist() == [0] * 4 and copies.get_ydata()[-1] == 1
    assert "medians: samples 2, copies 0" in alt_text(fig) and png(fig).startswith(b"\x89PNG")


def test_extrapolation_needs_no_large_n():
    """Where no point lies in the left fifth, the lines alone are shown there."""
    fig = extrapolation({"real": {100: 1.0, 200: 0.6, 400: 0.4}})
    low, high = fig.axes[1].get_ylim()
    assert low <= 0 and high > 0.4


@BOTH_THEMES
def test_scaling_is_drawn_over_compute_a_family_a_curve(theme):
    sizes = [
        {
            "training_flops": 1e15 * 4**k,
            "parameters": 2_000_000 * 4**k,
            "test_loss": 0.3 / 2**k,
            "frechet_distance": 160 / 4**k,
        }
        for k in range(3)
    ]
    fig = scaling_panels({"U-Net": sizes[::-1], "transformer": sizes[:2]}, title="Size", theme=theme)
    for ax, key in zip(fig.axes, ("test_loss", "frechet_distance"), strict=True):
        curve, short = (line for line in ax.lines if len(line.get_xdata()))
        assert list(curve.get_xdata()) == [1, 4, 16] and list(short.get_xdata()) == [1, 4]
        assert list(curve.get_ydata()) == [row[key] for row in sizes]
        assert [text.get_text() for text in ax.texts] == ["2.0 M", "8.0 M", "32.0 M", "2.0 M", "8.0 M"]
        assert ax.get_xscale() == ax.get_yscale() == "log" and "PFLOP" in ax.get_xlabel()
    assert "Fréchet distance of transformer" in alt_text(fig) and png(fig).startswith(b"\x89PNG")


def test_the_exponent_of_a_power_law_is_found():
    sizes = [{"training_flops": c, "frechet_distance": 5 * c**-0.25} for c in (1e15, 3e15, 8e15)]
    assert exponent(sizes, "frechet_distance") == pytest.approx(0.25)
