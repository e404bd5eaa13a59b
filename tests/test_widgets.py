"""The notebooks' widgets: what they hold, when they draw, what they refuse. (test_browser drives their script.)"""

import base64

import ipywidgets
import pytest
import torch
import traitlets
from test_film import make_steps

from diffusion_explained import plots
from diffusion_explained.film import film_of
from diffusion_explained.widgets import Scrubber, Sounds, explore, scrub


def test_scrub_shows_the_end_of_the_run_and_holds_every_frame():
    steps = make_steps()
    widget = scrub(steps)
    assert isinstance(widget, Scrubber) and widget.frame == 3
    assert [base64.b64decode(frame) for frame in widget.film["frames"]] == list(film_of(steps).frames)
    assert repr(widget) == "Scrubber(4 frames of xₜ, predicted x₀, ε conditional, ε unconditional, " + (
        widget.film["titles"][-1] + ")"
    )
    assert scrub(film_of(steps), frame=1).frame == 1


def test_a_page_without_a_kernel_shows_a_strip_of_frames_with_its_alt_text():
    data, metadata = scrub(make_steps())._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and base64.b64decode(data["image/png"])[1:4] == b"PNG"
    alt = metadata["image/png"]["alt"]
    assert alt.startswith("4 of 4 frames of the noisy images, the clean images") and "t = 0.6667" in alt


def test_a_frame_that_does_not_exist_is_refused():
    widget = scrub(make_steps())
    widget.frame = 0
    with pytest.raises(traitlets.TraitError, match=r"0 \.\. 3"):
        widget.frame = 4
    assert widget.frame == 0


def test_the_script_is_one_for_both_hosts():
    source = str(Scrubber._esm)
    assert "export default" in source and "inJupyter" in source and "inStreamlit" in source
    namespace = "http://www.w3.org/2000/svg"  # a name that looks like an address
    assert "http" not in source.replace(namespace, ""), "nothing is fetched"
    assert ".scrubber" in str(Scrubber._css)


def test_explore_draws_at_every_change_and_says_what():
    drawn = []

    def draw(t, flip):
        drawn.append((t, flip))
        return plots.pixel_histogram(torch.full((1, 1, 4, 4), float(-t if flip else t)))

    t, flip = ipywidgets.IntSlider(1, 0, 3), ipywidgets.Checkbox(False)
    box = explore(draw, t=t, flip=flip)
    picture = box.children[-1]
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG") and "mean 1.00" in picture.tooltip
    t.value = 2
    flip.value = True
    assert drawn == [(1, False), (2, False), (2, True)]
    assert bytes(picture.value) != first and "mean -2.00" in picture.tooltip


def test_an_error_while_drawing_is_not_swallowed():
    def draw(t):
        if t:
            raise ValueError("t must be 0")
        return plots.pixel_histogram(torch.zeros(1, 1, 2, 2))

    t = ipywidgets.IntSlider(0, 0, 3)
    explore(draw, t=t)
    with pytest.raises(ValueError, match="t must be 0"):
        t.value = 1


def test_sounds_have_a_player_each_and_are_told_in_words():
    sounds = Sounds({"a tone of 440 Hz": b"RIFF1", 'noise, "loud"': b"RIFF2"})
    assert repr(sounds) == 'The sounds in words: a tone of 440 Hz; noise, "loud"'
    page = sounds._repr_html_()
    assert page.count("<audio controls") == 2 and 'aria-label="noise, &quot;loud&quot;"' in page
    assert base64.b64encode(b"RIFF2").decode() in page
    with pytest.raises(ValueError, match="sounds must have at least one entry"):
        Sounds({})
    with pytest.raises(ValueError, match="sounds"):
        Sounds({"a": "no bytes"})
