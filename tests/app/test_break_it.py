"""The page Break it: right and broken are what the library computes, and its lines of code stand in the library."""

import inspect
import json

import numpy as np
import torch
from conftest import address, finished
from explorer import break_runs, page_words
from explorer.break_words import OF_SAMPLING, OF_TRAINING
from test_pages import films, frames
from test_programs import executed, keeping, stacked
from visits import QUICK, change_all, cheap_pages, shown  # noqa: F401

from diffusion_explained.training import faults


def test_each_fault_of_the_page_is_one_of_the_library_and_its_lines_stand_there():
    assert tuple(OF_SAMPLING) == faults.SAMPLING_FAULTS and set(OF_TRAINING) < set(faults.FAULTS)
    for loop, words in ((faults.draw, OF_SAMPLING), (faults.learn, OF_TRAINING)):
        source = [line.strip() for line in inspect.getsource(loop).splitlines()]
        for name, fault in words.items():
            for line in (fault.wrong, fault.right):
                assert line.startswith("#") or line.split("  #")[0] in source, (name, line)
            assert fault.wrong != fault.right
            assert f'"{name}"' in "\n".join(source) or name.startswith("schedule "), name


def test_each_try_names_a_fault_of_the_page():
    for one in page_words.BREAK_IT.tries:
        assert one.sets.get("fault", "off by one") in OF_SAMPLING and one.sets.get("taught", "no EMA") in OF_TRAINING


def test_right_and_broken_digits_are_those_of_the_program(open_page, cheap_pages, monkeypatch):  # noqa: F811
    made = keeping(monkeypatch, break_runs, "both_drawn")
    at = change_all(open_page("break_it", **QUICK["break_it"]))
    variables, (right, broken) = executed(at), made[-1]
    assert torch.equal(variables["right"][-1].clamp(-1, 1), right.x_0)
    assert torch.equal(variables["broken"][-1].clamp(-1, 1), broken.x_0) and not torch.equal(right.x_0, broken.x_0)
    assert torch.equal(right.states[0], broken.states[0]), "from the same noise"
    assert np.array_equal(variables["shown"], stacked(frames(films(at)[0])[-1])), "the notebook shows the last frame"
    said = " ".join(one.value for one in at.markdown)
    assert f"| mean pixel | {float(right.x_0.mean()):.2f} | **{float(broken.x_0.mean()):.2f}** |" in said


def test_both_networks_are_trained_by_a_button_and_are_those_of_the_program(open_page, monkeypatch):
    monkeypatch.setattr(break_runs, "LESSONS", (20, 1200))
    monkeypatch.setattr(break_runs, "EXAMPLES", 500)
    made = keeping(monkeypatch, break_runs, "both_learned")
    at = open_page("break_it", where="training", lesson="20", net_seed="3")
    assert not made and "trained" not in address(at)
    at = finished(at.button(key="train").click().run())
    (right, broken), x_0 = made[-1], executed(at)["x_0"]
    assert torch.equal(x_0[None], right.x_0) and torch.equal(x_0["range 0 to 1"], broken.x_0)
    film = next(m["film"] for m in (json.loads(one.proto.json) for one in at.get("bidi_component")) if m.get("film"))
    assert [panel["title"] for panel in film["panels"]] == ["right", "broken"]
    said = " ".join(one.value for one in at.markdown)
    assert f"| {right.distance:.3g} | **{broken.distance:.3g}** |" in said and "`diagnose` says" in said
    again = finished(open_page("break_it", **address(at)))
    assert shown(again)["words"] == shown(at)["words"]
