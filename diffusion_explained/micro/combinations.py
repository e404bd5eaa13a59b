"""What can be combined: captions from their parts, the things that are composed, the colours of them held out."""

from __future__ import annotations

import re

from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.words import (
    COLOURS,
    colour_words,
    head,
    is_countable,
    is_held_out_colour,
    with_article,
    without_colour,
)

VARIANT = re.compile(r"(man|woman|person|bald|old|older) ")  # "woman pilot"; the pilot alone is composed


def caption_of(phrase: str, background: str | None = None, style: str | None = None) -> str:
    """A caption from its parts: "two cats on a green background, noto style"."""
    if background is not None:
        phrase = f"{phrase} on {with_article(background)} background"
    return phrase if style is None else f"{phrase}, {style} style"


def plain_caption(emoji: EmojiSet, subject: int, style: str | None = None) -> str:
    """The plainest caption of a subject, as it is asked for in measurements: its name, and a style if one is given."""
    return caption_of(emoji.names[subject], style=style)


def held_out_pairs(emoji: EmojiSet) -> list[tuple[str, int]]:
    """The held-out combinations of this set that a person would ask for: (colour, index of the subject).

    Only of things that are composed in training too; without those that are emoji as they are (purple heart), because
    training sees them plain. Said with `painted_name`: red apple is held out in purple as "purple apple".
    """
    natural = {(colour, head(name)) for name in emoji.names for colour in colour_words(name)}
    return [
        (colour, subject)
        for subject in composable(emoji)
        for colour in COLOURS
        if is_held_out_colour(colour, emoji.names[subject])
        and (colour, head(emoji.names[subject])) not in natural
        and is_paintable(emoji.names[subject], emoji.groups[subject])
    ]


def is_paintable(name: str, group: str) -> bool:
    """Whether another colour can be said of it: its name says none, or one in front: "red heart", not "leafy green".

    People are not repainted: a colour said of a person would be read as one of skin.
    """
    if group == "people":
        return False
    return not colour_words(name) or (len(colour_words(name)) == 1 and name.split()[0] in COLOURS)


def painted_name(colour: str, name: str) -> str:
    """What a repainted thing is called: "blue cat", and "blue heart" for a red heart painted blue."""
    return f"{colour} {without_colour(name)}"


def composable(emoji: EmojiSet) -> list[int]:
    """The subjects that are counted, placed and related: countable things with a name of one word or two.

    Without the men and women of every trade, who would be a fifth of all scenes.
    """
    return [
        subject
        for subject, (name, group) in enumerate(zip(emoji.names, emoji.groups, strict=True))
        if len(without_colour(name).split()) <= 2 and is_countable(name, group) and not VARIANT.match(name)
    ]
