"""The page Beyond images: what it shows is the library's, and bad words are answered without a loss."""

import base64

import torch
from conftest import address
from explorer import beyond_kinds, beyond_text
from explorer.beyond_runs import PANELS, Ask, made
from explorer.cache import quiet
from test_pages import films

from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.beyond.clips import frame_attention
from diffusion_explained.beyond.part_films import _equally_loud, attention_part
from diffusion_explained.beyond.spectrograms import to_wave, wav_bytes


def test_every_kind_of_the_package_has_its_row_its_control_and_its_panel():
    assert set(beyond_kinds.OF_KINDS) == {*KINDS, "text"}
    assert set(beyond_kinds.LABELS) == set(PANELS) == set(KINDS)
    for name, kind in KINDS.items():
        measured = load_beyond(name).card["evaluation"][0]
        assert set(beyond_kinds.OF_KINDS[name].measures) <= set(measured["samples"])
        assert measured["settings"] | {"sampler": kind.sampling["sampler"]} == {
            **kind.sampling,
            "guidance_scale": load_beyond(name).default_guidance_scale,
        }, "the numbers beside the picture are of the settings at which the page starts"


def test_a_sound_is_heard_at_every_step(open_page):
    at = open_page("beyond", data_kind="sound", word="two", sound_steps="2", seed="3")
    (film,) = films(at)
    model = load_beyond("sound")
    (first, last) = model.steps([2], num_inference_steps=2, sampler="euler", guidance_scale=2.0, seed=3)
    waves = to_wave(torch.cat([first.x_t, last.x_t, last.x_next]))
    heard = [base64.b64decode(one) for one in film["parts"][0]["content"]["waves"]]
    assert heard == [wav_bytes(one) for one in _equally_loud(waves)]
    assert film["ends"] == ["noise", "data"] and len(film["captions"]) == 3
    numbers = next(one.value for one in at.markdown if "| measured |" in one.value)
    assert "100.0%" in numbers and "99.0%" in numbers and "11.7%" in numbers and "300 samples" in numbers


def test_beside_a_clip_stands_which_frames_the_network_looks_at_at_each_step(open_page):
    at = open_page("beyond", data_kind="video", digit="4", video_steps="2", seed="5")
    (film,) = films(at)
    clip, predicted, attention = film["parts"]
    model = load_beyond("video")
    settings = {"sampler": "dpm_solver_pp_2m", "guidance_scale": model.default_guidance_scale}
    first, last = model.steps([4], num_inference_steps=2, seed=5, **settings)
    places = [(first.x_t, first.level), (last.x_t, last.level), (last.x_next, last.next_level)]
    maps = attention_part("attention over time", [frame_attention(model, x, level, [4]) for x, level in places])
    assert (clip["kind"], predicted["kind"], attention["kind"]) == ("clip", "clip", "attention")
    assert attention["content"] == maps.content and tuple(attention["words"]) == maps.words
    assert len(set(maps.content["levels"])) == 3, "the attention changes from step to step"


def test_the_forward_process_begins_with_real_data_and_ends_in_noise():
    shown = made(Ask("shapes", "noise", 6, seed=1), quiet)
    table, eps = KINDS["shapes"].data(7, 1, "test").x_0[6:], load_beyond("shapes").noise(1, seed=1)
    assert torch.equal(shown.states[0], table) and torch.equal(shown.states[-1], eps)
    assert shown.film.ends == ("data", "noise") and shown.film.captions[0] == "the data, without noise"


def test_a_run_is_made_once_for_all_visitors(open_page, monkeypatch):
    calls = []
    steps = beyond_text.TextModel.steps
    monkeypatch.setattr(
        beyond_text.TextModel, "steps", lambda *args, **options: calls.append(1) or steps(*args, **options)
    )
    for _ in range(2):
        at = open_page("beyond", data_kind="text", text_steps="2", seed="77")
    at.number_input(key="seed").set_value(78).run()
    assert len(calls) == 2


def test_letters_that_are_given_stay_and_others_are_refused_in_words(open_page):
    at = open_page("beyond", data_kind="text", text_task="fill", text_steps="2", text_fill="a l_dy")
    (film,) = films(at)
    assert (
        film["parts"][0]["content"]["texts"][-1].startswith("a l")
        and film["parts"][0]["content"]["marks"][0][:6] == "ggghgg"
    )
    at.text_input(key="text_fill").set_value("größer than 3 € _").run()
    assert "The network does not know" in at.error[0].value and not films(at)
    assert at.text_input(key="text_fill").value == "größer than 3 € _", "the visitor's words are not lost"
    assert any("bits per letter" in one.value for one in at.markdown) and address(at)["text_fill"] == [
        "größer than 3 € _"
    ]
    at = open_page("beyond", data_kind="text", text_task="noise", text_noise="a l_dy")
    assert "has no blanks" in at.error[0].value
    at = open_page("beyond", data_kind="text", text_task="noise", text_noise="")
    assert "type a text" in at.error[0].value


def test_an_address_of_another_kind_and_a_class_that_does_not_exist_are_said(open_page):
    at = open_page("beyond", data_kind="smell", digit="11", video_steps="2", turn="1e9")
    note = at.info[0].value
    assert all(f"`{one}`" in note for one in ("data_kind=smell", "digit=11")) and "not possible here" in note
    at = open_page("beyond", data_kind="shapes", shape="sofa", shapes_steps="1", turn="500", shapes_w="nan")
    note = at.info[0].value
    assert all(f"`{one}`" in note for one in ("shape=sofa", "turn=500", "shapes_w=nan"))
