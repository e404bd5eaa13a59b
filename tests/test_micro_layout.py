"""Which subject a caption puts on which side, and the mix of scenes that teaches it."""

from collections import Counter

import pytest

from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.layout import SIDES, said_sides
from diffusion_explained.micro.scenes import MIXES, Scene, SceneSampler, Sprite, batch_scenes


@pytest.fixture(scope="module")
def sample():
    return load_emoji_sample()


@pytest.mark.parametrize(
    ("caption", "sprites", "named"),
    [
        ("a cat left of a dog", ((0, -0.5, 0.1), (1, 0.5, 0.1)), {"left": 7, "right": 8}),
        ("a cat right of a dog", ((0, 0.5, 0.1), (1, -0.5, 0.1)), {"left": 8, "right": 7}),
        ("a cat above a dog", ((0, 0.1, -0.5), (1, 0.1, 0.5)), {"top": 7, "bottom": 8}),
        ("a cat in the top left corner", ((0, -0.5, -0.5),), {"left": 7, "top": 7}),
        ("a cat", ((0, 0, 0),), {}),
        ("a cat and a dog", ((0, -0.5, 0), (1, 0.5, 0)), {}),
        ("a cat next to a dog", ((0, -0.5, 0), (1, 0.5, 0)), {}),
        ("two cats", ((0, -0.5, 0), (0, 0.5, 0)), {}),
    ],
)
def test_the_sides_that_a_caption_says(caption, sprites, named):
    scenes = batch_scenes([Scene(caption, tuple(Sprite(*sprite) for sprite in sprites))])
    assert said_sides(scenes, [7, 8]).tolist() == [[named.get(side, -1) for side in SIDES]]


def test_the_second_mix_teaches_relations_and_styles(sample):
    assert all(sum(mix.kinds.values()) == pytest.approx(1) for mix in MIXES.values())
    captions = SceneSampler(sample, mix="relations").batch(range(3000)).captions
    of_two = [
        text for text in captions if any(f" {word} " in text for word in ("left of", "right of", "above", "below"))
    ]
    assert 0.25 < len(of_two) / len(captions) < 0.4  # 41%, a quarter of them "next to" or "and"
    alone = Counter(text for text in captions if text in {f"{style} style" for style in STYLES})
    assert set(alone) == {f"{style} style" for style in STYLES} and 0.02 < alone.total() / len(captions) < 0.06


def test_an_unknown_mix_is_refused(sample):
    with pytest.raises(ValueError, match="mix of scenes"):
        SceneSampler(sample, mix="relation")
