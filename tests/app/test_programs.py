""" "The same in Python" is what ran: the program of every page is executed, and gives the page's own tensors."""

import explorer.runs
import numpy as np
import pytest
import torch
from explorer import latent_views
from PIL import Image
from test_addresses import QUICK, another, drawn, shorter_work, widgets  # noqa: F401
from test_pages import films, frames

from diffusion_explained.film import mosaic, pixels


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a program may write its GIF


def executed(at):
    """The variables that the page's program leaves."""
    variables: dict = {}
    exec(compile(at.code[0].value, "the same in Python", "exec"), variables)
    return variables


VARIANTS = (
    ("start", {}),
    ("reverse", {"steps": "2"}),
    ("reverse", {"steps": "2", "sampler": "ddim"}),
)


@pytest.mark.parametrize(
    "name, base", VARIANTS, ids=lambda one: one if isinstance(one, str) else "&".join(one.values())
)
def test_a_run_of_our_networks_is_the_page_s_for_every_control(open_page, name, base, monkeypatch):
    runs: list = []
    run = explorer.runs.run
    monkeypatch.setattr(explorer.runs, "run", lambda *args, **options: runs.append(run(*args, **options)) or runs[-1])
    for key in [None, *widgets(open_page(name, **base))]:
        at = open_page(name, **base)
        if key is not None:
            at = widgets(at)[key].set_value(another(widgets(at)[key])).run()
        assert torch.equal(executed(at)["x_0"], runs[-1].x_0), (key, at.code[0].value)


@pytest.mark.parametrize("clip", ["true", "false"])
def test_clipping_is_in_the_program(open_page, clip):
    assert f"clip={'1.0' if clip == 'true' else 'None'}" in open_page("reverse", steps="2", clip=clip).code[0].value


def test_the_race_and_the_sweep_are_the_page_s_for_every_control(open_page, monkeypatch):
    goals, made = [], []
    reference, guided = explorer.runs.reference, explorer.runs.guided
    monkeypatch.setattr(explorer.runs, "reference", lambda *a: goals.append(reference(*a)) or goals[-1])
    monkeypatch.setattr(explorer.runs, "guided", lambda *a: made.append(guided(*a)) or made[-1])
    for change in ({}, {"seed": "3"}, {"race_w": "2"}, {"model": "mnist_unet_eps"}, {"samplers": "heun"}):
        at = open_page("samplers", **(QUICK["samplers"] | change))
        variables = executed(at)
        assert torch.equal(variables["x_0"], goals[-1])
        assert [one.num_inference_steps for one in variables["finishes"]][:4] == [1, 2, 3, 4]
    for change in ({}, {"seed": "3"}, {"per_class": "4"}, {"sweep_steps": "6"}, {"model": "mnist_unet_eps"}):
        at = open_page("guidance", **(QUICK["guidance"] | change))
        variables, page = executed(at), made[-1]
        assert torch.equal(variables["images"][page.guidance_scale], page.x_0), change
        accuracy, diversity = variables["measured"][page.guidance_scale]
        assert accuracy == page.accuracy and diversity == pytest.approx(page.diversity, rel=1e-6)


@pytest.mark.parametrize("base", [{}, {"model": "cifar10_unet_flow"}], ids=["digits", "pictures"])
def test_noising_is_the_page_s_for_every_control(open_page, base, monkeypatch):
    made = []
    noising = explorer.runs.noising
    monkeypatch.setattr(explorer.runs, "noising", lambda *args: made.append(noising(*args)) or made[-1])
    for key in [None, *widgets(open_page("forward", **base))]:
        at = open_page("forward", **base)
        if key is not None:
            at = widgets(at)[key].set_value(another(widgets(at)[key])).run()
        variables = executed(at)
        assert torch.equal(variables["x_t"], made[-1].x_t), key
        guess = mosaic(pixels(variables["guesses"][9].x_0))
        np.testing.assert_allclose(frames(films(at)[0])[10][2], guess, atol=1)


def test_schedules_are_the_page_s_for_every_control(open_page, monkeypatch):
    from explorer import page

    drawn_rows: list = []
    monkeypatch.setattr(page, "show", lambda *args: None)
    monkeypatch.setattr(page, "strip", lambda rows, *rest: drawn_rows.append(rows))
    for key in [None, *widgets(open_page("schedules", own="true"))]:
        at = open_page("schedules", own="true")
        if key is not None:
            at = widgets(at)[key].set_value(another(widgets(at)[key])).run()
        x_t = executed(at)["x_t"]
        assert list(x_t) == list(drawn_rows[-1]), key
        for name, images in x_t.items():
            assert all(map(torch.equal, images, drawn_rows[-1][name])), (key, name)


STARTS = (
    {},
    {"start": "a picture", "source": "an emoji"},
    {"start": "a picture", "source": "a CIFAR-10 picture", "strength": "0.8"},
    {"start": "a picture", "source": "white paper"},
    {"start": "a picture with a hole", "source": "an emoji", "hole": "a rectangle", "across": "10-60"},
    {"start": "a picture with a hole", "source": "an emoji"},
)
QUOTES = {"prompt": 'a "cat\'s" \\n model.decode {x}', "negative": "'''"}


@pytest.mark.parametrize("begun", STARTS, ids=lambda one: "&".join(one.values()) or "noise")
def test_stable_diffusion_is_the_page_s(open_page, begun):
    changes = ({}, QUOTES, {"count": "2", "sd_seed": "5"}, {"sd_w": "3"}, {"sd_sampler": "heun"}, {"width": "64"})
    for change in changes if not begun else (QUOTES,):
        at = drawn(open_page("stable_diffusion", **({"sd_steps": "2"} | begun | change)))
        shown = at.session_state.sd_drawn.trace.pictures
        assert np.abs(pixels(executed(at)["pictures"])[..., :3].astype(int) - shown[..., :3]).max() <= 1, change


def test_text_to_image_is_the_page_s(open_page, monkeypatch):
    from explorer import drawings

    made = []
    draw = drawings.draw
    monkeypatch.setattr(drawings, "draw", lambda *args: made.append(draw(*args)) or made[-1])
    base = {"t2i_steps": "2", "t2i_count": "2"}
    words = {"t2i_prompt": QUOTES["prompt"]}, {"t2i_negative": "'a' \"b\""}
    for change in ({}, *words, {"t2i_sampler": "ddim"}, {"t2i_w": "1"}, {"t2i_seed": "7"}, {"start": "a picture"}):
        at = open_page("text_to_image", **(base | change))
        assert torch.allclose(executed(at)["pictures"], made[-1].pictures, atol=1e-5), change


def test_latents_are_the_page_s_for_every_control(open_page, monkeypatch):
    encoded, decoded = [], []
    encode, decode = latent_views.encoded, latent_views.decode
    monkeypatch.setattr(latent_views, "encoded", lambda *args: encoded.append(encode(*args)) or encoded[-1])
    monkeypatch.setattr(latent_views, "decode", lambda *args: decoded.append(decode(*args)) or decoded[-1])
    for key in [None, *widgets(open_page("latents"))]:
        at = open_page("latents")
        if key is not None:
            at = widgets(at)[key].set_value(another(widgets(at)[key])).run()
        encoded.clear(), decoded.clear()
        at.run()
        variables = executed(at)
        assert torch.allclose(variables["decoded"], encoded[0].decoded, atol=1e-5), key
        assert torch.allclose(variables["other"], encoded[-1].latents, atol=1e-5), key
        assert torch.allclose(variables["poked"], decoded[0], atol=1e-5), key


def test_both_runs_of_the_comparison_are_the_page_s(open_page):
    for change in ({}, {"compare_prompt": QUOTES["prompt"]}, {"compare_sampler": "heun"}, {"of_class": "3"}):
        at = drawn(open_page("compare", **(QUICK["compare"] | change)))
        variables, shown = executed(at), at.session_state.sd_compared
        pictures_shown = shown.trace.pictures
        assert np.abs(pixels(variables["pictures"])[..., :3].astype(int) - pictures_shown[..., :3]).max() <= 1
        ours = frames(films(at)[0])[-1][0]  # enlarged to the size of the other's thumbnails
        x_0 = Image.fromarray(pixels(variables["x_0"])[0]).resize(ours.shape[1::-1], Image.Resampling.NEAREST)
        np.testing.assert_allclose(ours, np.asarray(x_0), atol=1)
