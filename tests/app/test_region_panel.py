"""The part "Two prompts" of Control: what is drawn is the library's, regions can be painted, and the program agrees."""

import numpy as np
import pytest
import torch
from conftest import address
from explorer import control_kinds, region_panel, region_runs
from test_control_page import painted_by
from test_pages import films, frames
from test_programs import executed, keeping

from diffusion_explained.film import pixels


def opened(open_page, **settings):
    return open_page("control", **({"control_kind": "regions", "regions_steps": "1"} | settings))


def test_the_program_gives_what_the_page_shows(open_page, monkeypatch):
    made, asked = keeping(monkeypatch, region_runs, "draw"), keeping(monkeypatch, region_panel, "RegionRuns")
    at = opened(open_page, regions_seed="3", regions="first below", regions_scale="0.9", regions_w="3")
    assert asked[-1].prompts == ("a dog at the bottom", "a rocket at the top")
    variables, drawn = executed(at), made[-1]
    for theirs, shown in zip(variables["pictures"], (drawn.plain, drawn.controlled), strict=True):
        torch.testing.assert_close(theirs, shown, rtol=0, atol=1e-5)
    assert not torch.allclose(drawn.plain, drawn.controlled, atol=0.1)
    shown = films(at)[0]
    last = frames(shown)[-1]
    for panel, picture in zip(last, (drawn.plain, drawn.controlled), strict=False):
        np.testing.assert_allclose(panel.astype(int), pixels(picture)[0], atol=1)
    assert len(last) == 4 and shown["titles"][2:] == ["prompt 1 alone", "prompt 2 alone"]
    curves = shown["charts"][0]["curves"]
    assert [curve["y"][0] for curve in curves] == pytest.approx(variables["spread"][0].tolist(), abs=1e-3)
    assert "in the first region and **a rocket** in the second" in " ".join(words.value for words in at.markdown)


def test_equal_prompts_draw_what_one_prompt_draws_and_places_are_said_only_if_asked_for(open_page, monkeypatch):
    made = keeping(monkeypatch, region_runs, "draw")
    same = {"regions_0": "a cat", "regions_1": "a cat", "regions_whole": "a cat", "regions_said": "false"}
    at = opened(open_page, **same)
    assert at.text_input(key="regions_0").value == "a cat" and not at.toggle(key="regions_said").value
    torch.testing.assert_close(made[-1].plain, made[-1].controlled, rtol=0, atol=1e-4)


def test_painted_regions_are_where_the_visitor_painted(open_page, monkeypatch):
    given = keeping(monkeypatch, control_kinds, "Given")
    painted = torch.zeros(4, 128, 128)
    painted[[2, 3], :8] = 1.0  # a blue bar at the top
    painted_by(monkeypatch, painted)
    at = opened(open_page)
    first, second = region_runs.areas(given[-1])
    assert second[:8].all() and first[8:, 64:].all() and torch.equal(first, 1 - second)
    assert "without what you painted" in at.code[0].value and "what you painted" in " ".join(
        caption.value for caption in at.caption
    )


def test_its_tries_set_what_they_speak_of(open_page):
    at = opened(open_page)
    at.button(key="try_2").click().run()
    assert not at.exception and not at.toggle(key="regions_said").value
    assert address(at)["regions_said"]
