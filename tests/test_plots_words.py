"""Alt texts tell curves, points and tables with their numbers."""

import torch
from matplotlib.figure import Figure

from diffusion_explained.charts import curve_words, three_digits
from diffusion_explained.plots.style import figure
from diffusion_explained.plots.words import pairs_words, place_words, table_words


def test_numbers_have_three_digits():
    written = {1e-9: "0", -1e-9: "0", 0.12345: "0.123", -3.14159: "-3.14", 123456.0: "1.23e+05"}
    assert {value: three_digits(value) for value in written} == written


def test_a_curve_is_told_by_its_ends_and_by_what_lies_between():
    assert curve_words("few", [1, 2], [0.5, 0.25]) == "few 0.5 at 1, 0.25 at 2"
    x = torch.linspace(0, 2, 21)
    assert curve_words("arc", x, 1 - (x - 1) ** 2) == "arc from 0 at 0 to 0 at 2, highest 1 at 1"
    assert curve_words("line", x, x) == "line from 0 at 0 to 2 at 2"
    assert curve_words("holes", [1, 2, 3], [float("nan"), 1, float("inf")]) == "holes 1 at 2"
    assert curve_words("none", [1], [float("nan")]) == "none without values"


def test_points_tables_and_pairs():
    assert place_words([[0, 0], [2, 4]]) == "around (1.0, 2.0), spread 1.0 and 2.0"
    assert table_words("a", ["r"], ["x", "y"], [[1, 2.345]], 2) == "a: r 1.00 at x, 2.35 at y"
    assert pairs_words({"accuracy": 1.0, "distance": 0.5}) == "accuracy 1, distance 0.5"


def test_a_notebook_displays_the_figure_with_its_alt_text(monkeypatch):
    shown = []

    def display(data, raw, metadata=None):
        shown.append((data, metadata))

    monkeypatch.setattr("IPython.display.display", display)
    fig, _ = figure(2, 2, "light")
    fig.set_label("a < b:\ntwo curves")
    assert isinstance(fig, Figure)
    fig._ipython_display_()
    (image, metadata), (text, _) = shown
    assert metadata == {"image/png": {"alt": "a < b: two curves"}} and image["text/plain"].endswith("200 with 1 Axes>")
    assert text["text/html"] == "<details><summary>The figure in words</summary>a &lt; b: two curves</details>"
    assert text["text/plain"] == "The figure in words: a < b: two curves"
