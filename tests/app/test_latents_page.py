"""Latents: encoded, changed and mixed as the library does it, the table of costs, and bad input."""

import json
import re

import numpy as np
import pytest
import torch
from explorer import emoji, latent_views, stable
from explorer.cells import touched
from test_pages import bomb, film, frames, png
from test_stable_diffusion_page import said

from diffusion_explained.micro.reconstruction import psnr


@pytest.fixture(scope="module")
def model():
    return stable.load(stable.models(), stable.embedded(), lambda part, doing: None).model


def galleries(at):
    """The bodies of the page's galleries, in its order."""
    return [element.proto.body for element in at.get("html") if 'class="gallery' in element.proto.body]


def cells_of(at):
    """What the component of the latent's cells is given."""
    messages = map(lambda one: json.loads(one.proto.json), at.get("bidi_component"))
    return next(message for message in messages if "whole" in message)


def test_a_picture_its_channels_and_what_comes_back(open_page, model):
    at = open_page("latents", emoji="rocket", emoji_style="noto")
    x_0 = emoji.emoji("rocket", "noto")
    z = model.encode(x_0)
    assert not at.error
    (pictures,) = galleries(at)
    assert f"decoded: {float(psnr(model.decode(z), x_0)):.1f} dB" in pictures
    shown = cells_of(at)
    assert [name.split(" to ")[0] for name in shown["names"]] == [
        f"channel {k}: {z[0, k - 1].min():+.1f}" for k in (1, 2, 3, 4)
    ]
    np.testing.assert_allclose(np.array(shown["channels"]).reshape(z.shape[1:]), z[0], atol=5e-4)
    assert (shown["channel"], shown["x"], shown["y"], shown["amount"], shown["whole"]) == (0, 8, 8, 4.0, False)
    assert "128 × 128 × 3 = 49,152 numbers became 16 × 16 × 4 = 1,024: 48 times fewer" in said(at.caption)
    for gallery in galleries(at):
        assert all(alt for alt in re.findall('alt="([^"]*)"', gallery)), "every picture has its words"


@pytest.mark.parametrize(
    "sent", [None, 3, "", "1.2", "4.0.0", "0.16.0", "0.0.16", "0.0.-1", "0.0.0.0", "٣.0.0", "1e1.0.0"]
)
def test_only_a_cell_of_the_latent_is_touched(sent):
    assert touched(sent, 4, 16, 16) is None


def test_a_touch_is_a_channel_a_row_and_a_column():
    assert touched("3.15.0", 4, 16, 16) == (3, 0, 15)


def test_a_poke_adds_to_one_place_or_to_a_channel():
    z = torch.zeros(1, 4, 16, 16)
    one = latent_views.poked(z, 2, 3.0, (9, 5))
    assert one[0, 2, 9, 5] == 3 and one.sum() == 3 and z.sum() == 0
    assert latent_views.poked(z, 1, -1.0, None)[0, 1].sum() == -256


def test_poking_changes_what_is_decoded(open_page):
    at = open_page("latents")
    before = galleries(at)[0]
    at.slider(key="poke_amount").set_value(0.0).run()
    assert "0.0% of the pixels" in said(at.caption)
    at.slider(key="poke_amount").set_value(6.0).run()
    at.slider(key="poke_x").set_value(2).run()
    assert "at x = 2" in said(at.caption) and galleries(at)[0] != before
    part = float(re.search(r"([\d.]+)% of the pixels", said(at.caption))[1])
    at.segmented_control(key="poke_where").set_value("a whole channel").run()
    at.segmented_control(key="poke_channel").set_value(3).run()
    assert "+6 in channel 3 everywhere" in said(at.caption) and not at.exception
    assert cells_of(at)["whole"] and cells_of(at)["channel"] == 2 and cells_of(at)["amount"] == 6
    assert float(re.search(r"([\d.]+)% of the pixels", said(at.caption))[1]) >= part > 0


def test_mixing_begins_in_one_picture_and_ends_in_the_other(open_page, model):
    at = open_page("latents", emoji="red heart", other="rocket", other_style="noto")
    message = film(at)
    assert len(message["captions"]) == latent_views.MIXES and message["captions"][6].startswith("50% of the first")
    goal = emoji.emoji("rocket", "noto")
    for panel, expected in ((0, goal), (1, model.decode(model.encode(goal)))):
        shown = frames(message)[-1][panel][..., :3].astype(int)
        np.testing.assert_allclose(shown, ((expected[0] + 1) * 127.5).round().movedim(0, -1), atol=1)


def test_the_bill_is_counted_from_the_configurations(open_page, model):
    table = said(open_page("latents").markdown)
    assert "786,432 values" in table and "16,384 values" in table and table.count("**48**") == 2
    assert "860 M parameters" in table and "83.7 M parameters" in table and "803 GFLOP" in table
    assert f"{model.parameters()['vae'] / 1e6:,.3g} M parameters" in table


def test_an_own_picture_is_encoded(open_page):
    at = open_page("latents")
    before = galleries(at)[0]
    at.file_uploader(key="latents_upload").upload("a.png", png((60, 40), color=(9, 200, 90)), "image/png").run()
    assert not at.error and galleries(at)[0] != before and "The picture: your own" in galleries(at)[0]
    assert "another shape" in said(at.caption)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"this is a text", "not a picture"),
        (b"", "empty"),
        (bomb(), "pixels"),
        (b"x" * 2**25, "MB"),
    ],
    ids=["text", "empty", "bomb", "32 MB"],
)
def test_a_bad_upload_gets_its_words_and_the_emoji_is_shown(open_page, data, words):
    at = open_page("latents")
    at.file_uploader(key="latents_upload").upload("a.png", data, "image/png").run()
    assert words in at.error[0].value and "is shown instead" in at.error[0].value and len(galleries(at)) == 1


def test_the_same_in_python_runs(open_page, capsys):
    scope: dict = {}
    exec(open_page("latents").code[0].value, scope)
    assert scope["poked"].shape == (1, 3, 128, 128) and "tensor" in capsys.readouterr().out
