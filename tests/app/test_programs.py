""" "The same in Python" is what ran, on the pages of our own networks: executed, it gives the page's own tensors."""

import ast
import base64
import io
import json

import explorer.beyond_kinds
import explorer.branches
import explorer.runs
import numpy as np
import pytest
import torch
from conftest import pictures_of
from explorer import names
from explorer.branches import WHAT
from PIL import Image
from test_pages import films, frames
from test_same_pixels import VARIANTS, ids
from visits import QUICK, alone, another, change, change_all, cheap_pages, drawn, widgets  # noqa: F401

from diffusion_explained.film import mosaic, pixels

pytestmark = pytest.mark.usefixtures("cheap_pages", "in_a_folder")


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a program may write its GIF


def cell_of(at):
    """The page's program as a cell of a notebook, which the panel Share offers to copy."""
    messages = (json.loads(element.proto.json) for element in at.get("bidi_component"))
    (cell,) = [message["cell"] for message in messages if "cell" in message]
    assert cell.startswith(at.code[0].value)
    return cell


def executed(at):
    """The variables that the page's cell leaves, and as `shown` the picture [H, W, 4] that the notebook would show."""
    variables, cell = {}, ast.parse(cell_of(at))
    last = cell.body.pop() if cell_of(at) != at.code[0].value else None
    exec(compile(cell, "the same in Python", "exec"), variables)
    if last is not None:
        variables["shown"] = np.asarray(eval(compile(ast.Expression(last.value), "its last line", "eval"), variables))
    return variables


def strips(at, words):
    """The pictures [H, W, 4] of the page whose alternative texts begin so."""
    found = [source for alt, source in pictures_of(at) if alt.startswith(words)]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in found]


def stacked(strips):
    """Strips one above the other, with the gap of a mosaic."""
    gap = np.zeros((2, *strips[0].shape[1:]), np.uint8)
    return np.concatenate([part for one in strips for part in (one, gap)][:-1])


def keeping(monkeypatch, module, name):
    """A list to which every value of module.name is added from now on."""
    values, call = [], getattr(module, name)

    def kept(*args, **options):
        values.append(call(*args, **options))
        return values[-1]

    monkeypatch.setattr(module, name, kept)
    return values


def changed(open_page, name, base):
    """(what was changed, the page): nothing, every control at once, and alone those that bring others."""
    at = drawn(open_page(name, **base))
    keys = alone(at)
    yield "nothing", at
    if set(widgets(at)) - set(keys):
        yield "all at once", change_all(at)
    for key in keys:
        yield key, change(drawn(open_page(name, **base)), key)


def check_each_is_printed(open_page, name, base, silent=()):
    """No control can be left out of the program: it reads otherwise after each; silent: what decides no picture."""
    at = open_page(name, **base)
    for key in [key for key in alone(at) if key not in silent]:
        other = open_page(name, **base)
        other = widgets(other)[key].set_value(another(widgets(other)[key])).run()
        assert other.code[0].value != at.code[0].value, key
    for key in [key for key in widgets(at) if key not in (*alone(at), *silent)]:
        before = at.code[0].value
        at = widgets(at)[key].set_value(another(widgets(at)[key])).run()
        assert at.code[0].value != before, key


LOOKS = ("digit", "ema")  # of the page Training: they choose what is looked at, and change no network
OF_BLOBS = ("blob_class", "blob_strength")  # of a drawing on the start page, which has a program of its own


@pytest.mark.parametrize("name, base", [("start", {}), *VARIANTS], ids=ids)
def test_each_control_is_in_the_program(open_page, name, base):
    check_each_is_printed(open_page, name, base, LOOKS + OF_BLOBS)


@pytest.mark.parametrize("name, base", [("start", {}), *(one for one in VARIANTS if one[0] == "reverse")], ids=ids)
def test_a_run_of_our_networks_is_the_page_s(open_page, name, base, monkeypatch):
    runs = keeping(monkeypatch, explorer.runs, "run")
    for what, at in changed(open_page, name, base):
        variables = executed(at)
        assert torch.equal(variables["x_0"], runs[-1].x_0), (what, at.code[0].value)
        if "x_0_branch" not in variables:
            assert np.array_equal(variables["shown"], frames(films(at)[0])[-1][0]), "the notebook shows the last frame"


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpm_solver_pp_2m"])
def test_a_branch_is_the_page_s(open_page, what, sampler, monkeypatch):
    made = keeping(monkeypatch, explorer.branches, "branched")
    at = open_page("reverse", steps="4", sampler=sampler, fork="true", fork_step="3", fork_what=what)
    left = executed(at)
    assert torch.equal(left["x_0_branch"], made[-1].x_0) and not torch.equal(left["x_0"], left["x_0_branch"])
    assert len(left["branched"]) == 2, "only what follows is computed"


@pytest.mark.parametrize("base", [base for name, base in VARIANTS if name == "beyond"], ids=ids)
def test_other_kinds_of_data_are_the_page_s(open_page, base, monkeypatch):
    made = keeping(monkeypatch, explorer.beyond_kinds, "show")
    for what, at in changed(open_page, "beyond", base):
        variables, states = executed(at), made[-1].result.states
        assert torch.equal(variables["x_t"] if "x_t" in variables else variables["x_0"], _last(states, variables)), what


def _last(states, variables):
    """The page's states as its program leaves them: all of them, or the last."""
    return torch.cat(states) if "x_t" in variables else states[-1]


@pytest.mark.parametrize("clip", ["true", "false"])
def test_clipping_is_in_the_program(open_page, clip):
    assert f"clip={'1.0' if clip == 'true' else 'None'}" in open_page("reverse", steps="2", clip=clip).code[0].value


def test_the_race_is_the_page_s(open_page, monkeypatch):
    goals = keeping(monkeypatch, explorer.runs, "reference")
    finishes = keeping(monkeypatch, explorer.runs, "finish")
    for what, at in changed(open_page, "samplers", QUICK["samplers"]):
        variables = executed(at)
        assert torch.equal(variables["x_0"], goals[-1]), what
        theirs = {(one.sampler, one.num_inference_steps): one.x_0 for one in variables["finishes"]}
        shown = {(one.sampler, one.num_inference_steps): one.x_0 for one in finishes[-len(theirs) :]}
        assert shown.keys() == theirs.keys(), what
        assert all(torch.equal(theirs[key], shown[key]) for key in shown), what
        chosen = [name for name in names.SAMPLERS if name in at.session_state.samplers]
        rows = dict(zip(chosen, strips(at, "the final image, by number of steps")[1:], strict=True))
        assert np.array_equal(variables["shown"], stacked([rows[name] for name in at.session_state.samplers])), what


def test_the_sweep_is_the_page_s(open_page, monkeypatch):
    made = keeping(monkeypatch, explorer.runs, "guided")
    for what, at in changed(open_page, "guidance", QUICK["guidance"]):
        variables, page = executed(at), made[-1]
        assert torch.equal(variables["images"][page.guidance_scale], page.x_0), what
        accuracy, diversity = variables["measured"][page.guidance_scale]
        assert accuracy == page.accuracy and diversity == pytest.approx(page.diversity, rel=1e-6)
        assert np.array_equal(variables["shown"], stacked(strips(at, "images of each class"))), what


@pytest.mark.parametrize("base", [{}, {"model": "cifar10_unet_flow"}], ids=["digits", "pictures"])
def test_noising_is_the_page_s(open_page, base, monkeypatch):
    made = keeping(monkeypatch, explorer.runs, "noising")
    for what, at in changed(open_page, "forward", base):
        variables = executed(at)
        assert torch.equal(variables["x_t"], made[-1].x_t), what
        predicted = mosaic(pixels(variables["predictions"].x_0[9:10]))
        np.testing.assert_allclose(frames(films(at)[0])[10][2], predicted, atol=1)
        assert np.array_equal(variables["shown"], *strips(at, "x_t on its way into noise")), what


def test_schedules_are_the_page_s(open_page, monkeypatch):
    from explorer import page

    drawn_rows: list = []
    monkeypatch.setattr(page, "strip", lambda rows, *rest: drawn_rows.append(rows))
    for what, at in changed(open_page, "schedules", {"own": "true", "curve": "12.00_5.25_-1.00_-3.00_-9.00"}):
        variables = executed(at)
        x_t = variables["x_t"]
        assert np.array_equal(variables["shown"], stacked([mosaic(pixels(torch.stack(x_t[name])), 11) for name in x_t]))
        assert list(x_t) == list(drawn_rows[-1]), what
        for name, images in x_t.items():
            assert all(map(torch.equal, images, drawn_rows[-1][name])), (what, name)
        assert "log_snr=[12.0, 5.25, -1.0, -3.0, -9.0]" in at.code[0].value, what
