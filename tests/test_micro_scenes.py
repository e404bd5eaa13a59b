"""Captioned scenes: what a caption says is true of the drawn pixels; what is held out is never drawn in training."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffusion_explained.micro.drawing import SHADES, premultiply, repaint, shades
from diffusion_explained.micro.emoji import STYLES, EmojiSet, load_emoji_sample
from diffusion_explained.micro.random_choices import RandomChoices
from diffusion_explained.micro.scenes import (
    COLOURS,
    KINDS,
    POSITIONS,
    RELATIONS,
    Scene,
    SceneSampler,
    Sprite,
    batch_scenes,
    caption_of,
    draw_scenes,
    held_out_pairs,
    painted_name,
    plain_caption,
)
from diffusion_explained.micro.words import NUMBERS, colour_words, head, is_held_out_colour, plural

THINGS = ("cat", "dog", "car", "house", "tree", "star")


@pytest.fixture(scope="module")
def sample():
    return load_emoji_sample()


@pytest.fixture(scope="module")
def captioned(sample):
    """20,000 training scenes: (caption, scene)."""
    sampler = SceneSampler(sample, seed=1)
    return [(scene.caption, scene) for scene in map(sampler.scene, range(20_000))]


@pytest.fixture(scope="module")
def blocks():
    """A set whose things are squares of 112 pixels, each thing of a grey level of its own: 10, 20, 30, ..."""
    images = torch.zeros(3 * len(THINGS), 4, 128, 128, dtype=torch.uint8)
    subject = torch.arange(len(THINGS)).repeat_interleave(3)
    images[:, :3, 8:120, 8:120] = (10 * (subject + 1))[:, None, None, None].to(torch.uint8)
    images[:, 3, 8:120, 8:120] = 255
    style = torch.arange(3).repeat(len(THINGS))
    return EmojiSet(images, subject, style, THINGS, ((),) * len(THINGS), ("objects",) * len(THINGS))


def centres(picture: torch.Tensor, level: int) -> list[tuple[float, float]]:
    """The centres of mass, in [-1, 1], of the connected parts of a picture that have one grey level."""
    inside = ((picture + 1) * 127.5 - level).abs().amax(0) < 2
    label = torch.arange(1.0, 1 + inside.numel()).reshape(inside.shape) * inside
    for _ in range(64):  # every pixel takes the largest number in its part, which is a square of fewer pixels a side
        label = F.max_pool2d(label[None, None], 3, 1, 1)[0, 0] * inside
    found = []
    for number in label[inside].unique():
        # The rim of another square, blended with the ground, can have this level: one pixel wide, 232 in all at most.
        # The smallest sprite has 1,300, so that one too many would not be overlooked.
        if (label == number).sum() < 400:
            continue
        y, x = torch.nonzero(label == number).float().add(0.5).div(64).sub(1).mean(0).tolist()
        found.append((x, y))
    return found


def plainly(blocks: EmojiSet, count: int, kind: str):
    """Scenes of one kind with nothing repainted, as (caption without style and background, picture)."""
    sampler = SceneSampler(blocks)
    scenes = [getattr(sampler, kind)(RandomChoices(np.random.default_rng(i))) for i in range(count)]
    scenes = [scene for scene in scenes if all(sprite.colour < 0 for sprite in scene.sprites)]
    drawn = draw_scenes(batch_scenes(scenes), blocks.images)
    return [
        (re.sub(r" on an? \w+ background|, \w+ style", "", s.caption), x) for s, x in zip(scenes, drawn, strict=True)
    ]


def level(thing: str) -> int:
    return 10 * (THINGS.index(thing) + 1)


def test_relations_are_true_of_the_pixels(blocks):
    seen = set()
    for caption, picture in plainly(blocks, 150, "relation"):
        words = next(words for words in sorted(RELATIONS, key=len, reverse=True) if f" {words} a" in caption)
        first, second = (part.split()[-1] for part in caption.split(f" {words} "))
        [(x1, y1)], [(x2, y2)] = centres(picture, level(first)), centres(picture, level(second))
        seen.add(words)
        if "left" in words:
            assert x1 < x2 - 0.5 and abs(y1 - y2) < 0.5
        elif "right" in words:
            assert x1 > x2 + 0.5 and abs(y1 - y2) < 0.5
        elif words == "above":
            assert y1 < y2 - 0.5 and abs(x1 - x2) < 0.5
        elif words == "below":
            assert y1 > y2 + 0.5 and abs(x1 - x2) < 0.5
        else:
            assert abs(x1 - x2) > 0.5
    assert seen == set(RELATIONS)


def test_counts_are_true_of_the_pixels(blocks):
    names = {plural(name): name for name in THINGS}
    seen = set()
    for caption, picture in plainly(blocks, 60, "count"):
        number, things = caption.split()
        assert number == NUMBERS[len(centres(picture, level(names[things])))]
        seen.add(number)
    assert seen == set(NUMBERS.values())


def test_positions_are_true_of_the_pixels(blocks):
    seen = set()
    for caption, picture in plainly(blocks, 120, "position"):
        where = next(where for where in POSITIONS if caption.endswith(where))
        thing = caption.removesuffix(f" {where}").split()[-1]
        [(x, y)] = centres(picture, level(thing))
        dx, dy = POSITIONS[where]
        assert (abs(x) < 0.1 if dx == 0 else x * dx > 0.3) and (abs(y) < 0.1 if dy == 0 else y * dy > 0.3)
        seen.add(where)
    assert seen == set(POSITIONS)


def test_sizes_are_true_of_the_pixels(blocks):
    for caption, picture in plainly(blocks, 40, "size"):
        thing = caption.split()[-1]
        side = float((((picture + 1) * 127.5 - level(thing)).abs().amax(0) < 2).sum()) ** 0.5
        assert side < 60 if re.search("small|little", caption) else side > 124


def test_backgrounds_are_true_of_the_pixels(blocks):
    sampler = SceneSampler(blocks)
    scenes = [scene for scene in map(sampler.scene, range(1000)) if "background" in scene.caption]
    assert len(scenes) > 100
    for scene, picture in zip(scenes, draw_scenes(batch_scenes(scenes), blocks.images), strict=True):
        colour = re.search(r"on an? (\w+) background", scene.caption)[1]
        corner = (picture[:, 0, 0] + 1) / 2
        distances = (shades(picture)[:, 1, :, 0, 0] - corner).norm(dim=1)
        big = scene.sprites[0].size > 1.1  # covers the corners
        assert (
            big
            or any(abs(s.x) > 0.4 and abs(s.y) > 0.4 for s in scene.sprites)
            or distances.argmin() == COLOURS.index(colour)
        )


def test_repainting_gives_the_colour_that_is_said(sample):
    some = sample.images[::3].float() / 255
    for number, colour in enumerate(COLOURS):
        painted = premultiply(repaint(some, torch.full((len(some),), number)))
        mean = painted[:, :3].sum((2, 3)) / painted[:, 3:].sum((2, 3))
        nearest = (shades(some)[None, :, 1, :, 0, 0] - mean[:, None]).norm(dim=2).argmin(1)
        assert (nearest == number).float().mean() > 0.9, colour


def test_repainting_keeps_light_and_dark_and_alpha(sample):
    cat = sample.images[sample.names.index("cat face") * 3][None].float() / 255
    painted = repaint(cat, torch.tensor([COLOURS.index("blue")]))
    assert torch.equal(painted[:, 3], cat[:, 3])
    luma = [(image[0, :3] * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0) for image in (cat, painted)]
    inside = cat[0, 3] == 1
    assert torch.corrcoef(torch.stack([values[inside] for values in luma]))[0, 1] > 0.9
    assert torch.equal(repaint(cat, torch.tensor([-1])), cat)


def test_a_plain_scene_is_the_picture_itself_over_white(sample):
    drawn = draw_scenes(batch_scenes([Scene("", (Sprite(5),))]), sample.images)[0]
    image = sample.images[5].double() / 255
    expected = (image[:3] * image[3] + 1 - image[3]) * 2 - 1
    assert drawn.shape == (3, 128, 128) and drawn.dtype == torch.float32
    torch.testing.assert_close(drawn.double(), expected, atol=2e-3, rtol=0)  # affine_grid's own rounding


def test_upside_down_is_turned_by_half_and_a_quarter_turn_is_clockwise(blocks):
    image = blocks.images[:1].clone()
    image[0, :3, 8:64, 8:64] = 200  # the top left quarter
    half, quarter = draw_scenes(
        batch_scenes([Scene("", (Sprite(0, angle=np.pi),)), Scene("", (Sprite(0, angle=np.pi / 2),))]), image
    )
    assert half[0, 90, 90] > 0.5 > half[0, 30, 30]
    assert quarter[0, 30, 90] > 0.5 > quarter[0, 30, 30]


def test_later_sprites_lie_over_earlier_ones(blocks):
    scenes = batch_scenes([Scene("", (Sprite(0), Sprite(3, size=0.5)))])
    drawn = (draw_scenes(scenes, blocks.images)[0] + 1) * 127.5
    assert drawn[0, 64, 64].round() == 20 and drawn[0, 20, 20].round() == 10


def test_small_sprites_do_not_alias(blocks):
    stripes = blocks.images[:1].clone()
    stripes[0, :3, :, ::2] = 250  # one pixel wide: at half the size they are a grey
    drawn = draw_scenes(batch_scenes([Scene("", (Sprite(0, size=0.45),))]), stripes)[0]
    assert drawn[0, 50:78, 50:78].std() < 0.15


def test_a_scene_is_a_function_of_seed_and_number_alone(sample):
    sampler = SceneSampler(sample, seed=3)
    whole, part = sampler.batch(range(50)), SceneSampler(sample, seed=3).batch(torch.tensor([40, 7]))
    assert part.captions == [whole.captions[40], whole.captions[7]]
    assert torch.equal(part.place, whole.place[[40, 7]]) and torch.equal(part.sprite, whole.sprite[[40, 7]])
    drawn = draw_scenes(whole, sample.images)
    torch.testing.assert_close(draw_scenes(part, sample.images), drawn[[40, 7]])  # whatever the batch
    assert SceneSampler(sample, seed=4).batch(range(50)).captions != whole.captions


def test_the_shapes_of_a_batch(sample):
    scenes = SceneSampler(sample).batch(range(10))
    assert len(scenes) == 10 and scenes.sprite.shape == scenes.colour.shape == (10, 4)
    assert scenes.place.shape == (10, 4, 4) and scenes.background.shape == (10, 3)
    assert (scenes.sprite.dtype, scenes.place.dtype) == (torch.int64, torch.float32)
    assert len(SceneSampler(sample).batch(range(0))) == 0
    assert draw_scenes(SceneSampler(sample).batch([]), sample.images).shape == (0, 3, 128, 128)


def test_half_of_the_scenes_are_one_plain_emoji_on_white(captioned):
    plain = [
        s.sprites == (Sprite(s.sprites[0].picture),) and s.background == (1, 1, 1) for _, s in captioned
    ]  # fmt: skip
    assert sum(KINDS.values()) == pytest.approx(1) and 0.48 < np.mean(plain) < 0.52


def test_training_never_sees_a_held_out_picture(captioned, sample):
    held_out = sample.held_out.tolist()
    assert not any(held_out[sprite.picture] for _, scene in captioned for sprite in scene.sprites)


def test_training_never_sees_a_held_out_colour_of_a_thing(captioned, sample):
    repainted = [
        (COLOURS[sprite.colour], sample.names[int(sample.subject[sprite.picture])])
        for _, scene in captioned for sprite in scene.sprites if sprite.colour >= 0
    ]  # fmt: skip
    assert len(repainted) > 3000
    assert not any(is_held_out_colour(colour, name) for colour, name in repainted)
    words = {pair for caption, _ in captioned for pair in zip(caption.split(), caption.split()[1:], strict=False)}
    for colour, subject in held_out_pairs(sample):
        assert (colour, sample.names[subject]) not in words and (colour, plural(sample.names[subject])) not in words
    assert ("blue", "cat") not in words and ("red", "cat") in words


def test_a_keyword_of_two_things_is_not_said_in_a_colour_that_is_held_out_of_one(sample):
    shared = tuple((*words, "gadget") for words in sample.keywords)  # of all things, one of which is held out
    sampler = SceneSampler(replace(sample, keywords=shared))
    captions = [sampler.colour(RandomChoices(np.random.default_rng(i))).caption for i in range(3000)]
    assert not any(f"{colour} gadget" in caption for caption in captions for colour in COLOURS)
    assert any("gadget" in caption for caption in sampler.batch(range(300)).captions)


def test_a_colour_that_is_said_is_painted_or_the_name_s_own(captioned, sample):
    for caption, scene in captioned:
        said = colour_words(re.sub(r" on an? \w+ background", "", caption))
        painted = [COLOURS[sprite.colour] for sprite in scene.sprites if sprite.colour >= 0]
        own = [
            colour for sprite in scene.sprites if sprite.colour < 0
            for colour in colour_words(sample.names[int(sample.subject[sprite.picture])])
        ]  # fmt: skip
        assert set(said) <= set(painted) | set(own), caption
        assert set(painted) <= set(said), caption


def test_a_style_that_is_said_is_the_style_of_all_sprites(captioned, sample):
    said = 0
    for caption, scene in captioned:
        styles = {STYLES[int(sample.style[sprite.picture])] for sprite in scene.sprites}
        assert len(styles) == 1
        if match := re.search(r", (\w+) style$", caption):
            said += 1
            assert styles == {match[1]}
    assert 0.25 < said / len(captioned) < 0.35


def test_the_held_out_split_is_held_out_colours_and_held_out_pictures_by_turns(sample):
    sampler = SceneSampler(sample, "held_out")
    pairs = set(held_out_pairs(sample))
    for i in range(200):
        scene = sampler.scene(i)
        (sprite,) = scene.sprites
        subject = int(sample.subject[sprite.picture])
        if i % 2 == 0:
            assert (COLOURS[sprite.colour], subject) in pairs
            assert scene.caption.endswith(f" {painted_name(COLOURS[sprite.colour], sample.names[subject])}")
        else:
            assert sample.held_out[sprite.picture] and sprite.colour == -1
            assert scene.caption == plain_caption(sample, subject, STYLES[int(sample.style[sprite.picture])])


def test_held_out_pairs_are_no_emoji_of_their_own_and_include_the_examples(sample):
    pairs = {(colour, sample.names[subject]) for colour, subject in held_out_pairs(sample)}
    assert {("blue", "cat"), ("green", "dog"), ("purple", "red apple")} <= pairs
    assert painted_name("purple", "red apple") == "purple apple"
    natural = {(colour, head(name)) for name in sample.names for colour in colour_words(name)}
    assert natural and not {(colour, head(name)) for colour, name in pairs} & natural
    possible = len({head(sample.names[subject]) for _, subject in held_out_pairs(sample)}) * len(COLOURS)
    assert pairs and len({(colour, head(name)) for colour, name in pairs}) < possible


def test_captions_from_parts(sample):
    assert caption_of("two cats", "orange", "noto") == "two cats on an orange background, noto style"
    assert plain_caption(sample, sample.names.index("rocket")) == "rocket"
    assert set(SHADES) == set(COLOURS)


def test_what_cannot_be_drawn_is_said(sample):
    with pytest.raises(ValueError, match="unknown split of scenes 'test'"):
        SceneSampler(sample, "test")
    with pytest.raises(ValueError, match="5 sprites"):
        batch_scenes([Scene("many", (Sprite(0),) * 5)])
    with pytest.raises(ValueError, match="a scene uses sprite 462, but there are only 462 images"):
        draw_scenes(batch_scenes([Scene("", (Sprite(462),))]), sample.images)


def test_scenes_come_fast_enough_for_a_gpu(sample):
    sampler = SceneSampler(sample)
    sampler.batch(range(100))
    start = time.process_time()  # of this process: others on the machine do not count
    sampler.batch(range(3000))
    assert 3000 / (time.process_time() - start) > 3000
