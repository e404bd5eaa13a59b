"""Emoji in three styles, drawn at 128 x 128, with their names: the training pictures of micro.

emoji = load_emoji()                    # from the cache; load_emoji(download=True) builds it from the npm registry
emoji = load_emoji_sample()             # 154 subjects that are part of the package
emoji.names[emoji.subject[0]]           # "grinning face"
"""

from __future__ import annotations

from pathlib import Path

from diffusion_explained import data
from diffusion_explained.checks import typed_arguments
from diffusion_explained.data.hub import DataUnavailableError
from diffusion_explained.data.load import cache_folder
from diffusion_explained.micro.emoji_building import build_emoji
from diffusion_explained.micro.emoji_set import HELD_OUT, SIZE, STYLES, EmojiSet, hashed, read_emoji, write_emoji

__all__ = [
    "HELD_OUT", "SAMPLE_FILE", "SIZE", "STYLES", "EmojiSet", "emoji_file", "hashed", "load_emoji", "load_emoji_sample",
    "read_emoji", "write_emoji",
]  # fmt: skip

SAMPLE_FILE = Path(data.__file__).with_name("emoji_sample.safetensors")


def emoji_file() -> Path:
    """The file of the whole set; copy this one file to use the set on another machine."""
    return cache_folder() / f"emoji-{SIZE}.safetensors"


@typed_arguments
def load_emoji(download: bool = False) -> EmojiSet:
    """Load the whole set from the cache; if it is missing and `download`, build it from the npm registry (minutes).

    Building needs a rasteriser of SVG (the extra `train`). Raises DataUnavailableError if the set is not in the cache
    and cannot be built, DamagedDataError if its file has changed since it was written. Both are OSErrors.
    """
    path = emoji_file()
    if not path.is_file():
        if not download:
            raise DataUnavailableError(
                f"The emoji are not on this machine ({path} is missing). Build them once, with a network: "
                f"load_emoji(download=True); or copy the file from a machine that has it; "
                f"or use the ones that are part of the package: load_emoji_sample()."
            )
        build_emoji(path)
    return read_emoji(path, "Delete it and build it again: load_emoji(download=True).")


def load_emoji_sample() -> EmojiSet:
    """Load the 154 subjects, each in three styles, that are part of the package. Raises DamagedDataError."""
    return read_emoji(SAMPLE_FILE, "Install the package again.")
