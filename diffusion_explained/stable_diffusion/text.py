"""From a prompt to the text condition of every step: tokens, padding, and the text encoders' embeddings.

Stable Diffusion's CLIP reads 77 tokens: a start token, at most 75 tokens of the prompt, an end token, and padding. A
longer prompt is cut off, and the part that was cut off is reported. diffusers' own encode_prompt does the encoding, so
the embeddings are those of diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import torch_defaults
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.families import XL

T5_LENGTH = 256  # tokens, as diffusers gives Stable Diffusion 3's third encoder


@dataclass(frozen=True)
class Tokens:
    """One prompt as one text encoder reads it.

    encoder: the text encoder's name in the pipeline; ids: all token ids, padding included; pieces: the vocabulary
    entry of each id.
    words: (word, number of its tokens), without the special tokens.
    used: the number of ids before the padding, start and end tokens included; cut: the end of the prompt that did not
    fit.
    """

    encoder: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    words: tuple[tuple[str, int], ...]
    used: int
    cut: str

    @property
    def padding(self) -> int:
        """The number of padding ids."""
        return len(self.ids) - self.used


@dataclass(frozen=True)
class Text:
    """Encoded prompts, and the encoded negative (or empty) prompts for guidance.

    prompts, negative: the texts [B]; negative is None for the pipeline's own "no text".
    tokens: for each prompt one `Tokens` per text encoder; negative_tokens likewise, empty where negative is None.
    embeds, negative_embeds: [B, L, D], L = 77 (Stable Diffusion 3 with T5: 77 + 256).
    pooled, negative_pooled: [B, P] for the families that use one vector for the whole text, else None.
    """

    prompts: tuple[str, ...]
    negative: tuple[str, ...] | None
    tokens: tuple[tuple[Tokens, ...], ...]
    negative_tokens: tuple[tuple[Tokens, ...], ...]
    embeds: Tensor
    negative_embeds: Tensor
    pooled: Tensor | None = None
    negative_pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def cut(self) -> tuple[str, ...]:
        """For each prompt the part that the first text encoder cut off, "" if nothing was."""
        return tuple(tokens[0].cut for tokens in self.tokens)

    def conditions(self, count: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The conditions of `count` images with the prompt, and with the negative prompt, for a `NetworkDenoiser`.

        A condition is what the network reads of a text: (embeds [count, L, D],), and for the families with a vector for
        the whole text (embeds, pooled [count, P]). One prompt serves all images, or there is one per image.

        Raises ValueError when the number of prompts is neither 1 nor `count`.
        """
        if len(self) not in (1, count):
            raise ValueError(f"There are {len(self)} prompts for {count} images: give one prompt, or one per image.")

        def condition(*tensors: Tensor | None) -> tuple[Tensor, ...]:
            # contiguous: with the strides of `expand`, a matrix product may round differently
            return tuple(x.expand(count, *x.shape[1:]).contiguous() for x in tensors if x is not None)

        return condition(self.embeds, self.pooled), condition(self.negative_embeds, self.negative_pooled)


def prompts_of(prompt: str | Sequence[str], what: str = "prompt") -> tuple[str, ...]:
    """One prompt or several as a tuple. Raises ValueError for a prompt that is not a text, or cannot be written."""
    prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise ValueError(f"{what} must be a text, or a list of texts, one per image; got {prompt!r}.")
    for text in prompts:
        if re.search("[\ud800-\udfff]", text):  # what Python makes of a command line's bytes that are not UTF-8
            raise ValueError(f"{what} has a character that is not Unicode: {shortened(text)}. Write it in UTF-8.")
    return prompts


def tokenize(tokenizer: Any, prompt: str, encoder: str, length: int) -> Tokens:
    """Tokenize a prompt, pad it to `length` tokens, and keep the text that did not fit as `cut`."""
    whole = tokenizer(prompt, truncation=False).input_ids
    ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    used = min(len(whole), length)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    words, group = [], []
    for place in range(used):
        if ids[place] in tokenizer.all_special_ids:
            continue
        group.append(ids[place])
        after = pieces[place + 1] if place + 1 < used else ""
        # CLIP's vocabulary marks the end of a word, T5's the beginning; a new word is whole
        new = ids[place] in tokenizer.added_tokens_decoder
        if new or pieces[place].endswith("</w>") or after.startswith("▁") or place + 1 >= used - 1:
            words.append((tokenizer.decode(group).strip(), len(group)))
            group = []
    cut = tokenizer.decode(whole[length - 1 : -1]).strip() if len(whole) > length else ""
    return Tokens(encoder, tuple(ids), tuple(pieces), tuple(words), used, cut)


def tokenizers(pipe: Any) -> list[tuple[str, Any, int]]:
    """(the text encoder's name, its tokenizer, the length to pad to) for each text encoder of a pipeline.

    The length of CLIP is its tokenizer's; in Stable Diffusion 3 both CLIPs have the first tokenizer's, as in diffusers.
    """
    found = []
    for number in ("", "_2", "_3"):
        tokenizer = getattr(pipe, f"tokenizer{number}", None)
        if tokenizer is not None and getattr(pipe, f"text_encoder{number}", None) is not None:
            own = getattr(pipe, "tokenizer_max_length", tokenizer.model_max_length)
            found.append((f"text_encoder{number}", tokenizer, T5_LENGTH if number == "_3" else own))
    return found


@torch_defaults()  # for the tensors that transformers and diffusers create
@torch.no_grad()
def encode_text(
    pipe: Any,
    family: str,
    device: torch.device,
    prompt: str | Sequence[str],
    negative: str | Sequence[str] | None = None,
) -> Text:
    """Encode prompts [B] and negative prompts with a pipeline's tokenizers and text encoders.

    negative: one text for all prompts, or one per prompt; None is the family's own "no text": the empty prompt, or for
    Stable Diffusion XL, if its configuration says so, zeros.

    Raises ValueError for prompts that are not texts, and for a wrong number of negative prompts.
    """
    prompts = prompts_of(prompt)
    away = None if negative is None else prompts_of(negative, "negative")
    if away is not None and len(away) not in (1, len(prompts)):
        raise ValueError(
            f"There are {len(away)} negative prompts for {len(prompts)} prompts: give one, or one per prompt."
        )
    away = away * len(prompts) if away is not None and len(away) == 1 else away
    options: dict[str, Any] = {"device": device, "num_images_per_prompt": 1}
    if family == "sd3":
        options |= {"prompt_2": None, "prompt_3": None, "max_sequence_length": T5_LENGTH}
    zeros = family in XL and away is None and pipe.config.force_zeros_for_empty_prompt
    # both sides in one batch: half the passes through the text encoders
    texts = [*prompts] if zeros else [*prompts, *(away or [""] * len(prompts))]
    encoded = pipe.encode_prompt(prompt=texts, do_classifier_free_guidance=False, **options)
    embeds, pooled = encoded[0], encoded[2] if len(encoded) == 4 else None

    def sides(rows: Tensor) -> tuple[Tensor, Tensor]:
        cond, uncond = (rows, torch.zeros_like(rows)) if zeros else rows.chunk(2)
        return cond, uncond

    cond, uncond = sides(embeds)
    cond_pooled, uncond_pooled = (None, None) if pooled is None else sides(pooled)

    def read_as(text: str, tokenizer: Any) -> str:
        """The text with each new word of several vectors written out, as diffusers gives it to the tokenizer."""
        return pipe.maybe_convert_prompt(text, tokenizer) if hasattr(pipe, "maybe_convert_prompt") else text

    def all_tokens(texts: Sequence[str]) -> tuple[tuple[Tokens, ...], ...]:
        read = tokenizers(pipe)
        return tuple(tuple(tokenize(t, read_as(text, t), name, n) for name, t, n in read) for text in texts)

    return Text(prompts, away, all_tokens(prompts), all_tokens(away or ()), cond, uncond, cond_pooled, uncond_pooled)
