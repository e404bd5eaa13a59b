"""What a visitor adds to a model of theirs for a run: a LoRA, new words, a decoder for previews, and a refiner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from diffusion_explained.stable_diffusion.embeddings import word_of
from diffusion_explained.stable_diffusion.on_disk import EMBEDDING, LORA, MODEL, PREVIEW
from explorer import controls, on_disk, page, part_labels

if TYPE_CHECKING:
    from diffusion_explained.stable_diffusion import StableDiffusion

REFINER_START = 0.8
START = (0.05, 0.95)  # of the refiner: the base and the refiner each take a step at least


@dataclass(frozen=True)
class Additions:
    """The files of a LoRA, of new words and of a TAESD, and the name of a refiner; each empty for none.

    lora_scale: how much of the LoRA is added; refiner_start: the share of the way after which the refiner takes over.
    """

    lora: str = ""
    lora_scale: float = 1.0
    embeddings: tuple[str, ...] = ()
    preview_decoder: str = ""
    refiner: str = ""
    refiner_start: float = REFINER_START

    def program(self, model: str) -> str:
        """The lines that add the LoRA and the new words to `model` in a program, each after a line break."""
        lora = f"\n{model}.load_lora({self.lora!r}, scale={self.lora_scale!r})" if self.lora else ""
        return lora + "".join(f"\n{model}.load_embedding({file!r})" for file in self.embeddings)


NONE = Additions()


@contextmanager
def added(model: "StableDiffusion", more: Additions) -> Iterator["StableDiffusion"]:
    """The model with a LoRA, new words and a TAESD, which are taken away at the end: other runs share the model.

    Raises the engine's ValueErrors and OSErrors.
    """
    try:
        if more.lora:
            model.load_lora(more.lora, scale=more.lora_scale)
        for file in more.embeddings:
            model.load_embedding(file)
        yield previewing(model, more.preview_decoder) if more.preview_decoder else model
    finally:
        model.unload_lora()
        model.unload_embeddings()


def previewing(model: "StableDiffusion", file: str) -> "StableDiffusion":
    """The model with a TAESD for the pictures of its steps."""
    from diffusion_explained.stable_diffusion.latents import dtype_of
    from diffusion_explained.stable_diffusion.preview_decoders import read_preview_decoder

    own, dtype = model.pipe.vae.config, dtype_of(model.network)
    return replace(model, preview_decoder=read_preview_decoder(file, model.family, own, dtype, model.device))


# -- the fields of the page -----------------------------------------------------------------------------------


def pick(*, refines: bool) -> Additions:
    """The visitor's additions to a model of theirs; refines: whether the model is one that a refiner goes with."""
    lora, scale = _lora()
    embeddings = _embeddings()
    preview = on_disk.pick_file(
        "Preview decoder", PREVIEW, "sd_preview",
        "A TAESD for this model's latents (taesd, taesdxl, taesd3, taef1): a .safetensors file, or a folder. It draws "
        "the predicted picture of each step in a moment; the last one is drawn by the model's own decoder.",
    )  # fmt: skip
    refiner, start = _refiner() if refines else ("", REFINER_START)
    return Additions(lora, scale, embeddings, preview, refiner, start)


def _lora() -> tuple[str, float]:
    """The LoRA's file, and how much of it is added."""
    file = on_disk.pick_file(
        "LoRA", LORA, "sd_lora",
        "A small change of this model's weights: a .safetensors file of diffusers or of kohya's scripts, or a folder "
        "with such files. It is added for a run and taken away after it.",
    )  # fmt: skip
    if not file:
        return "", 1.0
    scale = controls.slider(st, part_labels.Additions.scale, 0.0, 1.0, 1.0, 0.05, key="sd_lora_scale")
    st.button(
        part_labels.Additions.remove, icon=":material/close:", on_click=lambda: st.session_state.update(sd_lora="")
    )
    return file, scale


def _embeddings() -> tuple[str, ...]:
    """The files of new words; each word is said, or why its file cannot be used."""
    files = on_disk.pick_files(
        "New words", EMBEDDING, "sd_embedding",
        "A textual inversion of this model: a .safetensors file, or a folder with such files. Its word stands for the "
        "vectors of the file; write it in the prompt or in the negative prompt.",
    )  # fmt: skip
    for file in files:
        try:
            st.caption(part_labels.Additions.new_word.format(word=page.literal(word_of(file))))
        except (ValueError, OSError) as error:
            st.warning(page.literal(str(error)), icon=":material/block:")
    return files


def _refiner() -> tuple[str, float]:
    """The refiner's name, and where it takes over."""
    name = on_disk.pick_file(
        "Refiner", MODEL, "sd_refiner",
        "A second network for the last steps of Stable Diffusion XL: owner/model on the hub, a folder in diffusers' "
        "format, or a .safetensors file. It is loaded in the same way as the model.",
    )  # fmt: skip
    if not name:
        return "", REFINER_START
    start = controls.slider(
        st, part_labels.Additions.refiner, *START, REFINER_START, 0.05, key="sd_refiner_start",
        help=part_labels.Additions.refiner_help,
    )  # fmt: skip
    return name, start
