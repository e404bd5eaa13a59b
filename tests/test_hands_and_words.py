"""Drawn hands are counted right, drawn words are read right, and damaged ones are not."""

import pytest
import torch

from diffusion_explained.data import to_float
from diffusion_explained.data.hands_and_words import (
    LETTERS,
    MOST_FINGERS,
    count_fingers,
    draw_hands,
    draw_words,
    read_letters,
    read_words,
)
from diffusion_explained.noise import stream


def test_as_many_fingers_are_counted_as_were_drawn():
    fingers = 1 + torch.arange(70) % MOST_FINGERS
    hands = draw_hands(fingers, seed=5)
    assert hands.shape == (70, 1, 32, 32) and hands.dtype == torch.uint8
    assert torch.equal(count_fingers(to_float(hands)), fingers)
    assert torch.equal(hands, draw_hands(fingers, seed=5)) and not torch.equal(hands, draw_hands(fingers, seed=6))


def test_a_finger_that_is_cut_or_added_changes_the_count():
    hand = to_float(draw_hands([5], seed=0))
    closed = torch.where(torch.arange(32)[:, None] < 13, -1.0, hand)  # the upper fingers are cut off
    assert int(count_fingers(hand)) == 5 > int(count_fingers(closed))
    more = hand.clone()
    more[0, 0, 24:27, 1:12] = 1  # a finger that is on no palm is a piece of its own
    assert int(count_fingers(more)) == 6
    assert int(count_fingers(torch.full((1, 1, 32, 32), -1.0))) == 0


def test_the_bones_are_those_of_the_same_hand():
    fingers = torch.full((20,), 5)
    hands, bones = to_float(draw_hands(fingers, seed=3)) > 0, to_float(draw_hands(fingers, seed=3, bones=True)) > 0
    assert bool((hands | ~bones).all()) and int(bones.sum()) < 0.5 * int(hands.sum())


def test_as_many_letters_are_read_as_were_written():
    index = torch.randint(len(LETTERS), (200, 3), generator=stream(1))
    words = ["".join(LETTERS[i] for i in word) for word in index.tolist()]
    images = to_float(draw_words(words, seed=2))
    assert images.shape == (200, 1, 16, 32)
    assert sum(a == b for a, b in zip(read_words(images), words, strict=True)) >= 197
    letters, cosine = read_letters(images)
    assert float((letters == index).double().mean()) > 0.99 and float(cosine.mean()) > 0.9
    noise = torch.randn(200, 1, 16, 32, generator=stream(3)).clamp(-1, 1)
    assert float(read_letters(noise)[1].mean()) < 0.75  # what is no letter is similar to none


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_hands([0]), "from 1 to 7; got 0"),
        (lambda: draw_hands([8]), "from 1 to 7"),
        (lambda: draw_words(["cat"]), "3 capital letters from A to Z; got 'cat'"),
        (lambda: draw_words(["CATS"]), "3 capital letters"),
        (lambda: count_fingers(torch.zeros(2, 3, 32, 32)), "images"),
        (lambda: count_fingers(torch.zeros(2, 1, 16, 32)), r"\[N, 1, 32, 32\]"),
        (lambda: read_words(torch.zeros(2, 1, 32, 32)), r"\[N, 1, 16, 32\]"),
    ],
)
def test_what_cannot_be_drawn_or_read_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
