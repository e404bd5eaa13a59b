"""CIFAR-10 beside MNIST on every page: its networks, its classes, its defaults, and a machine that does not have it."""

import threading
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import address
from explorer import choices, page, pictures, runs, turns
from test_pages import film, frames, png

from diffusion_explained import load_pretrained, pretrained
from diffusion_explained.data import DataUnavailableError, ImageDataset, hub, made, made_by_model
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.film import film as film_of
from diffusion_explained.metrics import class_accuracy
from diffusion_explained.pretrained import available, load_classifier

NAMES = DATASETS["cifar10"].class_names
FLOW, DDPM, DIT, RECTIFIED = "cifar10_unet_flow", "cifar10_unet_eps", "cifar10_dit_flow", "cifar10_unet_reflow"
FINE = "cifar10_unet_flow_fine"


@pytest.fixture(autouse=True)
def a_machine_without_it(tmp_path, monkeypatch):
    """No CIFAR-10 in any cache and no network; shorter references and sweeps, for the tests' time."""
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    for pace in ("pictures", "slow"):
        monkeypatch.setitem(runs.REFERENCE_STEPS, pace, 4)
        monkeypatch.setitem(runs.SCALES, pace, (1.0, 3.0))
    pictures.look_again()
    yield
    pictures.look_again()


@pytest.fixture
def on_the_hub(monkeypatch):
    """A stand-in for the real data set, that only a download brings; set the event to let the download end."""
    images = torch.randint(256, (80, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    real = ImageDataset("cifar10", "train", images, torch.arange(80) % 10, NAMES, "the hub")
    arrived = threading.Event()

    def load(name, split, *, download=True):
        if download:
            arrived.set()
        if not arrived.is_set():
            raise DataUnavailableError("it is not here")
        return real

    monkeypatch.setattr(pictures, "load_dataset", load)
    return arrived


def switch(at, data):
    return at.segmented_control(key="data").set_value(data).run()


def test_the_start_page_draws_one_picture_of_each_class(open_page):
    at = open_page("start", data="cifar10")
    assert not at.error and not at.info and not at.get("progress")
    assert at.segmented_control(key="data").value == "cifar10"
    assert len(film(at)["captions"]) == 9 and ", ".join(NAMES) in at.caption[0].value


def test_every_network_is_offered_in_words_and_samples_at_the_scale_that_is_its_own(open_page):
    assert set(choices.NETWORKS) == set(available())
    for data in choices.DATA:
        at = open_page("reverse", data=data, steps="1")
        names = choices.networks_of(data)
        assert at.selectbox(key="model").options == [choices.NETWORKS[name] for name in names]
        for name in names:
            at.selectbox(key="model").set_value(name).run()
            assert not at.error and not at.exception and not at.info, name
            assert len(film(at)["captions"]) == 2
            guidance = load_pretrained(name).default_guidance_scale
            assert (at.slider(key="no_guidance") if guidance == 1 else at.slider(key="w")).value == guidance
            assert any(choices.PATIENCE == caption.value for caption in at.caption) == (name in (FINE, DIT))


def test_the_reverse_page_shows_what_the_library_samples_in_colour(open_page):
    at = open_page("reverse", model=FLOW, steps="3", w="3.0", seed="5", **{"class": "horse"})
    denoise = load_pretrained(FLOW).denoiser([7] * 8, 3.0, clip=1.0)
    steps = list(load_pretrained(FLOW).steps(denoise, 8, 3, sampler="euler", seed=5))
    shown = frames(film(at))
    for k, step in enumerate(steps):
        first = ((step.x_t[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0)
        np.testing.assert_allclose(shown[k][0][:32, :32, :3], first, atol=1)
    assert "labels = [7, 7, 7, 7, 7, 7, 7, 7]" in at.code[0].value and f"load_pretrained({FLOW!r})" in at.code[0].value


def test_changing_the_data_set_takes_its_defaults_and_names_it_in_the_address(open_page):
    at = open_page("reverse", w="4.5", steps="3", **{"class": "3"})
    assert at.selectbox(key="class").options == ["one of each", *"0123456789"]
    switch(at, "cifar10")
    assert (at.select_slider(key="steps").value, at.slider(key="w").value) == (8, 2.0)
    assert at.selectbox(key="class").options == ["one of each", *NAMES]
    assert address(at)["model"] == [FLOW] and not at.info
    at.select_slider(key="steps").set_value(1)
    at.selectbox(key="model").set_value(DDPM).run()
    assert address(at)["model"] == [DDPM]
    switch(at, "mnist")
    assert (at.select_slider(key="steps").value, at.slider(key="w").value) == (10, 2.0)
    assert "model" not in address(at) and not at.exception


def test_the_choice_goes_along_to_the_other_pages(open_page):
    at = open_page("reverse", model=DDPM, steps="1")
    at.switch_page("pages_/schedules.py").run()
    assert address(at)["data"] == ["cifar10"] and at.segmented_control(key="data").value == "cifar10"
    at.switch_page("pages_/reverse.py")
    at.query_params["steps"] = "1"
    at.run()
    assert at.selectbox(key="model").value == DDPM and address(at)["model"] == [DDPM]


def test_pictures_are_asked_no_more_than_two_cores_can_give(open_page, monkeypatch):
    asked = []
    kept = runs.Run(film_of([("xₜ", "an image", [np.zeros((4, 4, 4), np.uint8)])], ["one"]), torch.zeros(1), 1)
    monkeypatch.setattr(runs, "run", lambda settings, tell, **options: asked.append(settings) or kept)
    assert open_page("reverse", steps="250").select_slider(key="steps").value == 250
    at = open_page("reverse", model=FLOW, steps="250")
    assert at.select_slider(key="steps").value == 8
    assert "steps=250" in at.info[0].value
    open_page("reverse", model=DIT)
    assert [one.num_inference_steps for one in asked if one.model in (FLOW, DIT)] == [8, 6]


@pytest.mark.parametrize(
    "name, garbage",
    [
        ("reverse", {"model": "cifar10_unet", "steps": "1"}),
        ("reverse", {"model": FLOW, "class": "3", "steps": "1"}),
        ("forward", {"model": FLOW, "picture": "unicorn"}),
        ("forward", {"model": FLOW, "number": "40"}),
        ("guidance", {"model": FLOW, "per_class": "16", "sweep_steps": "4"}),
        ("start", {"data": "cifar100"}),
        ("start", {"data": "../cifar10"}),
    ],
)
def test_what_the_address_cannot_have_is_said(open_page, name, garbage):
    assert any("not possible here" in info.value for info in open_page(name, **garbage).info)


def test_a_rectified_network_is_sampled_without_guidance_and_the_page_says_why(open_page):
    at = open_page("reverse", model=RECTIFIED, steps="2", w="4.0", negative="cat", rescale="0.5")
    slider = at.slider(key="no_guidance")
    assert slider.disabled and slider.value == 1
    assert at.selectbox(key="negative").disabled and at.slider(key="rescale").disabled
    assert at.toggle(key="middle").disabled
    assert any(choices.NO_GUIDANCE == caption.value for caption in at.caption)
    assert "w=4.0" in at.info[0].value and "w" not in address(at)
    assert "{'guidance" not in at.code[0].value and "guidance_scale=1.0" in at.code[0].value
    assert film(at)["titles"] == ["xₜ", "predicted x₀", "predicted ε", "ε conditional"]
    once = open_page("reverse", model=RECTIFIED, steps="1")
    words = " ".join(caption.value for caption in once.caption)
    assert "images · 1 network evaluation" in words and "1 network evaluations" not in words and "blank" not in words
    assert choices.NO_GUIDANCE in open_page("guidance", model=RECTIFIED).info[0].value
    race = open_page("samplers", model=RECTIFIED, most="4", samplers="euler")
    assert race.slider(key="no_guidance").disabled and not race.error
    words = " ".join(caption.value for caption in race.caption)
    assert "2 pictures at once" in words and "Heun's with 4 steps" in words


def test_without_the_data_set_the_page_shows_what_a_model_made_and_says_so(open_page):
    at = open_page("forward", model=FLOW)
    assert "not real: our own network made it" in at.info[0].value and not at.error
    horse = made_by_model("cifar10").of_class(7).images[16].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(frames(film(at))[0][0][..., :3], horse)
    assert film(at)["charts"][0]["x_label"] == "value of red, green or blue"
    assert "our own network made it" in open_page("schedules", data="cifar10").info[0].value
    assert not open_page("forward").info


def test_an_upload_keeps_its_colours_and_a_bad_one_is_answered(open_page):
    at = open_page("forward", model=FLOW)
    at.file_uploader(key="upload").upload("picture.png", b"this is a text", "image/png").run()
    assert "not a picture" in at.error[0].value and "The horse above is shown instead" in at.error[0].value
    at.file_uploader(key="upload").upload("orange.png", png(color=(250, 120, 10)), "image/png").run()
    assert not at.error and not at.info, "one's own picture is no picture that a network made"
    assert (frames(film(at))[0][0][16, 16, :3] == (250, 120, 10)).all()


def test_a_download_without_a_network_says_what_to_do(open_page):
    at = open_page("forward", model=FLOW)
    assert at.button(key="download").label == "Download CIFAR-10 (120 MB)"
    at.button(key="download").click().run()
    assert not at.exception and "hf download uoft-cs/cifar10" in at.error[0].value
    assert "made it" in at.info[0].value and len(film(at)["captions"]) == 51


def test_the_real_pictures_come_when_they_are_asked_for_and_not_before(open_page, on_the_hub):
    at = open_page("forward", model=FLOW, number="2")
    assert "made it" in at.info[0].value and not on_the_hub.is_set()
    at.button(key="download").click().run()
    assert on_the_hub.is_set() and not at.info and not at.error
    assert any("The picture is real" in caption.value for caption in at.caption)
    real = pictures.load_dataset("cifar10", "train").of_class(7).images[2].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(frames(film(at))[0][0][..., :3], real)


def test_a_download_tells_how_far_it_is(tmp_path):
    blobs = tmp_path / "hub/datasets--uoft-cs--cifar10/blobs"
    assert pictures.incomplete_bytes() == 0
    blobs.mkdir(parents=True)
    (blobs / "abc.incomplete").write_bytes(bytes(1000))
    (blobs / "def").write_bytes(bytes(50))
    assert pictures.incomplete_bytes() == 1000


def test_what_is_missing_is_said_and_the_other_pages_live_on(open_page, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    monkeypatch.setattr(pretrained, "cifar10_folder", lambda: None)
    monkeypatch.setitem(made.MADE_FILES, "cifar10", tmp_path / "cifar10_made.npz")
    runs._loaded.clear()
    for name in ("start", "reverse", "guidance", "samplers"):
        assert page.literal(f"The network {DIT} cannot be read") in open_page(name, model=DIT).error[0].value
    for name in ("forward", "schedules"):
        assert "Install the package again" in open_page(name, data="cifar10").error[0].value
    assert not open_page("schedules").error


def test_long_work_says_how_long_it_still_takes(monkeypatch):
    place, now = MagicMock(), [0.0]
    monkeypatch.setattr(page, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(page, "Stopwatch", lambda: turns.Stopwatch(lambda: now[0]))
    monkeypatch.setattr(page.st, "empty", lambda: place)
    with page.progress("Sampling") as tell:
        for now[0], part in ((0.1, 0.1), (1.0, 0.2), (3.0, 0.25), (3.0, None), (90.0, 0.25), (91.0, 0.5)):
            tell(part, "step" if part else "2 before you")
    said = [call.kwargs["text"] for call in place.progress.call_args_list]
    assert said == [
        "Sampling · step",
        "Sampling · step · about 9 s left",
        "Sampling · 2 before you",
        "Sampling · step · about 9 s left",  # the wait is no work
        "Sampling · step · about 4 s left",
    ]


def test_the_guidance_page_measures_pictures_with_their_own_classifier(open_page, monkeypatch, on_the_hub):
    drawn: list[tuple] = []
    film = runs.sweep_film
    monkeypatch.setattr(runs, "sweep_film", lambda *given: (drawn.append(given), film(*given))[1])
    open_page("guidance", model=FLOW, sweep_steps="4")
    _, results, real = drawn[-1]
    assert real is None, "pictures that a model made are no reference"
    labels = torch.arange(10).repeat(2)
    x_0 = load_pretrained(FLOW).sample(labels, num_inference_steps=4, guidance_scale=3.0)
    (at_3,) = (one for one in results if one.guidance_scale == 3.0)
    assert at_3.accuracy == class_accuracy(x_0, labels, load_classifier("cifar10_classifier"))
    on_the_hub.set()
    pictures.look_again()
    open_page("guidance", model=FLOW, sweep_steps="4")
    assert drawn[-1][2] > 0
