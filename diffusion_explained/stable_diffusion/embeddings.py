"""Textual inversion: new words for a text encoder, each of one vector or several (Gal et al. 2022, Sec. 4).

    the prompt "a photo of <cat>" is read as "a photo of <cat> <cat>_1 <cat>_2" if the file has three vectors

| file                      | its tensors                          | the word             |
|---------------------------|--------------------------------------|----------------------|
| diffusers                 | one, named by the word: [D] or [n, D] | its name             |
| A1111, ComfyUI            | emb_params [n, D]                    | the file's name      |
| Stable Diffusion XL       | clip_l [n, 768] and clip_g [n, 1280] | the file's name      |
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.headers import Header, read_header, tensors_of
from diffusion_explained.stable_diffusion.weights import single_file

ENCODERS = {"sd": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2")}
OF_XL = ("clip_l", "clip_g")
OF_A1111 = "emb_params"
MODELS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 1280: "Stable Diffusion XL"}
MOST_VECTORS = 75


def load_embedding(
    path: str | os.PathLike[str], pipe: Any, family: str, before: dict[str, tuple[Any, int]], token: str | None = None
) -> str:
    """Add the word of a textual inversion to a pipeline's tokenizers and text encoders; the word.

    before: for each text encoder its tokenizer, and its number of tokens, as they were before the first word; filled
    in here for `unload_embeddings`.

    Raises ValueError for a file with something else, vectors of another model, or a word that exists already; OSError
    for a damaged file.
    """
    file = single_file(os.fspath(path), "textual inversion")
    if family not in ENCODERS:
        raise ValueError("Textual inversions are read for Stable Diffusion 1.x, 2.x and XL.")
    vectors, word = _vectors(tensors_of(file), file)
    word = token or word
    encoders = ENCODERS[family]
    widths = [getattr(pipe, encoder).config.hidden_size for encoder in encoders]
    given = [x.shape[1] for x in vectors]
    if given != widths:
        made_for = MODELS.get(given[-1], "another model")
        raise ValueError(f"{file} has vectors of {' and '.join(map(str, given))} numbers, as {made_for}, and the text "
                         f"encoders of this model read {' and '.join(map(str, widths))}.")  # fmt: skip
    tokenizers = [getattr(pipe, encoder.replace("text_encoder", "tokenizer")) for encoder in encoders]
    if not word or any(letter.isspace() for letter in word) or any(word in one.get_vocab() for one in tokenizers):
        raise ValueError(f"The word {shortened(word)} exists already, is empty or has a space: give another token.")
    for encoder, tokenizer, x in zip(encoders, tokenizers, vectors, strict=True):
        network = getattr(pipe, encoder)
        _pool_at_the_end(network, tokenizer)
        if encoder not in before:
            before[encoder] = tokenizer, len(network.get_input_embeddings().weight)
            tokenizer = _copy_of(tokenizer)
            setattr(pipe, encoder.replace("text_encoder", "tokenizer"), tokenizer)
        pipe.load_textual_inversion(x, token=word, tokenizer=tokenizer, text_encoder=network)
        network.eval().requires_grad_(False)
    return word


def unload_embeddings(pipe: Any, before: dict[str, tuple[Any, int]]) -> None:
    """Take all new words away again: tokenizers and text encoders are those of before, to the bit."""
    for encoder, (tokenizer, count) in before.items():
        setattr(pipe, encoder.replace("text_encoder", "tokenizer"), tokenizer)
        network = getattr(pipe, encoder)
        network.resize_token_embeddings(count)
        network.eval().requires_grad_(False)
    before.clear()


def word_of(path: str | os.PathLike[str]) -> str:
    """The word that a textual inversion's file has for its vectors, by its header. Errors as for `load_embedding`."""
    file = single_file(os.fspath(path), "textual inversion")
    header = read_header(file)
    if not is_embedding(header):
        raise _not_one(file, header.shapes)
    name = next(iter(header.shapes))
    return file.stem if name in (OF_A1111, *OF_XL) else name


def is_embedding(header: Header) -> bool:
    """Whether a file holds the vectors of new words, by the names and shapes of its tensors."""
    names = set(header.shapes)
    alone = len(names) == 1 and "." not in next(iter(names)) and len(next(iter(header.shapes.values()))) in (1, 2)
    return names == set(OF_XL) or alone


def _vectors(tensors: dict[str, Tensor], file: Path) -> tuple[list[Tensor], str]:
    """([n, D] of each text encoder, the word that the file has)."""
    if set(tensors) == set(OF_XL):
        found, word = [tensors[name] for name in OF_XL], file.stem
    elif len(tensors) == 1:
        name = next(iter(tensors))
        found, word = [tensors[name]], file.stem if name == OF_A1111 else name
    else:
        found, word = [], ""
    found = [x[None] if x.ndim == 1 else x for x in found]
    if not found or any(x.ndim != 2 or not x.is_floating_point() or not bool(x.isfinite().all()) for x in found):
        raise _not_one(file, tensors)
    if len({len(x) for x in found}) > 1 or not 1 <= len(found[0]) <= MOST_VECTORS:
        raise ValueError(f"{file} has {' and '.join(str(len(x)) for x in found)} vectors: supported are 1 to "
                         f"{MOST_VECTORS}, as many for each text encoder.")  # fmt: skip
    return found, word


def _not_one(file: Path, names: Iterable[str]) -> ValueError:
    return ValueError(f"{file} is no textual inversion: it holds {', '.join(map(shortened, list(names)[:3]))}.")


def _copy_of(tokenizer: Any) -> Any:
    """The same tokenizer again, through its files: a deep copy of CLIP's no longer decodes to words."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return type(tokenizer).from_pretrained(folder)


def _pool_at_the_end(network: Any, tokenizer: Any) -> None:
    """Pool a text at its end token: old configurations say 2, at which transformers pools at the highest id.

    The ids of new words are higher than that of the end.
    """
    network.config.eos_token_id = tokenizer.eos_token_id
    for module in network.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id
