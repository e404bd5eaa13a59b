"""Whether a tokenizer fits its text encoder: its special tokens, its length, and the token at which a text is pooled.

A tokenizer's configuration is spread over tokenizer_config.json, special_tokens_map.json and tokenizer.json, and
published models have files that contradict each other. transformers decides which one counts, so these rules are for
the tokenizer that it builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.families import XL
from diffusion_explained.stable_diffusion.text import tokenizers

FILES = "tokenizer_config.json (or special_tokens_map.json)"
CONFIG = "tokenizer_config.json"
# the start and end tokens that the text encoders were trained with, if the vocabulary has them
CLIP_TOKENS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
T5_TOKENS = {"eos_token": "</s>"}
# the text encoders whose pooled output is part of the condition
POOLED = {"sd": (), **dict.fromkeys(XL, ("text_encoder_2",)), "sd3": ("text_encoder", "text_encoder_2")}
HIGHEST = 2  # an eos_token_id of old files: transformers then pools at the highest token id of a text


def check_special_tokens(where: str, tokenizer: Any, vocab: Mapping[str, int], vocab_size: int, *, t5: bool) -> None:
    """Raise ValueError for a special token that is another one than its text encoder's, unknown, or a part of words.

    where: the tokenizer's name in messages. vocab_size: the number of token ids that the text encoder knows.
    """
    trained = T5_TOKENS if t5 else CLIP_TOKENS
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        piece, own = getattr(tokenizer, key), trained.get(key)
        if own in vocab and piece != own:
            allowed = repr(own)
        elif piece is None and key == "pad_token":
            allowed = "a piece of its vocabulary, because every text is padded"
        elif piece is not None and vocab.get(piece, vocab_size) >= vocab_size:
            allowed = f"a piece of its vocabulary (ids 0 to {vocab_size - 1})"
        elif piece is not None and piece.isalnum():  # "a": the word cat would be cut into c, a and t
            allowed = "a piece that is not only letters and digits, because words are cut at special tokens"
        else:
            continue
        raise ValueError(
            f"{where}: {FILES} sets {key} to {'null' if piece is None else shortened(piece)}; supported is {allowed}. "
            "Copy or download its files again."
        )


def direct(_: str, call: Callable[[], Any]) -> Any:
    """Call a tokenizer's method, and leave its errors as they are."""
    return call()


def check_tokenizers(
    pipe: Any, family: str, where: str, attempt: Callable[[str, Callable[[], Any]], Any] = direct
) -> None:
    """Raise ValueError for a tokenizer of a pipeline that does not fit its text encoder, or not its own vocabulary.

    where: the model's name in messages; attempt: calls a tokenizer's method, given its name for errors.
    """
    lengths = {}
    for encoder, tokenizer, length in tokenizers(pipe):
        name, config = encoder.replace("text_encoder", "tokenizer"), getattr(pipe, encoder).config
        _check_vocabulary(f"{name} of {where}", name, tokenizer, config.vocab_size, attempt)
        positions = getattr(config, "max_position_embeddings", None)
        if positions is None:  # T5 has relative positions, and a length of its own
            continue
        if type(length) is not int or not 3 <= length <= positions:  # a start token, a token of text, an end token
            raise ValueError(
                f"{where}: {name} pads texts to {shortened(length)} tokens, its model_max_length in {CONFIG} "
                f"(transformers' own number if the key is missing or null); supported is a whole number from 3 to "
                f"{positions}, the max_position_embeddings in {encoder}/config.json. Correct the file, or copy or "
                "download it again."
            )
        lengths[name] = length
        if encoder in POOLED[family]:
            _check_end(f"{where}: {encoder}/config.json", config.eos_token_id, name, tokenizer)
    if len(set(lengths.values())) > 1:
        each = " and ".join(f"{length} in {name}/{CONFIG}" for name, length in lengths.items())
        raise ValueError(f"{where}: model_max_length is {each}; supported are equal lengths. Correct one of the files.")


def _check_end(where: str, eos_token_id: int, name: str, tokenizer: Any) -> None:
    """Raise ValueError if transformers would pool a text at another token than the tokenizer's end token."""
    end, added = tokenizer.eos_token_id, tokenizer.get_added_vocab()
    others = [number for piece, number in tokenizer.get_vocab().items() if piece not in added]
    others += [number for number in (tokenizer.bos_token_id, tokenizer.pad_token_id) if number is not None]
    highest = end >= max(others)
    if not (highest if eos_token_id == HIGHEST else eos_token_id == end):
        legacy = f", or {HIGHEST} (the highest id of a text)" if highest else ""
        raise ValueError(
            f"{where} sets eos_token_id to {eos_token_id}, the token at which texts are pooled; supported is {end}, "
            f"the id of the end token of {name}{legacy}. Correct the file, or copy or download it again."
        )


def _check_vocabulary(
    where: str, name: str, tokenizer: Any, vocab_size: int, attempt: Callable[[str, Callable[[], Any]], Any]
) -> None:
    """Raise ValueError for a tokenizer with ids beyond the embeddings, or that does not use its own vocabulary."""
    vocab = attempt(name, tokenizer.get_vocab)
    check_special_tokens(where, tokenizer, vocab, vocab_size, t5=name == "tokenizer_3")
    beyond = [piece for piece, number in vocab.items() if number >= vocab_size]
    if len(vocab) < 3 or beyond:
        raise ValueError(
            f"{where} knows {len(vocab)} pieces, and its text encoder {vocab_size}: they belong to two models, or the "
            "tokenizer's files are damaged. Copy or download them again."
        )
    ends = [
        p
        for p in sorted(vocab, key=vocab.get)
        if p.endswith("</w>") and len(p) > 5 and p[:-4].isascii() and p[:-4].isalpha()
    ]
    tried = ends[:64]
    found = attempt(name, lambda: [tokenizer(piece.removesuffix("</w>")).input_ids[1:-1] for piece in tried])
    kept = sum(ids == [vocab[piece]] for ids, piece in zip(found, tried, strict=True))
    if 2 * kept < len(tried):
        raise ValueError(
            f"{where} does not join letters to the pieces of its vocabulary ({kept} of {len(tried)} tried): its merges "
            "are missing or damaged. Copy or download them again."
        )
