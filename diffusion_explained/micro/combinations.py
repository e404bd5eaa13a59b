"""What can be combined: captions from parts, the subjects of composed scenes, and the held-out colours of subjects."""

from __future__ import annotations

import re

from diffusion_explained.checks import typed_arguments
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

VARIANT = re.compile(r"(man|woman|person|bald|old|older) ")  # "woman pilot"; only "pilot" is used in composed scenes


@typed_arguments
def caption_of(phrase: str, background: str | None = None, style: str | None = None) -> str:
    """A caption from its parts: "two cats on a green background, noto style"."""
    if background is not None:
        phrase = f"{phrase} on {with_article(background)} background"
    return phrase if style is None else f"{phrase}, {style} style"


@typed_arguments
def plain_caption(emoji: EmojiSet, subject: int, style: str | None = None) -> str:
    """The plainest caption of a subject, as used in measurements: its name, and a style if one is given."""
    return caption_of(emoji.names[subject], style=style)


@typed_arguments
def held_out_pairs(emoji: EmojiSet) -> list[tuple[str, int]]:
    """The held-out combinations of this set that a person might ask for: (colour, index of the subject).

    Only subjects that training uses in composed scenes; without combinations that exist as emoji (purple heart),
    because training shows those unpainted. `painted_name` gives the name: red apple in purple is "purple apple".
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
    """Whether a subject may be repainted: its name has no colour, or one in front: "red heart", not "leafy green".

    People are not repainted: a colour word for a person would be read as a skin colour.
    """
    if group == "people":
        return False
    return not colour_words(name) or (len(colour_words(name)) == 1 and name.split()[0] in COLOURS)


def painted_name(colour: str, name: str) -> str:
    """The name of a repainted subject: "blue cat", and "blue heart" for a red heart painted blue."""
    return f"{colour} {without_colour(name)}"


@typed_arguments
def composable(emoji: EmojiSet) -> list[int]:
    """The subjects of scenes with counts, positions and relations: countable ones with a name of one or two words.

    The men and women of each profession are left out; otherwise they would be a fifth of all scenes.
    """
    return [
        subject
        for subject, (name, group) in enumerate(zip(emoji.names, emoji.groups, strict=True))
        if len(without_colour(name).split()) <= 2 and is_countable(name, group) and not VARIANT.match(name)
    ]
