"""CLIP's vocabulary: 49,408 pieces of text, made from the 256 bytes by 48,894 merges.

    byte pair encoding (Sennrich et al. 2016): join the pair of pieces that is earliest in the list, until none is left

A model folder brings its own vocabulary; a single file has none, and every CLIP that such a file holds reads this one.
`recipes/clip_merges.py` writes the list, and CLIP_MERGES.md beside it names its source and licence.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from diffusion_explained.extras import extra
from diffusion_explained.files import read_bytes

FILE = Path(__file__).parent / "published" / "clip_merges.txt.xz"
MERGES = 48_894
START, END = "<|startoftext|>", "<|endoftext|>"


def letters() -> list[str]:
    """The 256 characters that stand for the bytes, in the order of the vocabulary: printable ones stand for themselves.

    Of CLIP's tokenizer (Radford et al. 2019, `bytes_to_unicode`).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def vocabulary(pieces: Iterable[str]) -> dict[str, int]:
    """From pieces to ids: the bytes, the bytes at the end of a word, these pieces, and the start and end of a text."""
    alphabet = letters()
    whole = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet), *pieces, START, END])
    return {piece: number for number, piece in enumerate(whole)}


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """CLIP's merges, the earliest first. Raises OSError for a file that is missing or damaged."""
    try:
        lines = lzma.decompress(read_bytes(FILE, "list of CLIP's merges")).decode().splitlines()
        pairs = tuple((first, second) for first, second in (line.split(" ") for line in lines))
    except (lzma.LZMAError, ValueError) as error:
        raise OSError(f"{FILE} is damaged: install the package again.") from error
    if len(pairs) != MERGES:
        raise OSError(f"{FILE} has {len(pairs)} merges where CLIP has {MERGES}: install the package again.")
    return pairs


def clip_tokenizer(pad: str = END) -> Any:
    """CLIP's tokenizer of 77 tokens, a `CLIPTokenizer` of transformers, padding with this piece."""
    with extra("sd"):
        from transformers import CLIPTokenizer

    joined = vocabulary(first + second for first, second in merges())
    pairs: list[Any] = list(merges())  # pairs, which transformers accepts but does not annotate
    return CLIPTokenizer(vocab=joined, merges=pairs, model_max_length=77, pad_token=pad, unk_token=END)
