"""Micro's own image prompt: an IP-Adapter that reads `picture_features`, in the format of the published files.

    model = load_micro_image_prompt(load("micro"))
    model.sample("a cat", image_prompt=picture, image_prompt_scale=1.0, seed=0)    # [1, 3, 128, 128] in [-1, 1]

    adapter, encoder = new_image_prompt(unet, load_retrieval())        # to be trained, as recipes/micro_image_prompt.py
    save_image_prompt(folder, adapter, encoder, base=identity(unet, {}))

The file holds image_proj and ip_adapter, which diffusers' load_ip_adapter reads too, and beside them the mean and the
deviation of each feature (features.centre, features.spread), which the encoder needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import atomic_path
from diffusion_explained.micro.picture_features import PictureEncoder
from diffusion_explained.micro.retrieval import Retrieval, load_retrieval
from diffusion_explained.stable_diffusion.headers import read_header, tensors_of
from diffusion_explained.stable_diffusion.image_attention import ImagePromptAdapter, ImageTokens
from diffusion_explained.stable_diffusion.image_prompt_loading import FEATURES, FILE, load_image_prompt
from diffusion_explained.stable_diffusion.lora import BASE
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.weights import MICRO_FOLDER, single_file

IMAGE_PROMPT_FOLDER = MICRO_FOLDER.with_name("micro_image_prompt")


@typed_arguments
def load_micro_image_prompt(
    model: StableDiffusion, folder: str | os.PathLike[str] = IMAGE_PROMPT_FOLDER
) -> StableDiffusion:
    """Return micro with an image prompt, by default the one that is part of the package; see `load_image_prompt`.

    Raises ValueError for an adapter of another base or without its features, WeightsUnavailableError for a folder
    without one, OSError for a damaged file.
    """
    encoder = PictureEncoder(load_retrieval())
    file = single_file(str(Path(folder).expanduser() / FILE), "image prompt")
    shapes = read_header(file).shapes
    for name in ("centre", "spread"):
        if shapes.get(FEATURES + name) != tuple(getattr(encoder, name).shape):
            raise ValueError(f"{file} reads other features of a picture than this version has: train or copy it again.")
    for name, x in tensors_of(file, (FEATURES,)).items():
        getattr(encoder, name.removeprefix(FEATURES)).copy_(x)
    return load_image_prompt(model, folder, encoder=encoder)


@typed_arguments
def new_image_prompt(unet: Any, retrieval: Retrieval) -> tuple[ImagePromptAdapter, PictureEncoder]:
    """An adapter for a U-Net with random weights, and the encoder whose embeddings it reads.

    Raises ValueError for an argument of another class.
    """
    encoder = PictureEncoder(retrieval)
    return ImagePromptAdapter(unet, ImageTokens(encoder.width, unet.config.cross_attention_dim)), encoder


@typed_arguments
def save_image_prompt(
    folder: str | os.PathLike[str], adapter: ImagePromptAdapter, encoder: PictureEncoder, base: str
) -> Path:
    """Write <folder>/ip_adapter.safetensors, its weights fp16; base: `lora.identity` of the U-Net it was trained for.

    Raises ValueError for weights that fp16 cannot represent; NotWrittenError (an OSError) if the folder cannot be
    written: then its older file stays.
    """
    tensors = {name: _half(name, x) for name, x in adapter.state_dict().items()}
    tensors |= {FEATURES + name: getattr(encoder, name).detach().float().cpu() for name in ("centre", "spread")}
    place = Path(folder) / FILE
    with atomic_path(place) as part:
        save_file(tensors, part, metadata={BASE: base})
    return place


def _half(name: str, x: Tensor) -> Tensor:
    half = x.detach().to("cpu", torch.float16).contiguous()
    if not bool(half.isfinite().all()):
        raise ValueError(f"{name} holds NaN, infinity or numbers too large for fp16: the adapter is not saved.")
    return half
