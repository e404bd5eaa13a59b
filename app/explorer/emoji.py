"""The emoji that ship with the package, on white, as the pages show and encode them."""

import streamlit as st
from torch import Tensor

from diffusion_explained.micro.emoji import STYLES, EmojiSet, load_emoji_sample
from diffusion_explained.micro.reconstruction import on_white
from explorer import controls, page

USUAL = "red heart"
OPAQUE = 127  # of 255


@st.cache_resource(show_spinner="Unpacking the emoji")
def _unpacked() -> EmojiSet:
    return load_emoji_sample()


def sample() -> EmojiSet:
    """The emoji; callers only read them."""
    with page.needed("The file of emoji that ships with the package"):
        return _unpacked()


def names() -> tuple[str, ...]:
    """All names, in alphabetical order."""
    return tuple(sorted(sample().names))


def styles_of(name: str) -> tuple[str, ...]:
    """The styles in which a subject is drawn."""
    emoji = sample()
    return tuple(STYLES[style] for style in emoji.style[emoji.subject == emoji.names.index(name)].tolist())


def emoji(name: str, style: str) -> Tensor:
    """One emoji on white, [1, 3, 128, 128] in [-1, 1]."""
    return on_white(sample().images[_chosen(name, style)][:1])


def shape(name: str, style: str) -> Tensor:
    """Where one emoji is drawn, bool [1, 128, 128]."""
    held = sample()
    return held.images[_chosen(name, style)][:1, 3] > OPAQUE


def _chosen(name: str, style: str) -> Tensor:
    held = sample()
    return (held.subject == held.names.index(name)) & (held.style == STYLES.index(style))


def pick(where: str, key: str, usual: str = USUAL) -> tuple[str, str]:
    """The controls for one emoji: its name (a list with search) and its style, in the address under `key`."""
    known = names()
    first = known.index(usual) if usual in known else 0
    name = controls.choice(st, where, known, known[first], key=key)
    return name, controls.segments(st, "Style", styles_of(name), styles_of(name)[0], key=f"{key}_style")
