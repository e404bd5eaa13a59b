"""Runs that are drawn while the visitor waits, and kept whole: the latents and the attention of every step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.film import Film
from diffusion_explained.micro.retrieval import Retrieval, embed_captions, load_retrieval, rank
from diffusion_explained.samplers import Step
from explorer import page, stable, vocabulary
from explorer.cache import named_cache
from explorer.stable import Ask, RunStart
from explorer.turns import HEAVY, Tell, held


@dataclass(frozen=True, eq=False)
class Drawing:
    """A finished run of B images.

    steps: all of them; pictures: [B, 3, H, W]; tokens: the prompt's, one dict per encoder, as in a trace;
    columns, maps: of `attention.record_attention`, the words and [B, n, columns, h, w]; key: identifies the drawing.
    """

    key: tuple[object, ...]
    model: str
    label: str
    steps: tuple[Step, ...]
    pictures: Tensor
    tokens: tuple[dict, ...]
    text_shape: tuple[int, ...]
    columns: tuple[str, ...]
    maps: Tensor


def draw(name: str, ask: Ask, start: RunStart, tell: Tell) -> Drawing:
    """Run a small model, loading it first if necessary. Raises the engine's ValueErrors and OSErrors."""
    key = stable.asked(name, ask, start)

    def make(tell: Tell) -> Drawing:
        from diffusion_explained.stable_diffusion.attention import record_attention

        here = stable.load(stable.models(), name, tell)
        model, options = here.model, ask.options() | start.options()
        prompt, negative = options.pop("prompt"), options.pop("negative")
        steps: list[Step] = []
        with held(here.turn, tell, stable.BUSY), HEAVY.turn(tell) as turn:
            text = model.encode_text(prompt, negative)
            with record_attention(model, text) as attention:
                for step in model.steps(text, **options):
                    attention.after(step)
                    steps.append(step)
                    turn((step.i + 1) / ask.num_inference_steps, f"step {step.i + 1} of {ask.num_inference_steps}")
            maps = torch.stack([attention.maps(image) for image in range(len(ask.seeds))])
            pictures = model.decode(steps[-1].x_next)
        tokens = tuple(asdict(one) for one in text.tokens[0])
        shape = tuple(text.embeds.shape[1:])
        return Drawing(key, model.name, model.label, tuple(steps), pictures, tokens, shape, attention.columns(), maps)

    return named_cache("drawings", 32).get(key, make, tell)


def films(name: str, drawing: Drawing, image: int, tell: Tell) -> tuple[Film, Film | None]:
    """The film of one image's steps, and that of its words' attention; the latter is None for a prompt without "
    "words."""

    def make(tell: Tell) -> tuple[Film, Film | None]:
        from diffusion_explained.stable_diffusion.image_films import decoded, step_film, word_film

        model = stable.load(stable.models(), name, tell).model
        with HEAVY.turn(tell) as turn:
            x_0 = decoded(model, drawing.steps, image, lambda part: turn(part, "decoding each step"))
            words = word_film(drawing.columns, drawing.maps[image], x_0) if len(drawing.columns) > 3 else None
            return step_film(model, drawing.steps, x_0, image), words

    return named_cache("films of drawings").get((drawing.key, image), make, tell)


@st.cache_resource(show_spinner=False)
def _reader() -> tuple[Retrieval, Tensor]:
    """The retrieval network, and the vectors of all subjects' names; callers only read them."""
    retrieval = load_retrieval()
    return retrieval, embed_captions(retrieval, vocabulary.names())


def readings(drawing: Drawing, prompt: str, tell: Tell) -> list[tuple[str, float]]:
    """What our retrieval network recognises in each picture: the prompt, or a subject that micro was trained on.

    Each is a caption with its probability. The list is empty for the stand-in, whose pictures show nothing.
    """
    if drawing.label == "stand-in":
        return []

    def make(tell: Tell) -> list[tuple[str, float]]:
        with HEAVY.turn(tell):
            return read()

    def read() -> list[tuple[str, float]]:
        retrieval, words = _reader()
        names = vocabulary.names()
        if (asked := prompt.strip().lower()) and asked not in names:
            names, words = (*names, asked), torch.cat([words, embed_captions(retrieval, [asked])])
        return [best[0] for best in rank(retrieval, drawing.pictures, names, 1, words=words)]

    with page.needed("The network that reads the pictures"):
        return named_cache("readings", 64).get((drawing.key, prompt), make, tell)


def unknown_words(tokens: Sequence[dict]) -> dict[str, str]:
    """The words of a prompt for which the first tokenizer has no single piece -> the pieces that it made of them.

    Pieces that are not letters (the bytes of another alphabet) are only counted.
    """
    first, found, place = tokens[0], {}, 1  # the start token comes before them
    for word, count in first["words"]:
        if count > 1:
            pieces = [piece.removesuffix("</w>") for piece in first["pieces"][place : place + count]]
            found[word] = " + ".join(pieces) if all(map(str.isascii, pieces)) else f"{count} bytes"
        place += count
    return found
