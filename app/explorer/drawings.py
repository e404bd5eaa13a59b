"""Runs that are drawn while the visitor waits, and kept whole: the latents and the attention of every step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.micro.retrieval import Retrieval, embed_captions, load_retrieval, rank
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.pipeline_films import PipelineRun
from diffusion_explained.stable_diffusion.text import Text
from explorer import page, stable, vocabulary
from explorer.cache import named_cache
from explorer.stable import Ask, RunStart
from explorer.turns import HEAVY, Tell, held


@dataclass(frozen=True, eq=False)
class Drawing:
    """A finished run of B images.

    steps: all of them; pictures: [B, 3, H, W]; tokens: the prompt's, one dict per encoder, as in a trace; text: the
    encoded prompt; columns, maps: of `attention.record_attention`, the words and [B, n, columns, h, w]; key: identifies
    the drawing.
    """

    key: tuple[object, ...]
    model: str
    label: str
    steps: tuple[Step, ...]
    pictures: Tensor
    tokens: tuple[dict, ...]
    text: Text
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
        columns = attention.columns()
        return Drawing(key, model.name, model.label, tuple(steps), pictures, tokens, text, columns, maps)

    return named_cache("drawings", 32).get(key, make, tell)


def whole(name: str, drawing: Drawing, image: int, ask: Ask, tell: Tell) -> PipelineRun:
    """One image of a drawing for the picture of the whole, with the predicted x_0 of every step decoded."""

    def make(tell: Tell) -> PipelineRun:
        from diffusion_explained.stable_diffusion.image_films import decoded
        from diffusion_explained.stable_diffusion.pipeline_films import pipeline_run

        model = stable.load(stable.models(), name, tell).model
        with HEAVY.turn(tell) as turn:
            x_0 = decoded(model, drawing.steps, image, lambda part: turn(part, "decoding each step"))
            return pipeline_run(
                model, drawing.text, drawing.steps, x_0, image, drawing.columns, drawing.maps[image],
                name=title(ask, image), scale=ask.guidance_scale, nouns=vocabulary.nouns(),
            )  # fmt: skip

    return named_cache("pictures of the whole").get((drawing.key, image), make, tell)


def title(ask: Ask, image: int) -> str:
    """What distinguishes one image of a run from another."""
    return f"“{ask.prompt or 'no words'}”, seed {ask.seeds[image]}, w = {ask.guidance_scale:g}"


@st.cache_resource(show_spinner=False)
def reader() -> tuple[Retrieval, Tensor]:
    """The retrieval network, and the vectors of all subjects' names; callers only read them."""
    retrieval = load_retrieval()
    return retrieval, embed_captions(retrieval, vocabulary.names())


def readings(drawing: Drawing, tell: Tell) -> list[tuple[str, float]]:
    """What our retrieval network recognises in each picture: a subject that micro was trained on, and its probability.

    The prompt is not among the answers, so the network cannot repeat it. The list is empty for the stand-in, whose
    pictures show nothing.
    """
    if drawing.label == "stand-in":
        return []

    def make(tell: Tell) -> list[tuple[str, float]]:
        with HEAVY.turn(tell):
            retrieval, words = reader()
            return [best[0] for best in rank(retrieval, drawing.pictures, vocabulary.names(), 1, words=words)]

    with page.needed("The network that reads the pictures"):
        return named_cache("readings", 64).get(drawing.key, make, tell)


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
