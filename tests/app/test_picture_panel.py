"""The part "A picture" of Control: what is drawn is the library's, and the program gives the same."""

import numpy as np
import pytest
import torch
from conftest import address
from explorer import picture_panel, picture_runs
from test_pages import films, frames, png
from test_programs import executed, keeping

from diffusion_explained.film import pixels


def opened(open_page, **settings):
    return open_page("control", **({"control_kind": "picture", "picture_steps": "1"} | settings))


@pytest.mark.parametrize(
    "settings", [{}, {"picture_look": picture_panel.MADE_UP, "picture_style": "5", "picture_scale": "0.6"}]
)
def test_the_program_gives_what_the_page_shows(open_page, monkeypatch, settings):
    made = keeping(monkeypatch, picture_runs, "draw")
    at = opened(open_page, picture_seed="3", **settings)
    variables, drawn = executed(at), made[-1]
    for theirs, shown in zip(variables["pictures"], (drawn.plain, drawn.controlled), strict=True):
        torch.testing.assert_close(theirs, shown, rtol=0, atol=1e-5)
    assert not torch.allclose(drawn.plain, drawn.controlled, atol=0.1)
    shown = films(at)[0]
    for panel, picture in zip(frames(shown)[-1], (drawn.plain, drawn.controlled), strict=False):
        np.testing.assert_allclose(panel.astype(int), pixels(picture)[0], atol=1)
    assert shown["titles"][:2] == ["without the picture", "with the picture"]
    assert shown["titles"][-1] == f"middle, 8 × 8 · {float(variables['shares'][:, -1].mean()):.0%}"


def test_at_scale_zero_both_pictures_are_the_same(open_page):
    shown = frames(films(opened(open_page, picture_scale="0"))[0])[-1]
    assert (shown[0] == shown[1]).all()


def test_a_picture_of_the_visitor_is_shown_in_the_look_or_the_page_says_why_not(open_page, monkeypatch):
    given = keeping(monkeypatch, picture_panel, "Given")
    at = opened(open_page)
    pear = given[-1].picture
    at.file_uploader(key="picture_upload").upload("x.png", b"no picture", "image/png").run()
    assert "cannot be used" in at.error[0].value and torch.equal(given[-1].picture, pear)
    half = png((64, 32), color=(200, 20, 20))
    at.file_uploader(key="picture_upload").upload("x.png", half, "image/png").run()
    assert not at.exception and given[-1].picture.shape == (1, 3, 128, 128)
    assert not torch.equal(given[-1].picture, pear)
    program, said = at.code[0].value, " ".join(caption.value for caption in at.caption)
    assert "load_image" in program and "made_styles import ink" in program and "your own picture" in said


def test_its_tries_set_what_they_speak_of(open_page):
    at = opened(open_page)
    at.button(key="try_2").click().run()
    assert not at.exception
    assert at.text_input(key="picture_prompt").value == "" and address(at)["picture_look"] == ["as it is"]
