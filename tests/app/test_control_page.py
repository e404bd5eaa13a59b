"""Control: what is drawn is the library's, a drawing steers it, and the program gives the same."""

import numpy as np
import pytest
import torch
from conftest import address
from explorer import control_kinds, control_runs
from test_pages import films, frames, png
from test_programs import executed, keeping

from diffusion_explained.film import pixels
from diffusion_explained.micro.control_pictures import BLUE, RED
from diffusion_explained.micro.control_pictures import edges as edges_of

QUICK = {"control_steps": "1"}


def opened(open_page, **settings):
    return open_page("control", **(QUICK | settings))


def painted_by(monkeypatch, painted):
    monkeypatch.setattr(control_kinds, "board", lambda *_, **__: painted)


@pytest.mark.parametrize("kind", list(control_kinds.OF_KINDS))
def test_the_program_gives_what_the_page_shows(open_page, monkeypatch, kind):
    made = keeping(monkeypatch, control_runs, "draw")
    at = opened(open_page, control_kind=kind, control_scale="0.8", control_seed="3")
    variables, drawn = executed(at), made[-1]
    for theirs, shown in zip(variables["pictures"], (drawn.plain, drawn.controlled), strict=True):
        torch.testing.assert_close(theirs, shown, rtol=0, atol=1e-5)
    assert not torch.allclose(drawn.plain, drawn.controlled, atol=0.1)
    last = frames(films(at)[0])[-1]
    for panel, picture in zip(last, (drawn.plain, drawn.controlled), strict=False):
        np.testing.assert_allclose(panel.astype(int), pixels(picture)[0], atol=1)
    middle = f"middle, 8 × 8 · {float(variables['shares'][:, -1].mean()):.0%}"
    assert films(at)[0]["titles"][-1] == middle
    assert ("F1" in " ".join(words.value for words in at.markdown)) == (kind == "edges")


def test_at_scale_zero_both_pictures_are_the_same(open_page):
    shown = frames(films(opened(open_page, control_scale="0"))[0])[-1]
    assert (shown[0] == shown[1]).all()


def test_what_is_drawn_joins_the_outline_and_is_in_no_address(open_page, monkeypatch):
    given = keeping(monkeypatch, control_kinds, "Given")
    at = opened(open_page)
    outline = given[-1].picture
    painted = torch.zeros(4, 128, 128)
    painted[3, :8] = 1.0  # a bar at the top
    painted_by(monkeypatch, painted)
    at.run()
    joined = given[-1].picture
    assert joined[0, :, :8].all() and torch.equal(joined[..., 8:, :], outline[..., 8:, :]) and not outline.all()
    assert "without what you drew" in at.code[0].value and "what you drew" in " ".join(c.value for c in at.caption)
    blank = opened(open_page, scribble_from=control_kinds.BLANK)
    assert given[-1].picture[0, :, :8].all() and not given[-1].picture[0, :, 8:].any()
    assert address(blank)["scribble_from"] == [control_kinds.BLANK]


def test_a_painted_layout_is_red_and_blue_where_the_visitor_painted(open_page, monkeypatch):
    given = keeping(monkeypatch, control_kinds, "Given")
    painted = torch.zeros(4, 128, 128)
    painted[[0, 3], :8] = 1.0
    painted[[2, 3], 120:] = 1.0
    painted_by(monkeypatch, painted)
    opened(open_page, control_kind="layout")
    picture = given[-1].picture[0]
    assert picture[RED, :8].all() and not picture[[1, BLUE], :8].any()
    assert picture[BLUE, 120:].all() and not picture[[RED, 1], 120:].any()
    assert picture[RED, 64, 96] == 1 and picture[BLUE, 64, 32] == 1  # the usual areas stay


def test_edges_are_those_of_the_visitor_s_picture_or_the_page_says_why_not(open_page, monkeypatch):
    given = keeping(monkeypatch, control_kinds, "Given")
    at = opened(open_page, control_kind="edges")
    of_emoji = given[-1].picture
    at.file_uploader(key="edges_upload").upload("x.png", b"no picture", "image/png").run()
    assert "cannot be used" in at.error[0].value and torch.equal(given[-1].picture, of_emoji)
    half = png((128, 128), color=(255, 255, 255))
    at.file_uploader(key="edges_upload").upload("x.png", half, "image/png").run()
    assert not given[-1].picture.any() and not edges_of(torch.ones(1, 3, 128, 128)).any()
    assert "load_image" in at.code[0].value
