"""Text to image: what is drawn is the library's, every control works, and bad input gets its words."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
from conftest import address, pictures_of
from explorer import drawings, emoji, stable, stable_sections, start_pictures, variations, vocabulary
from explorer.board import PREFIX, over, read
from explorer.cache import quiet
from PIL import Image
from test_pages import bomb, films, frames, png
from test_stable_diffusion_page import said

QUICK = {"t2i_steps": "2", "t2i_count": "2"}


def opened(open_page, **settings):
    return open_page("text_to_image", **(QUICK | settings))


def button(at, label):
    return at.button[[button.label for button in at.button].index(label)]


def alive(at):
    """The page goes on: good settings are drawn."""
    at.number_input(key="t2i_seed").set_value(at.number_input(key="t2i_seed").value + 1).run()
    assert not at.error and not at.exception and films(at)


@pytest.fixture(scope="module")
def model():
    return stable.load(stable.models(), stable.embedded(), lambda part, doing: None).model


# -- what is drawn ------------------------------------------------------------------------------------------


def test_four_seeds_are_drawn_at_once_with_their_steps_and_words(open_page):
    at = open_page("text_to_image", t2i_steps="2")
    assert not at.error and not at.warning
    pictures = [alt for alt, _ in pictures_of(at)]
    assert len(pictures) == 4 and all(f"seed {k}" in alt for k, alt in enumerate(pictures))
    assert [b.label for b in at.button if b.label.startswith("Pick")] == ["Picked"] + ["Pick this one"] * 3
    (whole,) = films(at)
    (run,) = whole["runs"]
    assert len(whole["captions"]) == len(run["fields"]["captions"]) == len(run["weights"]) == len(run["shares"]) == 3
    assert list(run["words"]) == at.text_input(key="t2i_prompt").value.split() and run["scale"] == 2.0
    assert [chip["word"] for chip in run["tokens"][0]["chips"][1:-2]] == list(run["words"])
    panels = ["latent", "with", "without", "difference", "guided", *(f"channel {k}" for k in (1, 2, 3, 4))]
    assert run["panels"] == [*panels, *(f"word {k}" for k in range(3))]


def test_it_shows_what_the_library_samples(open_page, model):
    at = opened(open_page, t2i_prompt="a cat", t2i_negative="dog", t2i_w="3.0", t2i_seed="7", t2i_sampler="euler")
    expected = model.sample(
        "a cat",
        negative="dog",
        guidance_scale=3.0,
        seed=7,
        num_inference_steps=2,
        sampler="euler",
        height=128,
        width=128,
    )
    shown = frames(films(at)[0])[-1][0][..., :3].astype(int)
    np.testing.assert_allclose(shown, ((expected[0] + 1) * 127.5).round().movedim(0, -1), atol=1)


@pytest.mark.parametrize(
    "change",
    [
        {"t2i_prompt": "a dog"},
        {"t2i_negative": "dog"},
        {"t2i_w": "1.0"},
        {"t2i_seed": "5"},
        {"t2i_sampler": "heun"},
        {"t2i_steps": "4"},
    ],
)
def test_every_setting_changes_the_outcome(open_page, change):
    assert films(opened(open_page))[0]["frames"][-1] != films(opened(open_page, **change))[0]["frames"][-1]


def test_an_example_fills_the_prompt_and_other_seeds_are_others(open_page):
    at = opened(open_page)
    before = films(at)[0]["key"]
    at.button(key="t2i_other").click().run()
    assert at.number_input(key="t2i_seed").value == 2 and films(at)[0]["key"] != before
    at.pills(key="t2i_example").set_value("a rocket").run()
    assert at.text_input(key="t2i_prompt").value == "a rocket" and at.pills(key="t2i_example").value is None
    assert films(at)[0]["runs"][0]["words"][-1] == "rocket"


def test_a_picked_seed_is_looked_into_and_refined(open_page):
    at = opened(open_page, t2i_steps="4")
    before = films(at)[0]["key"]
    button(at, "Pick this one").click().run()
    assert "seed 1" in films(at)[0]["runs"][0]["name"] and films(at)[0]["key"] != before
    button(at, "Refine seed 1").click().run()
    assert at.selectbox(key="start").value == "a picture" and at.selectbox(key="source").value == "the picked one"
    assert len(films(at)[0]["captions"]) == 3, "half of the four steps, and the end"
    assert "strength=0.5" in at.code[0].value
    at.selectbox(key="start").set_value("a picture with a hole").run()
    assert at.selectbox(key="source").value == "the picked one" and "the rest then stays" in said(at.caption)
    assert not at.error


def test_a_run_is_made_once_and_the_network_is_free_again(open_page, monkeypatch):
    made = []
    draw = stable.load

    def counted(*args):
        made.append(args)
        return draw(*args)

    monkeypatch.setattr(stable, "load", counted)
    opened(open_page, t2i_seed="31")
    first = len(made)
    opened(open_page, t2i_seed="31")
    assert first == 2 and len(made) == first, "one run and one look inside, for both visitors"
    assert not stable.loaded(stable.embedded()).turn.locked()


def test_the_same_in_python_is_the_same(open_page):
    at = opened(open_page)
    scope: dict = {}
    exec(at.code[0].value, scope)
    shown = frames(films(at)[0])[-1][0][..., :3].astype(int)
    np.testing.assert_allclose(shown, ((scope["pictures"][0] + 1) * 127.5).round().movedim(0, -1), atol=1)


def test_without_micro_the_stand_in_takes_its_place_and_says_so(open_page, monkeypatch):
    monkeypatch.setattr(stable, "missing", lambda name: "not here" if name == stable.MICRO else "")
    at = opened(open_page)
    assert "do not expect a picture" in said(at.markdown) and films(at)


# -- words --------------------------------------------------------------------------------------------------


def test_500_words_are_cut_and_what_was_cut_is_shown(open_page):
    at = opened(open_page, t2i_prompt="cat " * 499 + "castle")
    assert not at.error and "cat castle" in at.warning[0].value and "cut off" in at.warning[0].value
    assert len(films(at)[0]["runs"][0]["words"]) == 15


@pytest.mark.parametrize("prompt", ["", "   ", "Кот и 猫 🐱 <b>&amp;$x$"])
def test_empty_and_foreign_prompts_are_answered(open_page, prompt):
    at = opened(open_page)
    at.text_input(key="t2i_prompt").set_value(prompt).run()
    assert not at.error and not at.exception
    assert ("The prompt is empty" in said(at.info)) == (not prompt.strip())
    assert bool(films(at)[0]["runs"][0]["words"]) == bool(prompt.strip())
    if prompt.strip():
        assert "The model does not know **кот**" in said(at.info) and "little: 6 bytes" in said(at.info)


def test_what_a_word_is_read_as():
    tokens = {
        "words": [("cat", 1), ("zyx", 2)],
        "pieces": ["<|startoftext|>", "cat</w>", "zy", "x</w>", "<|endoftext|>"],
    }
    assert drawings.unknown_words([tokens]) == {"zyx": "zy + x"}


def test_for_an_unknown_word_known_ones_are_offered(open_page):
    at = opened(open_page, t2i_prompt="a red Buterfly")
    assert "The model does not know **buterfly**" in said(at.info)
    at.button(key="known buterfly butterfly").click().run()
    assert at.text_input(key="t2i_prompt").value == "a red butterfly"
    assert "does not know" not in said(at.info) and not at.exception
    assert "cat" in vocabulary.nearest("kitte") and vocabulary.nearest("zzzzqqq") == []


def test_a_picture_is_read_without_the_prompt(model):
    """A prompt that says nothing is no answer, however well it fits."""
    ask = stable.Ask("cat zzzz", "", 2.0, "euler", None, 2, (0,), 128, 128)
    drawing = drawings.draw(stable.embedded(), ask, stable.RunStart(), quiet)
    ((word, share),) = drawings.readings(drawing, quiet)
    assert word in vocabulary.names() and 0 <= share <= 1


# -- two runs on one timeline -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside, setting, program",
    [
        ("prompt", {"t2i_other_prompt": "a purple apple"}, "'a purple apple'"),
        ("seed", {"t2i_other_seed": "5"}, "seed=[5]"),
    ],
)
def test_two_runs_stand_on_one_timeline(open_page, beside, setting, program):
    at = opened(open_page, t2i_chosen="1", t2i_beside=beside, **setting)
    (whole,) = films(at)
    (a, b), apart = whole["runs"], whole["apart"]
    assert program in at.code[0].value and len(apart) == len(whole["captions"]) == 3
    assert (apart[0] == 0) == (beside != "seed") and apart[-1] > 0, "the noise is the same but for another seed"
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert scope["apart"] == pytest.approx(apart)
    shown = frames(b["pictures"])[-1][0][..., :3].astype(int)
    np.testing.assert_allclose(shown, ((scope["other_pictures"][0] + 1) * 127.5).round().movedim(0, -1), atol=1)
    assert "seed 1" in a["name"] and a["name"] != b["name"]


def test_a_walk_is_a_film_whose_program_makes_it(open_page):
    at = opened(open_page, t2i_chosen="1", t2i_view="walk")
    whole, film = films(at)
    assert len(film["captions"]) == 9 and film["captions"][0].startswith("0° around")
    assert len(film["charts"][0]["curves"][0]["x"]) == 9, "a circle closes"
    scope: dict = {}
    exec(at.code[0].value, scope)
    shown = np.stack([one[0][..., :3] for one in frames(film)]).astype(int)
    np.testing.assert_allclose(shown, ((scope["walked"] + 1) * 127.5).round().movedim(1, -1), atol=1)
    seed_1 = frames(whole)[-1][0][..., :3].astype(int)
    np.testing.assert_allclose(shown[0], seed_1, atol=2, err_msg="it begins at the picked seed's picture")


def test_each_picture_of_a_walk_says_what_it_is():
    ask = stable.Ask("a cat", "", 2.0, "euler", None, 2, (4,), 128, 128)
    between = variations.Walk("prompts", "a dog", None, 3).captions(ask)
    assert between == ["100% “a cat”, 0% “a dog”", "50% “a cat”, 50% “a dog”", "0% “a cat”, 100% “a dog”"]
    assert variations.Walk("seeds", None, 9, 2).captions(ask)[1] == "0% seed 4, 100% seed 9"
    assert "resamplings" not in variations.options_of(dataclasses.replace(ask, resamplings=2)), "it has no hole"
    film = variations.film_of_walk(torch.zeros(3, 3, 8, 8), between, closed=False)
    assert len(film.charts[0].curves[0].x) == 2 and len(film.charts[0].markers) == 3
    closed = variations.film_of_walk(torch.rand(4, 3, 8, 8), list("abcd"), closed=True)
    assert len(closed.charts[0].curves[0].x) == 4 and closed.titles == ("picture", "where the next one differs")


def test_a_grid_has_a_row_per_scale_and_a_column_per_seed(open_page):
    at = opened(open_page, t2i_steps="1", t2i_view="grid")
    rows = [alt for one in at.get("html") for alt in re.findall(r'alt="(Pictures by guidance[^"]*)"', one.proto.body)]
    assert [row.split(": ")[1].split(",")[0] for row in rows] == ["w = 1", "w = 2", "w = 4", "w = 8"]
    assert all("2 pictures (seed 0, seed 1)" in row for row in rows)
    scope: dict = {}
    exec(at.code[0].value, scope)
    assert sorted(scope["grid"]) == [1.0, 2.0, 4.0, 8.0] and scope["grid"][2.0].shape == (2, 3, 128, 128)
    torch.testing.assert_close(scope["grid"][2.0], scope["pictures"], atol=1e-4, rtol=0)


def test_values_of_the_picture_of_the_whole_that_cannot_be_are_said(open_page):
    bad = {"open": "attic", "word": "99", "frame": "-1", "t2i_beside": "both", "t2i_other_w": "3"}
    at = opened(open_page, **bad)
    assert all(f"`{key}={value}`" in said(at.info) for key, value in bad.items()) and films(at)
    at = opened(open_page, t2i_beside="seed", t2i_other_seed="-4")
    assert "`t2i_other_seed=-4`" in said(at.info) and len(films(at)[0]["runs"]) == 2


def test_a_box_a_word_and_a_step_are_opened_by_the_address(open_page):
    at = opened(open_page, open="unet", word="2", frame="1")
    (message,) = (json.loads(one.proto.json) for one in at.get("bidi_component") if "apart" in one.proto.json)
    assert (message["open"]["value"], message["word"]["value"], message["frame"]) == ("unet", 2, 1)
    assert not message["autoplay"], "an address that gives the step is not played"


def test_the_words_it_knows_are_searched(open_page):
    at = opened(open_page)
    at.text_input(key="t2i_search").set_value(" KITTEN ").run()
    shown = next(element.proto.body for element in at.get("html") if 'class="words"' in element.proto.body)
    assert ">cat<" in shown and "rocket" not in shown, "synonyms count"
    at.text_input(key="t2i_search").set_value("<nothing of the kind>").run()
    assert "0 of" in said(at.caption) and not at.exception


# -- a picture to start from --------------------------------------------------------------------------------


def painted_by(monkeypatch, painted):
    monkeypatch.setattr(start_pictures, "board", lambda image, key, hole=False: painted)


def test_what_is_painted_is_started_from(open_page, monkeypatch):
    at = opened(open_page, t2i_steps="4")
    at.selectbox(key="start").set_value("a picture").run()
    at.selectbox(key="source").set_value("white paper").run()
    assert not at.error
    before = films(at)[0]["key"]
    painted = torch.zeros(4, 128, 128)
    painted[[0, 3], 32:96, 32:96] = 1.0  # a red square
    painted_by(monkeypatch, painted)
    at.run()
    assert not at.error and films(at)[0]["key"] != before


def test_only_the_brushed_hole_is_painted_anew(open_page, monkeypatch, model):
    painted = torch.zeros(4, 128, 128)
    painted[:, :64] = 1.0  # the upper half
    painted_by(monkeypatch, painted)
    at = opened(open_page)
    at.selectbox(key="start").set_value("a picture with a hole").run()
    assert not at.error and "mask=mask" in at.code[0].value
    drawn = frames(films(at)[0])[-1][0][..., :3].astype(int)
    kept = model.decode(model.encode(emoji.emoji("red heart", emoji.styles_of("red heart")[0])))
    kept = ((kept[0] + 1) * 127.5).round().movedim(0, -1).numpy()
    error = np.abs(drawn - kept)
    assert 2 * error[100:].mean() < error[:40].mean()


def test_over_lays_what_is_painted_on_the_picture():
    painted = torch.zeros(4, 2, 2)
    painted[:, 0, 0] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    laid = over(painted, torch.full((1, 3, 2, 2), 0.5))
    assert laid[0, :, 0, 0].tolist() == [1.0, -1.0, -1.0] and laid[0, :, 1, 1].tolist() == [0.5] * 3


def url(size=(8, 8), color=(255, 0, 0, 255)):
    return PREFIX + base64.b64encode(png(size, "RGBA", color=color)).decode()


def test_what_a_board_sends_is_read():
    assert read(url(), 8, 8)[:, 3, 3].tolist() == [1.0, 0.0, 0.0, 1.0]


def as_jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return PREFIX + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "sent",
    [7, "javascript:alert(1)", PREFIX + "@@@", PREFIX + "aGVsbG8=", url((9, 8)), url()[:-40], "x" * 2**23, as_jpeg(),
     PREFIX + base64.b64encode(bomb()).decode()],
    ids=["number", "no picture", "no base64", "text", "other size", "cut short", "huge", "jpeg", "bomb"],
)  # fmt: skip
def test_what_no_board_sends_is_refused(sent):
    with pytest.raises(ValueError, match="painted"):
        read(sent, 8, 8)


@pytest.mark.parametrize(
    "data, words",
    [(b"this is a text", "not a picture"), (bomb(), "pixels"), (png((20_000, 10)), "20,000"), (b"x" * 2**25, "MB")],
    ids=["text", "bomb", "20,000 wide", "32 MB"],
)
def test_a_bad_upload_gets_its_words_and_the_page_lives_on(open_page, data, words):
    at = opened(open_page)
    at.selectbox(key="start").set_value("a picture").run()
    at.selectbox(key="source").set_value("my own file").run()
    assert "until then the run starts from pure noise" in said(at.info)
    at.file_uploader(key="start_upload").upload("a.png", data, "image/png").run()
    assert words in at.error[0].value and films(at)
    at.selectbox(key="source").set_value("an emoji").run()
    alive(at)


def test_a_strength_that_leaves_no_step_gets_the_engines_words(open_page):
    at = opened(open_page)
    at.selectbox(key="start").set_value("a picture").run()
    at.slider(key="strength").set_value(0.0).run()
    assert "leaves none of 2 steps" in at.error[0].value and not at.exception
    at.slider(key="strength").set_value(1.0)
    alive(at)


EARLIER = [  # addresses of the page Stable Diffusion of earlier releases, and what they open
    ({"sd_model": "stand-in", "sd_steps": "2", "sd_w": "3.5", "sd_seed": "7", "sd_sampler": "heun", "count": "2",
      "prompt": "a cat", "negative": "blurry", "width": "64", "height": "64"},
     {"sd_model": "stand-in", "t2i_steps": "2", "t2i_w": "3.5", "t2i_seed": "7", "t2i_sampler": "heun",
      "t2i_count": "2", "t2i_prompt": "a cat", "t2i_negative": "blurry", "width": "64", "height": "64"}),
    ({"sd_model": "micro", "sd_steps": "4", "prompt": "a cat"},
     {"sd_model": "micro", "t2i_steps": "4", "t2i_prompt": "a cat", "t2i_w": "4", "t2i_count": "1"}),
    ({"sd_model": "micro", "sd_steps": "1", "sd_w": "1.0"},
     {"sd_model": "micro", "t2i_steps": "1", "t2i_prompt": "a blue cat", "t2i_w": "1", "t2i_count": "1"}),
    ({"sd_model": "recorded"}, {"sd_model": "recorded"}),
]  # fmt: skip


@pytest.mark.parametrize("asked, opens", EARLIER, ids=lambda one: one["sd_model"])
def test_an_address_of_the_former_page_stable_diffusion_opens_here(open_page, monkeypatch, asked, opens):
    monkeypatch.setattr(stable_sections, "begin", lambda job: None)
    at = open_page("stable_diffusion", **asked)
    assert {key: value for key, (value,) in address(at).items()} == opens and not at.info and not at.error
