"""A tokenizer in CLIP's own format (byte-level BPE: vocab.json and merges.txt), small enough to read.

    tokenizer = load_tokenizer()
    tokenizer.tokenize("a blue cat")              # ["a</w>", "blue</w>", "cat</w>"]
    encode(tokenizer, ["a blue cat"])             # int64 [1, 32]: begin, a, blue, cat, end, end, end ...

Byte-pair encoding (Sennrich et al., 2016, arXiv:1508.07909) starts from single bytes and repeatedly merges the most
frequent pair in the captions; so the words of the captions become single tokens, and any other word is split into known
pieces.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diffusion_explained
from diffusion_explained.checks import typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.scenes import SceneSampler
from diffusion_explained.micro.words import is_countable, plural

MAX_LENGTH = 32  # tokens, including begin and end; CLIP has 77, our longest captions need about 20
VOCABULARY = 3500  # entries: 256 bytes, 256 bytes that end a word, the merges, begin, end
CAPTIONS = 40_000  # how many captions of training scenes the word frequencies are counted on
BEGIN, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
TOKENIZER_FOLDER = Path(diffusion_explained.__file__).parent / "weights" / "micro" / "tokenizer"


@typed_arguments
def load_tokenizer(folder: str | os.PathLike[str] = TOKENIZER_FOLDER) -> Any:
    """Load the transformers.CLIPTokenizer of a folder, by default the shipped one.

    Raises OSError if it is missing or damaged.
    """
    with extra("sd"):
        from transformers import CLIPTokenizer  # lazy: the import takes seconds

    for name in ("vocab.json", "merges.txt"):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(f"{folder} holds no tokenizer: {name} is missing; build_tokenizer makes one")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds of errors for a damaged file
        raise OSError(f"the tokenizer in {folder} is damaged: {error}. Copy it again.") from error


@typed_arguments
def encode(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Captions as token ids, int64 [B, MAX_LENGTH]: begin, tokens, end, padded with end. Longer captions are cut.

    Raises ValueError for one string instead of a list.
    """
    if not captions:
        return torch.empty(0, MAX_LENGTH, dtype=torch.int64, device="cpu")
    rows = tokenizer(list(captions), padding="max_length", max_length=MAX_LENGTH, truncation=True)["input_ids"]
    return torch.tensor(rows, dtype=torch.int64, device="cpu")


@typed_arguments
def build_tokenizer(emoji: EmojiSet, folder: str | os.PathLike[str], vocabulary: int = VOCABULARY) -> Any:
    """Train the tokenizer on the captions of training scenes and all names; write its files to `folder`, and load it.

    The same set gives the same files. Raises ValueError for a vocabulary too small for any merge.
    """
    alphabet = byte_characters()
    count = vocabulary - 2 * len(alphabet) - 2
    if count < 1:
        raise ValueError(f"a vocabulary needs {2 * len(alphabet) + 2} entries before the first merge")
    merges = learn_merges(caption_corpus(emoji), count)
    entries = [*alphabet, *(letter + WORD_END for letter in alphabet), *(a + b for a, b in merges), BEGIN, END]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_LENGTH, **special}
    write_json(folder / "vocab.json", {entry: i for i, entry in enumerate(entries)})
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", special)
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_tokenizer(folder)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in the same format as transformers."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@typed_arguments
def caption_corpus(emoji: EmojiSet) -> list[str]:
    """The texts that the tokenizer is trained on: captions of scenes, and every name, plural and keyword once more."""
    names = [*emoji.names, *(word for words in emoji.keywords for word in words)]
    plurals = [plural(name) for name, group in zip(emoji.names, emoji.groups, strict=True) if is_countable(name, group)]
    return [*SceneSampler(emoji).batch(range(CAPTIONS)).captions, *names, *plurals]


def learn_merges(corpus: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` merges of byte-pair encoding (fewer if the corpus has no more), most frequent pair first.

    Of equally frequent pairs the alphabetically first is merged. The trainer of the tokenizers library chooses one at
    random, so that its results differ between runs.
    """
    words = {tuple([*word[:-1], word[-1] + WORD_END]): uses for word, uses in count_words(corpus).items()}
    pairs: Counter[tuple[str, str]] = Counter()
    for word, uses in words.items():
        for pair in pairwise(word):
            pairs[pair] += uses
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] <= 0:
            break
        merges.append(best)
        for word in [word for word in words if best in pairwise(word)]:
            uses, joined = words.pop(word), join(word, best)
            for pair in pairwise(word):
                pairs[pair] -= uses
            for pair in pairwise(joined):
                pairs[pair] += uses
            words[joined] = words.get(joined, 0) + uses
    return merges


def count_words(corpus: Iterable[str]) -> Counter[str]:
    """How often each word occurs; words are split by CLIP's rules, and spelled in the characters of their bytes."""
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer().backend_tokenizer
    return Counter(
        word for text in corpus for word, _ in clip.pre_tokenizer.pre_tokenize_str(clip.normalizer.normalize_str(text))
    )


def join(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Merge every occurrence of a pair in a word of pieces, from the left."""
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


def byte_characters() -> list[str]:
    """A printable character for each of the 256 bytes, as in GPT-2 and CLIP: "a" is "a", a space is "Ġ".

    Printable bytes stand for themselves; the others get the characters from 256 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


@typed_arguments
def known_words(emoji: EmojiSet) -> list[str]:
    """Every word of the names and keywords, in alphabetical order: the words that a prompt can use."""
    return sorted({word for phrase in (*emoji.names, *sum(emoji.keywords, ())) for word in phrase.split()})
