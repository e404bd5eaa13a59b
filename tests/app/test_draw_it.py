"""Draw it, on the start page: what is drawn is finished by image to image, and is that of the program."""

import json

import pytest
import torch
from conftest import address
from explorer import draw_it
from explorer.board import PAINTS
from test_programs import in_a_folder  # noqa: F401

from diffusion_explained.film import pixels, png


@pytest.fixture
def drawn(monkeypatch):
    """A visitor's drawing, RGBA [4, H, W]: a bar, aligned to the image's pixels. Returns what the board was given."""
    boards = []

    def board(image, *, key, paints):
        boards.append((image.shape, key, paints))
        painted = torch.zeros(4, *image.shape[-2:])
        painted[:, 40:240, 120:160] = 1
        return painted

    monkeypatch.setattr(draw_it, "board", board)
    return boards


def films(at):
    messages = [json.loads(one.proto.json) for one in at.get("bidi_component")]
    return [message for message in messages if message.get("film")]


@pytest.mark.parametrize(("name", "label"), [("any", None), ("1", 1)])
def test_a_drawing_is_finished_as_the_program_does(open_page, drawn, in_a_folder, name, label):  # noqa: F811
    at = open_page("start", blob_strength="0.5", **({} if label is None else {"blob_class": name}))
    assert drawn[-1] == ((1, 3, 280, 280), "blob_mnist", draw_it.INK) and not at.info
    film = films(at)[1]
    assert film["name"] == "drawn" and len(film["film"]["captions"]) == 11
    assert "It leaves out what you drew" in " ".join(one.value for one in at.caption)
    x_0 = torch.full((1, 1, 28, 28), -1.0)
    x_0[:, :, 4:24, 12:16] = 1
    with open("drawing.png", "wb") as file:
        file.write(png(pixels(x_0)[0]))
    variables: dict = {}
    exec(at.code[0].value, variables)
    made, images = draw_it.finished(draw_it.Choice("mnist", "mnist_unet_flow", False), x_0, label, 0.5, lambda *_: None)
    assert torch.allclose(variables["x_0"].clamp(-1, 1), images, atol=1e-5)
    assert made.key == film["film"]["key"] and images.shape == (5, 1, 28, 28)
    assert (images[:, :, 4:24, 12:16].mean() > 0) and images.std(0).mean() > 0.01, "the bar stays; the seeds differ"


def test_nothing_drawn_asks_for_a_drawing_and_impossible_values_are_named(open_page, monkeypatch):
    monkeypatch.setattr(draw_it, "board", lambda *args, **options: None)
    at = open_page("start", blob_strength="2", blob_class="ten", drawn="-1")
    note = at.info[0].value
    assert "`blob_strength=2`" in note and "`blob_class=ten`" in note
    assert any("Nothing is drawn yet" in one.value for one in at.caption)
    assert len(films(at)) == 1 and "blob_class" not in address(at)


def test_pictures_are_drawn_in_colours(open_page, drawn):
    at = open_page("start", model="cifar10_unet_flow")
    assert drawn[-1] == ((1, 3, 320, 320), "blob_cifar10", PAINTS) and len(films(at)) == 2
