"""Films whose states are no pictures: what their parts hold is what was drawn, and their words follow it."""

import base64
import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_explained.beyond import KINDS
from diffusion_explained.beyond.kinds import as_float
from diffusion_explained.beyond.part_films import (
    LOUDNESS,
    REACH,
    PartFilm,
    attention_part,
    clip_part,
    cloud_part,
    letters_part,
    molecule_part,
    sound_part,
)
from diffusion_explained.beyond.sound import named
from diffusion_explained.discrete import Alphabet


def of(content):
    return base64.b64decode(content)


def noise(*shape):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def test_a_clip_holds_its_frames_and_names_one_digit():
    clip = as_float(KINDS["video"].data(4, 0, "test")).x_0[3:]
    part = clip_part("noisy", [noise(1, 16, 32, 32), clip])
    sheet = np.asarray(Image.open(io.BytesIO(of(part.content["sheets"][1]))))[..., 0]
    np.testing.assert_array_equal(sheet[:, 5 * 32 : 6 * 32], ((clip[0, 0, 5] + 1) * 127.5).round().numpy())
    assert "the digit 3 in 16 of 16 frames" in part.words[1] and part.words[0] != part.words[1]
    assert "classifier" not in clip_part("two", [clip], digits=2).words[0]


def test_attention_is_drawn_from_0_to_the_films_largest_weight():
    even, own = torch.full((1, 16, 16), 1 / 16), torch.eye(16)[None]
    part = attention_part("attention", [even, own])
    first, last = (np.frombuffer(of(one), np.uint8).reshape(16, 16) for one in part.content["levels"])
    np.testing.assert_array_equal(last, 255 * np.eye(16))
    assert (first == 16).all()
    assert part.words == (
        "18% to itself and its neighbours; to all alike, 18%",
        "100% to itself and its neighbours; to all alike, 18%",
    )
    for wrong in (torch.zeros(1, 16, 15), -own):
        with pytest.raises(ValueError, match="weights"):
            attention_part("attention", [wrong])


def test_a_sound_is_a_second_of_the_same_loudness_whether_noise_or_word():
    word = as_float(KINDS["sound"].data(8, 0, "test")).x_0[7:]
    part = sound_part("noisy", [word, noise(1, 64, 64)])
    heard = int(named(word))
    assert f"“{KINDS['sound'].class_names[heard]}”" in part.words[0]
    for content in part.content["waves"]:
        with wave.open(io.BytesIO(of(content))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        assert len(samples) == 8064 and np.abs(samples).max() < 0.95
        assert 0.5 * LOUDNESS < np.sqrt((samples**2).mean()) < 1.05 * LOUDNESS
    loud = np.frombuffer(of(part.content["levels"][0]), np.uint8).reshape(64, 64)
    np.testing.assert_array_equal(loud, ((word[0, 0] + 1) * 127.5).round().numpy())
    assert [words for _, words in part.content["y_ticks"]][-1] == "4,000" and part.content["y_ticks"][-1][0] == 1


def test_a_cloud_holds_its_points_in_their_places():
    cloud = KINDS["shapes"].data(6, 0, "test").x_0[5:]
    part = cloud_part("noisy", [noise(1024, 3), cloud], [1.0, 0.0])
    places = np.frombuffer(of(part.content["places"][1]), "<i2").reshape(1024, 3) / 32767 * REACH
    np.testing.assert_allclose(places, cloud[0].numpy(), atol=1e-4)
    assert "100%" in part.words[1] and "100%" not in part.words[0]


def test_a_molecule_holds_its_atoms_and_bonds_and_its_words_say_what_it_is():
    item = KINDS["molecules"].data(3, 0, "test").x_0[2:]  # aromatic
    part = molecule_part("noisy", [noise(9, 8), item], [1.0, 0.0])
    atoms, count = part.content["elements"][1], int((item[0, :, 3] > 0).sum())
    places = np.frombuffer(of(part.content["places"][1]), "<i2").reshape(9, 3) / 32767 * REACH
    np.testing.assert_allclose(places[:count], item[0, :count, :3].numpy() * 6 / 4, atol=1e-4)
    assert len(atoms) == count and set(atoms) <= set("CNOF")
    assert len(part.content["bonds"][1]) >= count and {order for _, _, order in part.content["bonds"][1]} == {1, 2}
    assert "a valid molecule, with an aromatic ring" in part.words[1] and "no valid molecule" in part.words[0]
    empty = molecule_part("x", [torch.full((1, 9, 8), -0.1)])
    assert empty.content["bonds"] == [[]] and empty.words[0].startswith("no atoms")


def test_letters_are_hidden_new_given_or_old():
    alphabet = Alphabet("abc ")
    texts = [alphabet.encode(one)[None] for one in ("a___", "ab__", "abc_")]
    part = letters_part("text", texts, alphabet, given=torch.tensor([True, False, False, False]))
    assert part.content["marks"] == ["ghhh", "gfhh", "g.fh"] and part.words[2] == "“abc_”"
    sure = letters_part("p", texts[:1], alphabet, sure=[torch.tensor([[1.0, 0.5, 0.0, 0.25]])])
    assert sure.content["sure"] == ["9402"]


def test_a_film_has_a_key_of_its_content_and_refuses_what_does_not_fit():
    alphabet = Alphabet("ab")
    part = letters_part("text", [alphabet.encode("ab")[None]], alphabet)
    assert PartFilm((part,), ("a",)).key != PartFilm((part,), ("b",)).key == PartFilm((part,), ("b",)).key
    for wrong, said in (
        (lambda: PartFilm((part,), ("a", "b")), "1 frames, but there are 2 captions"),
        (lambda: PartFilm((), ()), "parts must have at least one"),
        (lambda: clip_part("x", []), "clips must have at least one"),
        (lambda: clip_part("x", [torch.zeros(2, 1, 4, 32, 32)]), "clips must be tensors of one shape"),
        (lambda: cloud_part("x", [torch.zeros(1, 5, 2)]), r"points \[1, N, 3\]"),
        (lambda: cloud_part("x", [torch.full((1, 5, 3), torch.nan)]), "NaN"),
        (lambda: cloud_part("x", [torch.zeros(1, 5, 3)], [2.0]), "from 0 to 1"),
        (lambda: molecule_part("x", [torch.zeros(1, 9, 7)]), r"\[B, 9, 8\]"),
        (lambda: molecule_part("x", [torch.zeros(1, 9, 8)], [0.5, 0.5]), "2 for 1 molecules"),
        (lambda: letters_part("x", [torch.zeros(1, 2).long()], alphabet, sure=[]), "one tensor per text"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()
