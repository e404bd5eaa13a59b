"""The page The plane: every control, its address, its programs, its training, and the page in a browser."""

import base64
import json
import re
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
import torch
from conftest import address, eventually, finished
from explorer import plane_gan, plane_quality, plane_training
from explorer.jobs import StoppedError
from explorer.plane import DRAWN, Drawing, Movement, Strokes, strokes_of
from explorer.plane_training import INDEPENDENT, RECTIFIED, TRANSPORT, Lesson, Training
from in_browser import POLL, accessible

from diffusion_explained.data.toys import TOYS
from diffusion_explained.plots.point_films import REACH
from diffusion_explained.samplers import SAMPLERS
from diffusion_explained.schedules import SCHEDULES

DRAWING = "iiqqkkuumpqq-a0a0b0b0"  # two strokes, of three points and of two
QUICK = {"steps": "3"}
LEARNS = {"lesson": "40", "trained": "true"}


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch):
    """Lessons of small batches and few examples, in the page and in its program."""
    monkeypatch.setattr(plane_training, "BATCH", 32)
    monkeypatch.setattr(plane_training, "PAIRS", 256)
    monkeypatch.setattr(plane_training, "LESSON_STEPS", (40, 2000))
    monkeypatch.setattr(plane_gan, "GAN_STEPS", (20, 1000))
    monkeypatch.setattr(plane_training, "EXAMPLES", 512)


def film(at):
    messages = [json.loads(element.proto.json) for element in at.get("bidi_component")]
    return next(message["film"] for message in messages if "pen" in message)


def points(panel, frames):
    return np.frombuffer(base64.b64decode(panel["points"]), "<i2").reshape(frames, -1, 2) / 32767 * REACH


def ends(at):
    """The points at the end of every panel."""
    message = film(at)
    return [points(panel, len(message["captions"]))[-1] for panel in message["panels"]]


def executed(at):
    variables: dict = {}
    exec(compile(at.code[0].value, "the same in Python", "exec"), variables)
    return variables


VIEWS = [  # each view with controls off their defaults, and the variables whose last points are those of its panels
    ({"toy": "spiral", "sampler": "heun", "schedule": "cosine", "seed": "4"}, ["x_0"]),
    ({"view": "paths", "toy": "ring", "seed": "2"}, ["x_t", "x_0"]),
    ({"view": "random", "random": "euler_ancestral", "schedule": "edm"}, ["x_0", "x_0_smooth"]),
    ({"view": "guidance", "toy": "eight_gaussians", "class": "3", "w": "2.5", "sampler": "ddpm"}, ["x_t", "x_0"]),
    ({"view": "learned", **LEARNS, "net_seed": "1", "sampler": "euler_ancestral"}, ["x_0_exact", "x_0"]),
    ({"view": "paths", "pairs": "transport", **LEARNS}, ["x_t", "x_0"]),
    ({"view": "paths", "pairs": "rectified", **LEARNS, "toy": DRAWN, "strokes": DRAWING}, ["x_t", "x_0"]),
]


@pytest.mark.parametrize("given, names", VIEWS, ids=lambda one: "-".join(one) if isinstance(one, list) else None)
def test_an_address_gives_a_view_and_its_program_the_same_points(open_page, given, names):
    at = finished(open_page("plane", **QUICK, **given))
    assert not at.error and not at.exception and not at.info, at.info
    assert {key: values[0] for key, values in address(at).items()} == QUICK | given
    variables = executed(at)
    for shown, name in zip(ends(at), names, strict=True):
        value = variables[name][-1] if variables[name].ndim == 3 else variables[name]
        np.testing.assert_allclose(shown[: len(value)], value, atol=2e-4, err_msg=name)


def test_every_control_of_the_first_view_moves_the_points_or_the_data(open_page):
    at = open_page("plane", **QUICK)
    before = film(at)["key"]
    for kind, key, value in (
        ("selectbox", "toy", "checkerboard"),
        ("selectbox", "schedule", "sigmoid"),
        ("selectbox", "sampler", "dpm_solver_pp_2m"),
        ("select_slider", "steps", 4),
        ("number_input", "seed", 9),
    ):
        at = getattr(at, kind)(key=key).set_value(value).run()
        assert not at.exception and film(at)["key"] != before, key
        before = film(at)["key"]
    again = open_page("plane", **{key: values[0] for key, values in address(at).items()})
    assert film(again)["key"] == before


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_schedule_and_sampler_ends_on_the_data(schedule, sampler):
    from explorer.plane import steps_of

    movement = Movement(Drawing("two_gaussians"), schedule, sampler, 24, points=200)
    x_0 = steps_of(movement, movement.exact(200))[-1].x_next
    means, std = Drawing("two_gaussians").modes
    near = torch.cdist(x_0, means).amin(1) < 4 * std
    assert near.float().mean() > 0.95 and 0.3 < (x_0[:, 0] > 0).float().mean() < 0.7


def test_all_toys_are_offered_and_impossible_values_are_named(open_page):
    at = open_page("plane", steps="3", toy="banana", view="x", sampler="foo", seed="-1", at="2000", layers="colours")
    note = at.info[0].value
    assert all(text in note for text in ("toy=banana", "view=x", "sampler=foo", "seed=-1")) and not at.exception
    assert len(at.selectbox(key="toy").options) == len(TOYS) + 1
    for text in ("", "zz", "iiqq!", "iiqq", "IIQQkkuu", "iiqq-iiqq"):
        page = open_page("plane", steps="3", toy=DRAWN, strokes=text)
        assert not page.exception and film(page) is None, "the board waits for a drawing"
        assert bool(page.info) == bool(text)


def test_strokes_are_read_as_the_board_writes_them():
    (first, second) = strokes_of(DRAWING)
    assert (len(first), len(second)) == (3, 2)
    assert Strokes().has(DRAWING) and not Strokes().has("iiqq") and not Strokes().has(5)
    assert strokes_of("00000000")[0] == [(-4.0, -4.0), (-4.0, -4.0)] and strokes_of("zzzz")[0][0] == (4.0, 4.0)
    assert all(abs(value) <= 4 for stroke in (first, second) for point in stroke for value in point)


@pytest.mark.parametrize("pairs", [INDEPENDENT, TRANSPORT, RECTIFIED])
def test_a_paused_training_goes_on_to_the_same_weights(pairs):
    lesson, said = Lesson(Drawing("moons"), 100, 3, pairs), []

    def impatient(part, doing=""):
        if part is not None:  # not while it waits for another test's job
            said.append(doing)
        if len(said) == 3:
            raise StoppedError

    training = Training(lesson, Movement(lesson.data, steps=2))
    with pytest.raises(StoppedError):
        training.work(impatient)
    assert 0 < training.step < 100
    paused = training.work(lambda *_: None)
    plane_training.named_cache("plane networks", 64).clear()
    whole = Training(lesson, Movement(lesson.data, steps=2)).work(lambda *_: None)
    for one, other in zip(paused.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_visitor_trains_pauses_and_trains_another(open_page):
    at = open_page("plane", view="learned", lesson="40", **QUICK)
    assert [panel["title"] for panel in film(at)["panels"]] == ["exact denoiser", "untrained network"]
    at = finished(at.button(key="train").click().run())
    assert film(at)["panels"][1]["title"] == "network after 40 steps"
    first = film(at)["key"]
    at = finished(at.button(key="other_seed").click().run())
    assert at.number_input(key="net_seed").value == 1 and film(at)["key"] != first
    assert address(at)["trained"] == ["true"] and address(at)["net_seed"] == ["1"]


def test_a_gan_learns_beside_the_diffusion_model(open_page):
    given = {"view": "gan", "toy": "eight_gaussians", "gan_steps": "20", "gan_seed": "3"}
    at = open_page("plane", **given)
    assert len(film(at)["panels"]) == 1 and "Train both" in at.caption[0].value and not at.get("progress")
    at = finished(at.button(key="train").click().run())
    message = film(at)
    assert [panel["title"] for panel in message["panels"]] == ["GAN", "diffusion"] and len(message["captions"]) == 20
    assert re.fullmatch(r"step 20: GAN \d of 8 clusters, diffusion \d of 8 clusters", message["captions"][-1])
    assert {key: values[0] for key, values in address(at).items()} == given | {"trained": "true"}
    variables = executed(at)
    for shown, name in zip(ends(at), ("x_gan", "x_diffusion"), strict=True):
        np.testing.assert_allclose(shown, variables[name].clamp(-REACH, REACH), atol=2e-4)


def test_quality_is_measured_against_steps(open_page, monkeypatch):
    monkeypatch.setattr(plane_quality, "COUNTS", (1, 3))
    monkeypatch.setattr(plane_quality, "SAMPLES", 100)
    at = open_page("plane", quality="true", toy="two_gaussians", **QUICK)
    assert not at.exception and address(at)["quality"] == ["true"]
    assert any("2 draws of noise for each dot" in caption.value for caption in at.caption)
    kept = plane_quality.named_cache("plane quality", 500)
    heun = Movement(Drawing("two_gaussians"), sampler="heun", steps=3, points=100)
    assert len(kept) == 2 * len(SAMPLERS) and kept.get(heun, None)[0] == 5, "the last of three steps is Euler's"


def test_the_tries_set_the_state_and_the_question_is_answered(open_page):
    at = open_page("plane", steps="3")
    at = at.button(key="answer_0").click().run()
    assert "No." in at.info[0].value
    at = at.button(key="try_2").click().run()
    assert address(at) == {"view": ["paths"], "toy": ["eight_gaussians"], "steps": ["3"]}
    stage = next(m for m in (json.loads(e.proto.json) for e in at.get("bidi_component")) if "pen" in m)
    assert (stage["at"]["value"], stage["layers"]["value"], stage["autoplay"]) == (500, "paths", False)


@pytest.mark.browser
def test_the_page_in_a_browser(tab):
    page = tab("plane?steps=8")
    plane = page.locator(".plane").first
    canvas, slider = plane.locator("figure canvas").first, plane.get_by_role("slider")

    def picture():
        return canvas.evaluate("canvas => canvas.toDataURL()")

    assert plane.get_attribute("data-at") == "1000" and "2,000 points" in canvas.get_attribute("aria-label")
    end, sent, words = picture(), len(page.sent), canvas.get_attribute("aria-label")
    accessible(page)
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    page.wait_for_url(re.compile(r"at=\d+"))
    eventually(lambda: picture() != end and canvas.get_attribute("aria-label") != words)
    plane.get_by_role("button", name="Arrows").click()
    page.wait_for_url(re.compile("layers=density.paths.arrows"))
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert plane.get_attribute("data-at") == "125", "a step of the sampler"
    plane.get_by_role("button", name="Play from noise to data").click()
    page.wait_for_function("() => !location.search.includes('at=')", timeout=30_000, polling=POLL)
    assert len(page.sent) == sent, "not one message to the server"
    shared = tab(page.url.split("/")[-1])
    there = shared.locator(".plane").first.locator("figure canvas").first
    # an address opens to the same pixels, once its canvas is drawn
    eventually(lambda: there.evaluate("canvas => canvas.toDataURL()") == picture())

    page = tab(f"plane?toy={DRAWN}&steps=4", width=390, height=844, scheme="dark")
    board = page.locator(".plane canvas.paper")
    box = board.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 280, box["y"] + 260, steps=10)
    page.mouse.up()
    page.get_by_role("button", name="Flow into it").click()
    page.locator(".plane figcaption").get_by_text("exact denoiser").wait_for()
    page.wait_for_url(re.compile("strokes="))
    accessible(page)
    assert page.get_by_test_id("stMain").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert len(parse_qs(urlparse(page.url).query)["strokes"][0]) >= 8

    page = tab("plane?view=learned&steps=4&lesson=500")
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator(".plane figcaption").get_by_text("network after 500 steps").wait_for()
    page.wait_for_url(re.compile("trained=true"))
    page.get_by_role("button", name="Train with another seed").wait_for()
