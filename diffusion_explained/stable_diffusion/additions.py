"""What is added to a loaded model and taken away again: LoRAs, textual inversions, and a decoder for previews."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.stable_diffusion.embeddings import load_embedding, unload_embeddings
from diffusion_explained.stable_diffusion.families import Family
from diffusion_explained.stable_diffusion.lora import Adapters, check_scale, lora_file, read_lora
from diffusion_explained.stable_diffusion.preview_decoders import PreviewDecoder
from diffusion_explained.stable_diffusion.safety import checked


@dataclass(frozen=True)
class Extensible:
    """A pipeline on its device, and what was added to it: the fields are described at `StableDiffusion`."""

    name: str
    family: Family
    pipe: Any
    label: str
    device: torch.device
    adapters: Adapters = field(default_factory=Adapters, kw_only=True)
    vocabularies: dict[str, tuple[Any, int]] = field(default_factory=dict, kw_only=True)
    preview_decoder: PreviewDecoder | None = field(default=None, kw_only=True)

    @property
    def loras(self) -> dict[str, float]:
        """The LoRAs that the weights contain now, with their scales."""
        return {name: scale for name, (scale, _) in self.adapters.changes.items()}

    @named_options
    @typed_arguments
    def load_lora(self, path: str | os.PathLike[str], *, scale: float = 1.0, name: str | None = None) -> str:
        """Add a LoRA to the weights: W + s (alpha / r) B A; returns its name, by default that of its file (`lora`).

        path: a .safetensors file of diffusers or of kohya's scripts, with or without text encoders, or a folder of
        diffusers with one. A text that was encoded before keeps the embeddings that it has.

        Raises ValueError for a LoRA of another model, another kind of file, or a name that is taken.
        """
        check_scale(scale)
        file, own = lora_file(path)
        changes = read_lora(file, self.pipe, f"{self.family.title} ({self.name})", self.adapters.before)
        called = own if name is None else name
        if called in self.adapters.changes:
            raise ValueError(f"There is a LoRA {called!r} already: unload it, or give another name.")
        self.adapters.add(called, scale, changes)
        return called

    @named_options
    @typed_arguments
    def unload_lora(self, name: str | None = None) -> None:
        """Take a LoRA, or without a name all of them, away again: the weights are those of before, to the bit.

        Raises ValueError for a name that is not loaded.
        """
        if name is not None and name not in self.adapters.changes:
            raise unknown_name("LoRA", name, self.adapters.changes)
        self.adapters.remove(name)

    @named_options
    @typed_arguments
    def load_embedding(self, path: str | os.PathLike[str], *, token: str | None = None) -> str:
        """Add a textual inversion, a new word of one vector or several; returns the word to write in a prompt.

        token: the word, by default that of the file (`embeddings`). Raises ValueError as `embeddings.load_embedding`.
        """
        return load_embedding(path, self.pipe, self.family.name, self.vocabularies, token)

    def unload_embeddings(self) -> None:
        """Take all new words away again: tokenizers and text encoders are those of before, to the bit."""
        unload_embeddings(self.pipe, self.vocabularies)

    @named_options
    @typed_arguments
    def decode_preview(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, h, w] to pictures [B, 3, H, W] by the preview decoder (`preview_decoders`), fast.

        Without one the model's own decoder does it. Errors as for `decode`.
        """
        if self.preview_decoder is None:
            return self.decode(latents)
        self._check_latents(latents)
        return checked(self.pipe, self.preview_decoder(latents), self.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, h, w] to pictures [B, 3, H, W] by the model's own decoder."""
        raise NotImplementedError

    def _check_latents(self, latents: Tensor) -> None:
        raise NotImplementedError
