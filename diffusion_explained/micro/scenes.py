"""An endless list of captioned scenes: half of them a single emoji on white, the others composed as their captions say.

    sampler = SceneSampler(load_emoji_sample())
    scenes = sampler.batch(range(64))
    scenes.captions[:3]                       # ["a rocket", "two blue dogs", "cat left of a tree, noto style"]
    x = draw_scenes(scenes, emoji.images)     # float [64, 3, 128, 128] in [-1, 1]

Training never uses the held-out colours of things (words.is_held_out_colour) and the held-out pictures
(EmojiSet.held_out). `split="held_out"` uses exactly those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from diffusion_explained.checks import typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.combinations import (
    caption_of,
    composable,
    held_out_pairs,
    is_paintable,
    painted_name,
    plain_caption,
)
from diffusion_explained.micro.drawing import (
    WHITE,
    Scene,
    Scenes,
    Sprite,
    background_colour,
    batch_scenes,
    draw_scenes,
)
from diffusion_explained.micro.emoji import STYLES, EmojiSet
from diffusion_explained.micro.random_choices import RandomChoices
from diffusion_explained.micro.words import (
    COLOURS,
    NUMBERS,
    head,
    is_countable,
    is_held_out_colour,
    plural,
    with_article,
)
from diffusion_explained.noise import check_seed, numpy_stream

__all__ = [
    "COLOURS", "KINDS", "MIXES", "POSITIONS", "RELATIONS", "SPLITS", "Mix", "Scene", "SceneSampler", "Scenes",
    "Sprite", "batch_scenes", "caption_of", "composable", "draw_scenes", "held_out_pairs", "painted_name",
    "plain_caption",
]  # fmt: skip

SPLITS = ("train", "held_out")
# the kinds of scenes, with their frequencies
KINDS = {
    "plain": 0.50, "colour": 0.17, "background": 0.06, "count": 0.07, "relation": 0.09, "position": 0.06,
    "size": 0.03, "rotation": 0.02,
}  # fmt: skip
POSITIONS = {
    "on the left": (-1, 0), "on the right": (1, 0), "at the top": (0, -1), "at the bottom": (0, 1),
    "in the top left corner": (-1, -1), "in the top right corner": (1, -1),
    "in the bottom left corner": (-1, 1), "in the bottom right corner": (1, 1),
}  # fmt: skip
# the direction from the second thing to the first; "next to" and "and" allow left and right
RELATIONS = {
    "left of": (-1, 0), "to the left of": (-1, 0), "right of": (1, 0), "to the right of": (1, 0),
    "above": (0, -1), "below": (0, 1), "next to": None, "and": None,
}  # fmt: skip
LAYOUTS: dict[
    int, list[tuple[float, tuple[tuple[float, float], ...]]]
] = {  # of several of one kind: size, and the centres
    2: [(0.5, ((-0.5, 0), (0.5, 0))), (0.5, ((0, -0.5), (0, 0.5)))],
    3: [(0.48, ((0, -0.5), (-0.5, 0.48), (0.5, 0.48))), (0.33, ((-0.66, 0), (0, 0), (0.66, 0)))],
    4: [(0.48, ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)))],
}
SAY_KEYWORD, SAY_ARTICLE, SAY_EMOJI = 0.35, 0.6, 0.06  # how often a caption contains each
PAINT_BACKGROUND = 0.15  # how often a composed scene has a background other than white
PAINT_COMPOSED = 0.25  # how often the things in scenes with counts, relations, positions and sizes are repainted
HALF = 0.5  # the distance from the centre of a half to the centre of the picture


@dataclass(frozen=True)
class Mix:
    """What the scenes of a training are: the frequency of each kind, and how often a caption contains the style."""

    kinds: Mapping[str, float]
    say_style: float


# by name: that of the first training; of the second, which teaches relations and styles; and of the ControlNet's
MIXES = {
    "broad": Mix(KINDS, 0.3),
    "relations": Mix(
        {
            "plain": 0.28, "colour": 0.10, "background": 0.04, "count": 0.05, "relation": 0.41, "position": 0.05,
            "size": 0.02, "rotation": 0.01, "style": 0.04,
        },
        0.6,
    ),
    "pairs": Mix(
        {
            "plain": 0.34, "colour": 0.08, "background": 0.03, "count": 0.04, "relation": 0.06, "position": 0.03,
            "size": 0.01, "rotation": 0.01, "pair": 0.40,
        },
        0.6,
    ),
}  # fmt: skip


@typed_arguments
class SceneSampler:
    """An endless list of scenes: scene i is a pure function of (seed, i), whatever the batch, process or order.

    mix: the name of one of `MIXES`.

    Raises ValueError for an unknown split or mix, or a split for which this set has no pictures.
    """

    def __init__(self, emoji: EmojiSet, split: str = "train", seed: int = 0, mix: str = "broad") -> None:
        if split not in SPLITS:
            raise unknown_name("split of scenes", split, SPLITS)
        if mix not in MIXES:
            raise unknown_name("mix of scenes", mix, MIXES)
        self.mix = MIXES[mix]
        self.emoji, self.split, self.seed = emoji, split, check_seed(seed)
        self.subject, self.styles = emoji.subject.tolist(), emoji.style.tolist()
        self.train = (~emoji.held_out).nonzero()[:, 0].tolist()
        self.held_out = emoji.held_out.nonzero()[:, 0].tolist()
        self.pairs = held_out_pairs(emoji)
        self.countable = [is_countable(*of) for of in zip(emoji.names, emoji.groups, strict=True)]
        things = set(composable(emoji))
        # the training pictures of composable things, all and by style; the two of a relation are of one style
        self.things = [p for p in self.train if self.subject[p] in things]
        self.things_of = [[p for p in self.things if self.styles[p] == style] for style in range(len(STYLES))]
        self.pictures_of: list[list[int]] = [[] for _ in emoji.names]
        for picture in self.train:
            self.pictures_of[self.subject[picture]].append(picture)
        self.allowed: list[list[str]] = [
            [colour for colour in COLOURS if not is_held_out_colour(colour, name)] for name in emoji.names
        ]
        self.paintable = [is_paintable(*each) for each in zip(emoji.names, emoji.groups, strict=True)]
        # telephone and mobile phone are both a "phone": a colour held out for one is not used with a word for the other
        self.unsaid = {
            (colour, word)
            for name, words in zip(emoji.names, emoji.keywords, strict=True)
            for colour in COLOURS
            for word in words
            if is_held_out_colour(colour, name) or is_held_out_colour(colour, word)
        }
        self.kinds, self.edges = list(self.mix.kinds), np.cumsum(list(self.mix.kinds.values())).tolist()
        if not (self.things if split == "train" else self.pairs and self.held_out):
            raise ValueError(f"this set of {len(emoji)} pictures has nothing for the split {split!r}")

    @typed_arguments
    def batch(self, indices: Iterable[int] | torch.Tensor) -> Scenes:
        """The scenes with these numbers, in their order. indices: numbers, or a tensor [B]."""
        numbers = indices.tolist() if isinstance(indices, torch.Tensor) else indices
        return batch_scenes([self.scene(int(i)) for i in numbers])

    @typed_arguments
    def scene(self, i: int) -> Scene:
        """Scene i."""
        rng = RandomChoices(numpy_stream(self.seed, i))
        if self.split == "held_out":
            return self.held_out_colour(rng) if i % 2 == 0 else self.held_out_picture(rng)
        draw = rng.random()
        kind = next((kind for kind, edge in zip(self.kinds, self.edges, strict=True) if draw < edge), self.kinds[-1])
        return getattr(self, kind)(rng)

    # the kinds of scenes: one method for each name in KINDS

    def plain(self, rng: RandomChoices) -> Scene:
        """One emoji on white, unchanged."""
        picture = rng.pick(self.train)
        noun, may_count = self.noun(rng, picture)
        if rng.chance(SAY_EMOJI):
            noun += " emoji"
        return Scene(self.said(rng, self.a(rng, noun, may_count), picture), (Sprite(picture),))

    def colour(self, rng: RandomChoices) -> Scene:
        """One emoji, repainted."""
        picture = rng.pick(self.things if rng.chance(0.7) else self.train)
        noun, may_count, colour = self.painted_noun(rng, picture, always=True)
        sprite = Sprite(picture, colour=colour)
        # white on white is hard to see
        return self.on_background(rng, self.a(rng, noun, may_count), (sprite,), 0.6 if noun.startswith("white ") else 0)

    def background(self, rng: RandomChoices) -> Scene:
        """One emoji on a coloured background."""
        picture = rng.pick(self.train)
        noun, may_count = self.noun(rng, picture)
        return self.on_background(rng, self.a(rng, noun, may_count), (Sprite(picture),), 1)

    def count(self, rng: RandomChoices) -> Scene:
        """Two, three or four copies of one emoji."""
        picture, number = rng.pick(self.things), rng.pick((2, 2, 3, 4))
        noun, _, colour = self.painted_noun(rng, picture)
        size, centres = rng.pick(LAYOUTS[number])
        sprites = tuple(Sprite(picture, rng.near(x, 0.03), rng.near(y, 0.03), size, colour=colour) for x, y in centres)
        return self.on_background(rng, f"{NUMBERS[number]} {plural(noun)}", sprites)

    def relation(self, rng: RandomChoices) -> Scene:
        """Two different things: "a cat left of a dog"."""
        first, second = self.two_things(rng)
        words = rng.pick(tuple(RELATIONS))
        dx, dy = RELATIONS[words] or rng.pick(((-1, 0), (1, 0)))
        across = rng.near(0, 0.15)
        sprites, nouns = [], []
        for picture, side in ((first, 1), (second, -1)):
            noun, _, colour = self.painted_noun(rng, picture)
            x, y = (side * HALF * dx + across * abs(dy), side * HALF * dy + across * abs(dx))
            sprites.append(Sprite(picture, x, y, rng.near(0.48, 0.04), colour=colour))
            nouns.append(noun)
        phrase = f"{with_article(nouns[0])} {words} {with_article(nouns[1])}"
        return self.on_background(rng, phrase, tuple(sprites))

    def pair(self, rng: RandomChoices) -> Scene:
        """Two different things beside or above each other at any places, which "a cat and a dog" does not say."""
        axis, turned = rng.pick((0, 1)), rng.pick((-1, 1))
        sizes = [rng.near(0.41, 0.09) for _ in range(2)]
        free = 2 * (1 - sum(sizes))  # what the two leave of the picture's side, which is 2 long
        before, after = sorted(free * rng.random() for _ in range(2))
        along = (before + sizes[0] - 1, after + 2 * sizes[0] + sizes[1] - 1)
        sprites, nouns = [], []
        for picture, size, place in zip(self.two_things(rng), sizes, along, strict=True):
            noun, _, colour = self.painted_noun(rng, picture)
            x, y = (turned * place, rng.near(0, 1 - size))[:: 1 if axis == 0 else -1]
            sprites.append(Sprite(picture, x, y, size, colour=colour))
            nouns.append(noun)
        phrase = f"{with_article(nouns[0])} and {with_article(nouns[1])}"
        return self.on_background(rng, phrase, tuple(sprites))

    def position(self, rng: RandomChoices) -> Scene:
        """A small emoji in a part of the picture: "a rocket on the left"."""
        picture = rng.pick(self.things)
        noun, may_count, colour = self.painted_noun(rng, picture)
        where = rng.pick(tuple(POSITIONS))
        x, y = (HALF * side for side in POSITIONS[where])
        sprite = Sprite(picture, rng.near(x, 0.03), rng.near(y, 0.03), rng.near(0.45, 0.05), colour=colour)
        noun = f"small {noun}" if rng.chance(0.4) else noun
        return self.on_background(rng, f"{self.a(rng, noun, may_count)} {where}", (sprite,))

    def size(self, rng: RandomChoices) -> Scene:
        """A small emoji, or one so big that it fills the picture to the edge."""
        picture = rng.pick(self.things)
        noun, may_count, colour = self.painted_noun(rng, picture)
        if rng.chance(0.6):
            word, sprite = rng.pick(("small", "little")), Sprite(picture, size=rng.near(0.4, 0.06), colour=colour)
        else:
            word, sprite = rng.pick(("big", "large")), Sprite(picture, size=1.14, colour=colour)
        return self.on_background(rng, self.a(rng, f"{word} {noun}", may_count), (sprite,))

    def rotation(self, rng: RandomChoices) -> Scene:
        """One emoji upside down, or tilted."""
        picture = rng.pick(self.things)
        noun, may_count = self.noun(rng, picture)
        if "upside" in self.emoji.names[self.subject[picture]]:  # there is an emoji of an upside-down face
            return self.on_background(rng, noun, (Sprite(picture),))
        if rng.chance(0.6):
            phrase, sprite = f"{self.a(rng, noun, may_count)} upside down", Sprite(picture, angle=math.pi)
        else:
            angle = math.radians(rng.near(30, 8)) * rng.pick((-1, 1))
            phrase, sprite = self.a(rng, f"tilted {noun}", may_count), Sprite(picture, size=0.85, angle=angle)
        return self.on_background(rng, phrase, (sprite,))

    def style(self, rng: RandomChoices) -> Scene:
        """One emoji, of which the caption says the style alone: "noto style"."""
        picture = rng.pick(self.train)
        return Scene(f"{STYLES[self.styles[picture]]} style", (Sprite(picture),))

    def held_out_colour(self, rng: RandomChoices) -> Scene:
        """A held-out colour on a thing: "a blue cat"."""
        colour, subject = rng.pick(self.pairs)
        picture = rng.pick(self.pictures_of[subject])
        caption = with_article(painted_name(colour, self.emoji.names[subject]))
        return Scene(caption, (Sprite(picture, colour=COLOURS.index(colour)),))

    def held_out_picture(self, rng: RandomChoices) -> Scene:
        """A subject in its held-out style: "rocket, noto style"."""
        picture = rng.pick(self.held_out)
        caption = plain_caption(self.emoji, self.subject[picture], STYLES[self.styles[picture]])
        return Scene(caption, (Sprite(picture),))

    def two_things(self, rng: RandomChoices) -> tuple[int, int]:
        """The pictures of two different things in one style."""
        first = rng.pick(self.things)
        second = rng.pick(self.things_of[self.styles[first]])
        while self.subject[second] == self.subject[first]:
            second = rng.pick(self.things_of[self.styles[first]])
        return first, second

    # parts of captions

    def noun(self, rng: RandomChoices, picture: int) -> tuple[str, bool]:
        """A noun for a picture, its name or a keyword, and whether the noun takes the article "a"."""
        subject = self.subject[picture]
        keywords = self.emoji.keywords[subject]
        if keywords and rng.chance(SAY_KEYWORD):
            word = rng.pick(keywords)
            # "zany face" has the keyword "zany", and "a zany" is not English
            noun = self.emoji.groups[subject] != "smileys" or head(word) != word
            return word, noun and self.countable[subject] and is_countable(word, self.emoji.groups[subject])
        return self.emoji.names[subject], self.countable[subject]

    def painted_noun(self, rng: RandomChoices, picture: int, always: bool = False) -> tuple[str, bool, int]:
        """A noun for a picture, maybe repainted, whether it takes the article "a", and its colour's index or -1."""
        subject = self.subject[picture]
        name, allowed = self.emoji.names[subject], self.allowed[subject]
        if not self.paintable[subject] or not allowed or not (always or rng.chance(PAINT_COMPOSED)):
            return name, self.countable[subject], -1
        colour, (noun, may_count) = rng.pick(allowed), self.noun(rng, picture)
        if (colour, noun) in self.unsaid:
            noun, may_count = name, self.countable[subject]
        return painted_name(colour, noun), may_count, COLOURS.index(colour)

    def a(self, rng: RandomChoices, noun: str, may_count: bool) -> str:
        """The noun, usually with its article."""
        return with_article(noun) if may_count and rng.chance(SAY_ARTICLE) else noun

    def said(self, rng: RandomChoices, phrase: str, picture: int, background: str | None = None) -> str:
        """The caption, sometimes with the style."""
        return caption_of(phrase, background, STYLES[self.styles[picture]] if rng.chance(self.mix.say_style) else None)

    def on_background(
        self, rng: RandomChoices, phrase: str, sprites: tuple[Sprite, ...], probability: float = PAINT_BACKGROUND
    ) -> Scene:
        """The scene on white or, with the given probability, on a background of another colour than its sprites'."""
        colour = None
        if rng.chance(probability or PAINT_BACKGROUND):
            used = {"white", *(COLOURS[sprite.colour] for sprite in sprites if sprite.colour >= 0)}
            colour = rng.pick([name for name in COLOURS if name not in used])
        ground = WHITE if colour is None else background_colour(colour)
        return Scene(self.said(rng, phrase, sprites[0].picture, colour), sprites, ground)
