"""The measures of the micro model's pictures give what can be worked out by hand, and their worst on nonsense."""

import math

import pytest
import torch
import torch.nn.functional as F

from diffusion_explained.micro.fidelity import (
    background,
    choices,
    colour_shares,
    foreground,
    halves,
    hue_saturation_value,
    look,
    naming,
    picture_distance,
    ranks,
    share,
    spread,
    ssim,
)
from diffusion_explained.micro.retrieval import Retrieval, embed_captions
from diffusion_explained.micro.tokens import load_tokenizer
from diffusion_explained.micro.words import COLOURS

RGB = {
    "red": (220, 30, 30), "orange": (250, 140, 20), "yellow": (250, 220, 40), "green": (40, 160, 60),
    "blue": (40, 90, 220), "purple": (140, 60, 200), "pink": (250, 130, 190), "brown": (130, 80, 40),
    "black": (20, 20, 20), "white": (250, 250, 250), "grey": (130, 130, 130),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def retrieval(tokenizer) -> Retrieval:
    torch.manual_seed(0)
    small = {"dim": 16, "widths": (8, 8, 16), "blocks": (0, 1, 0), "squeeze": 8, "text_width": 16, "text_layers": 1}
    return Retrieval(len(tokenizer), tokenizer.eos_token_id, **small).eval().requires_grad_(False)


def square(colour: tuple[int, int, int], ground: tuple[int, int, int], left: int = 32) -> torch.Tensor:
    """A picture [3, 128, 128] of a square of 64 pixels."""
    picture = torch.tensor(ground)[:, None, None].expand(3, 128, 128).clone()
    picture[:, 32:96, left : left + 64] = torch.tensor(colour)[:, None, None]
    return picture / 127.5 - 1


# Which words fit


def test_ranks_count_the_better_words_and_halve_the_equal_ones():
    words = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), dim=1)
    pictures = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert ranks(pictures, words, torch.tensor([1, 2])).tolist() == [2, 0]
    assert ranks(pictures, words, torch.tensor([0, 3])).tolist() == [0.5, 2.5]


def test_a_share_has_its_binomial_error():
    found = share(torch.tensor([True, True, True, False]))
    assert found == {"share": 0.75, "error": pytest.approx(math.sqrt(0.75 * 0.25 / 4)), "n": 4}


def test_naming_is_certain_for_the_words_themselves_and_chance_for_noise():
    words = F.normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    own = naming(words, words, torch.arange(50))
    assert own["top1"]["share"] == 1 and own["median_rank"] == 1 and own["chance"] == {"top1": 0.02, "top5": 0.1}
    noise = F.normalize(torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    found = naming(noise, words, torch.arange(4000) % 50)
    assert abs(found["top1"]["share"] - 0.02) < 4 * 0.0023 and abs(found["top5"]["share"] - 0.1) < 4 * 0.005


def test_naming_with_fewer_words_than_five_is_always_in_the_first_five():
    words = F.normalize(torch.randn(3, 8), dim=1)
    assert naming(words, words, torch.tensor([2, 0, 1]))["top5"]["share"] == 1


def test_choices_are_each_picture_s_own(retrieval, tokenizer):
    texts = [["a cat", "a dog"], ["a red apple", "a rocket"]]
    pictures = embed_captions(retrieval, [texts[0][1], texts[1][0]], tokenizer)
    assert choices(retrieval, pictures, texts, tokenizer).tolist() == [1, 0]


def test_spread_keeps_the_order_and_both_ends_of_the_range():
    assert spread(torch.arange(10), 20).tolist() == list(range(10))
    assert spread(torch.arange(100), 4).tolist() == [0, 25, 50, 75]


# What the pixels say


def test_the_background_is_the_edge_s_and_the_foreground_the_rest():
    pictures = torch.stack([square((220, 30, 30), (255, 255, 255)), square((20, 20, 20), (40, 90, 220))])
    assert torch.allclose(
        (background(pictures) + 1) * 127.5, torch.tensor([[255.0, 255, 255], [40, 90, 220]]), atol=0.1
    )
    drawn = foreground(pictures)
    assert drawn.sum((1, 2)).tolist() == [64 * 64] * 2 and bool(drawn[:, 40, 40].all())


def test_hue_saturation_and_value_are_those_of_colorsys():
    import colorsys

    rgb = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = torch.stack(hue_saturation_value(2 * rgb - 1), dim=1)[0].flatten(1).T
    for pixel, values in zip(rgb[0].flatten(1).T.tolist(), found.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        assert values == pytest.approx([360 * h, s, v], abs=1e-3)


@pytest.mark.parametrize("name", COLOURS)
def test_a_square_has_the_colour_that_people_call_it(name: str):
    ground = (40, 160, 60) if name == "white" else (255, 255, 255)
    shares = colour_shares(square(RGB[name], ground)[None])
    assert COLOURS[int(shares.argmax())] == name and float(shares.max()) == 1


def test_an_empty_picture_has_no_colour_and_no_look():
    empty = torch.ones(2, 3, 128, 128)
    assert float(colour_shares(empty).sum()) == 0
    assert look(empty) == {"clipped": 0, "saturation": 0, "contrast": 0, "drawn": 0}


def test_pure_colours_are_clipped_and_saturated_where_they_are_drawn():
    pure, dull = (look(square(colour, (250, 250, 250))[None]) for colour in ((255, 0, 0), (140, 120, 120)))
    assert pure["clipped"] == 1 and pure["saturation"] == pytest.approx(1) and pure["drawn"] == 0.25
    assert dull["clipped"] == 0 and dull["saturation"] < 0.2 and dull["contrast"] < pure["contrast"]


def test_halves_hide_what_stands_on_the_other_side():
    picture = square((220, 30, 30), (255, 255, 255), left=0)[None]
    left, right = halves(picture)
    assert torch.equal(left, picture) and torch.equal(right, torch.ones_like(picture))
    assert torch.equal(torch.where(torch.arange(128) < 64, left, right), picture)


# How far two pictures are apart


def test_a_picture_is_at_no_distance_from_itself_and_nearer_to_its_like(retrieval):
    a = square((220, 30, 30), (255, 255, 255))[None]
    near, far = square((200, 30, 30), (255, 255, 255))[None], torch.rand(1, 3, 128, 128) * 2 - 1
    assert float(picture_distance(retrieval, a, a)) == 0
    assert 0 < float(picture_distance(retrieval, a, near)) < float(picture_distance(retrieval, a, far)) <= 4


def test_structural_similarity_is_one_for_the_same_and_falls_with_noise():
    a = square((220, 30, 30), (255, 255, 255))[None]
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    values = [float(ssim(a, a + level * noise)) for level in (0, 0.1, 0.5)]
    assert values[0] == pytest.approx(1, abs=1e-4) and values[0] > values[1] > values[2]
    flat = torch.full((1, 3, 128, 128), 0.5)
    constant = (2 * 0.5 * -0.5 + 4e-4) / (2 * 0.25 + 4e-4)  # without structure only the means count: Eq. 6 of the paper
    assert float(ssim(flat, -flat)) == pytest.approx(constant, abs=1e-3)
