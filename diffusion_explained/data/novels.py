"""Jane Austen's six novels, in small letters: the text on which the course's text models are trained.

text = novels("train")              # five novels, 3.4 million letters
unseen = novels("test")             # Persuasion, which no model was trained on
"""

import lzma
from functools import cache
from pathlib import Path

from diffusion_explained.data.hub import DamagedDataError
from diffusion_explained.files import read_bytes
from diffusion_explained.messages import unknown_name

FILE = Path(__file__).with_name("novels.txt.xz")  # made by recipes/novels.py, described in NOVELS.md
LETTERS = " abcdefghijklmnopqrstuvwxyz.,;:'\"!?-"
TITLES = ("Emma", "Mansfield Park", "Northanger Abbey", "Pride and Prejudice", "Sense and Sensibility", "Persuasion")
SPLITS = {"train": slice(0, 5), "test": slice(5, 6)}  # whole novels: no sentence of the test was seen in training


@cache
def novels(split: str) -> str:
    """The text of a split: "train", five novels, or "test", Persuasion. All its letters are of `LETTERS`.

    Raises ValueError for another split, DamagedDataError for a file that is missing, truncated or altered.
    """
    if split not in SPLITS:
        raise unknown_name("split of the novels", split, SPLITS)
    try:
        lines = lzma.decompress(read_bytes(FILE, "text")).decode("ascii").split("\n")
        if len(lines) != len(TITLES) or not set("".join(lines)) <= set(LETTERS):
            raise ValueError("it does not hold six novels in the networks' letters")
    except (OSError, ValueError, lzma.LZMAError, EOFError) as error:
        raise DamagedDataError(f"{FILE} is damaged: {error}. Install the package again.") from error
    return " ".join(lines[SPLITS[split]])
