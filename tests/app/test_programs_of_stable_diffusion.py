""" "The same in Python" is what ran, on the pages of Stable Diffusion: executed, it gives the page's own tensors."""

import numpy as np
import pytest
import torch
from conftest import LARGER
from explorer import drawings, latent_views, stable, stable_sections, variations
from PIL import Image
from test_pages import films, frames
from test_programs import changed, check_each_is_printed, executed, in_a_folder, keeping  # noqa: F401
from test_same_pixels import ids
from test_same_pixels_of_stable_diffusion import VARIANTS
from visits import QUICK, change_all, cheap_pages, drawn  # noqa: F401

from diffusion_explained.film import pixels

pytestmark = pytest.mark.usefixtures("cheap_pages", "in_a_folder")
QUOTES = {"t2i_prompt": 'a "cat\'s" \\n model.decode {x}', "t2i_negative": "'''"}


@pytest.mark.parametrize("name, base", VARIANTS, ids=ids)
def test_each_control_is_in_the_program(open_page, name, base, monkeypatch):
    monkeypatch.setattr(stable_sections, "run", lambda *args, **options: None)  # nothing is drawn for its words
    monkeypatch.setattr(drawings, "whole", once(drawings.whole))
    monkeypatch.setattr(drawings, "readings", lambda *args: [])
    monkeypatch.setattr(drawings, "draw", one_step)
    monkeypatch.setattr(variations, "_walked", once(variations._walked))
    monkeypatch.setattr(latent_views, "mixed", once(latent_views.mixed))
    check_each_is_printed(open_page, name, base, silent=("t2i_search", "hole"))  # without a file a rectangle is taken


_draw, _drawn = drawings.draw, {}


def one_step(name, ask, start, tell):
    """A drawing of one step with as many pictures, made once: what is compared is the program alone."""
    if (count := len(ask.seeds)) not in _drawn:
        quick = stable.Ask("a cat", "", 2.0, "euler", None, 1, tuple(range(count)), ask.height, ask.width)
        _drawn[count] = _draw(name, quick, stable.RunStart(), tell)
    return _drawn[count]


def once(call):
    """The call, whose first value stands for all."""
    values: list = []
    return lambda *args: values[0] if values else values.append(call(*args)) or values[0]


STARTS = (
    {},
    {"start": "a picture", "source": "an emoji"},
    {"start": "a picture", "source": "a CIFAR-10 picture", "strength": "0.8"},
    {"start": "a picture", "source": "white paper"},
    {"start": "a picture with a hole", "source": "an emoji", "hole": "a rectangle", "across": "10-60"},
    {"start": "a picture with a hole", "source": "an emoji"},
    {"start": "a picture, zoomed out", "source": "an emoji", "zoom": "2.5", "t2i_sampler": "ddpm", "resamplings": "2"},
)


def check_pictures(at):
    """Those of the page are those of its program."""
    shown = at.session_state.sd_drawn.trace.pictures
    assert np.abs(pixels(executed(at)["pictures"])[..., :3].astype(int) - shown[..., :3]).max() <= 1


@pytest.mark.parametrize("begun", STARTS, ids=lambda one: "&".join(one.values()) or "noise")
def test_stable_diffusion_is_the_page_s(open_page, begun):
    check_pictures(drawn(open_page(LARGER, t2i_steps="2", **begun, **QUOTES)))


@pytest.mark.parametrize("begun", [{}, STARTS[4]], ids=["noise", "a hole"])
def test_stable_diffusion_is_the_page_s_with_every_control_set(open_page, begun):
    check_pictures(change_all(drawn(open_page(LARGER, t2i_steps="2", **begun))))


def test_text_to_image_is_the_page_s(open_page, monkeypatch):
    made = keeping(monkeypatch, drawings, "draw")
    base = {"t2i_steps": "2", "t2i_count": "1"}
    for change in ({"t2i_prompt": QUOTES["t2i_prompt"], "t2i_negative": "'a' \"b\""}, {"start": "a picture"}):
        at = open_page("text_to_image", **(base | change))
        assert torch.allclose(executed(at)["pictures"], made[-1].pictures, atol=1e-5), change
        at = change_all(at)
        assert torch.allclose(executed(at)["pictures"], made[-1].pictures, atol=1e-5), change


def test_latents_are_the_page_s(open_page, monkeypatch):
    encoded = keeping(monkeypatch, latent_views, "encoded")
    decoded = keeping(monkeypatch, latent_views, "decode")
    for what, at in changed(open_page, "latents", {}):
        encoded.clear(), decoded.clear()
        at.run()
        variables = executed(at)
        assert torch.allclose(variables["decoded"], encoded[0].decoded, atol=1e-5), what
        assert torch.allclose(variables["other"], encoded[-1].latents, atol=1e-5), what
        assert torch.allclose(variables["poked"], decoded[0], atol=1e-5), what


def test_both_runs_of_the_comparison_are_the_page_s(open_page):
    at = drawn(open_page("compare", **QUICK["compare"], compare_prompt=QUOTES["t2i_prompt"]))
    for page in (at, change_all(drawn(open_page("compare", **QUICK["compare"])))):
        variables, shown = executed(page), page.session_state.sd_compared
        pictures_shown = shown.trace.pictures
        assert np.abs(pixels(variables["pictures"])[..., :3].astype(int) - pictures_shown[..., :3]).max() <= 1
        ours = frames(films(page)[0])[-1][0]  # enlarged to the size of the other's thumbnails
        x_0 = Image.fromarray(pixels(variables["x_0"])[0]).resize(ours.shape[1::-1], Image.Resampling.NEAREST)
        np.testing.assert_allclose(ours, np.asarray(x_0), atol=1)
