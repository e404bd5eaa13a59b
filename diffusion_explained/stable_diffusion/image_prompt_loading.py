"""Load IP-Adapters for a model, published files or files of that format, or refuse them in words: see `image_prompts`.

A file holds image_proj, the network that makes tokens, and ip_adapter, the weights of each layer:

| image_proj     | tokens                                       | the picture's embeddings                        |
|----------------|----------------------------------------------|-------------------------------------------------|
| proj.weight    | 4, of the whole picture (ip-adapter_sd15)    | CLIP's embedding [E]                            |
| latents        | 16, by attention (ip-adapter-plus)           | CLIP's states before the last layer [parts, E]  |
| proj.3.weight  | one per part (ip-adapter-full-face; micro's) | the same; micro's: `micro.image_prompt`         |

An adapter belongs to the U-Net that it was trained with. One that was trained here notes the weights of its base, and
others are refused; of published ones the shapes are compared.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.stable_diffusion.headers import read_header, tensors_of
from diffusion_explained.stable_diffusion.image_attention import ImagePromptAdapter, ImageTokens, with_image_prompts
from diffusion_explained.stable_diffusion.image_prompts import LoadedImagePrompt
from diffusion_explained.stable_diffusion.latents import dtype_of
from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError
from diffusion_explained.stable_diffusion.lora import BASE, identity
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.weights import single_file

FILE = "ip_adapter.safetensors"
FEATURES = "features."  # the prefix of micro's own tensors, the mean and the deviation of each feature
ENCODER = "image_encoder"  # the folder of CLIP's image encoder beside a published file
CLIP_SIDE = 224


@named_options
@typed_arguments
def load_image_prompt(
    model: StableDiffusion, *adapters: Any, encoder: str | os.PathLike[str] | nn.Module | None = None
) -> StableDiffusion:
    """Return a model that takes pictures as prompts, for `denoiser`, `steps` and `sample` with image_prompt=.

    Args:
        model: a Stable Diffusion 1.x, 2.x or XL, or micro (from `load`), not compiled; what it draws without an image
            prompt does not change.
        adapters: for each the .safetensors file of an IP-Adapter, or a folder with an ip_adapter.safetensors.
        encoder: the folder of CLIP's image encoder, by default image_encoder beside each file; or a module that turns
            pictures [B, 3, H, W] into the embeddings that the adapters read, and has `negative(embeds)`. Micro's own
            adapter brings its own: `micro.image_prompt.load_micro_image_prompt`.

    Raises ValueError for a model without a U-Net or a compiled one, for an adapter that was made for another base or is
    of another kind, and for pickled weights; WeightsUnavailableError for files that are not on this machine.
    """
    if model.family.network != "unet" or model.family.drive is not None:
        raise ValueError(
            f"Image prompts are read for U-Nets (Stable Diffusion 1.x, 2.x, XL and micro); {model.name} is "
            f"{model.family.title}."
        )
    if model.call is not model.network:
        raise ValueError("This model is compiled, and its attention cannot change: load it without fast=True.")
    loaded = tuple(_loaded(model, each, encoder) for each in adapters)
    with_image_prompts(model.network)
    return replace(model, image_prompts=loaded)


def _loaded(
    model: StableDiffusion, given: Any, encoder: str | os.PathLike[str] | nn.Module | None
) -> LoadedImagePrompt:
    """One adapter, checked against the model, on its device and in its dtype."""
    file = _file_of(given)
    header = read_header(file)
    if not (header.begins("image_proj.") and header.begins("ip_adapter.")):
        raise ValueError(f"{file} is no IP-Adapter: it must hold tensors image_proj... and ip_adapter...")
    base = header.notes.get(BASE)
    if base is not None and (own := identity(model.network, model.adapters.before)) != base:
        raise ValueError(
            f"{file} was trained on the weights {base}, and those of {model.name} are {own}: load it into its own "
            "model."
        )
    with enough_memory(f"loading {file.name}"):
        tensors = tensors_of(file)
        projection = {k.removeprefix("image_proj."): x for k, x in tensors.items() if k.startswith("image_proj.")}
        if "proj.0.weight" in projection and "proj.3.weight" not in projection:
            raise ValueError(
                f"{file} is an IP-Adapter FaceID: it reads an embedding of a face that another program makes, which is "
                "not supported. Give an IP-Adapter, or one of the kinds plus and full."
            )
        adapter = ImagePromptAdapter(model.network, _projection(model.network, projection, file))
        layers = {k.removeprefix("ip_adapter."): x for k, x in tensors.items() if k.startswith("ip_adapter.")}
        _check_layers(adapter, layers, file, model.name)
        adapter.ip_adapter.load_state_dict(layers)
        if header.begins(FEATURES) and not isinstance(encoder, nn.Module):
            raise ValueError(
                f"{file} reads micro's own features of a picture: load it by load_micro_image_prompt(model) of "
                "diffusion_explained.micro.image_prompt."
            )
        if isinstance(encoder, nn.Module):
            eyes = encoder
        else:
            place = file.parent / ENCODER if encoder is None else Path(encoder).expanduser()
            eyes = CLIPEyes(place, parts="proj.weight" not in projection, reads=_width(projection))
    adapter = adapter.to(model.device, dtype_of(model.network)).eval().requires_grad_(False)
    eyes = eyes.to(model.device).eval().requires_grad_(False)
    return LoadedImagePrompt(os.fspath(given), adapter, eyes)


def _file_of(given: Any) -> Path:
    """The file of an adapter: itself, or in a folder."""
    if not isinstance(given, (str, os.PathLike)):
        raise ValueError(f"An image prompt is a .safetensors file or a folder with one; got {type(given).__name__}.")
    place = Path(given).expanduser()
    return single_file(str(place / FILE if place.is_dir() else place), "image prompt")


def _width(projection: dict[str, Tensor]) -> int:
    """E, the width of the embeddings that a network image_proj reads. Raises ValueError for an unknown network."""
    for name in ("proj.weight", "proj.0.weight", "proj_in.weight"):
        if name in projection and projection[name].ndim == 2:
            return projection[name].shape[1]
    raise ValueError("The network image_proj of this IP-Adapter is of an unknown kind: it has no first layer proj.")


def _projection(unet: Any, projection: dict[str, Tensor], file: Path) -> nn.Module:
    """The network that makes tokens, with its weights."""
    reads, width = _width(projection), unet.config.cross_attention_dim
    try:
        if "proj.3.weight" in projection:
            network: nn.Module = ImageTokens(reads, width)
            network.load_state_dict(projection)
        else:  # in diffusers' own classes, which no student needs to read
            network = unet._convert_ip_adapter_image_proj_to_diffusers(projection, low_cpu_mem_usage=False)
    except (RuntimeError, KeyError, IndexError) as error:
        raise ValueError(f"{file}: its image_proj is not of a known kind, or for another base ({error}).") from error
    made = next(
        (x for name, x in projection.items() if name.endswith(("proj.3.weight", "norm.weight", "norm_out.weight"))),
        None,
    )
    if made is not None and len(made) != width:
        raise ValueError(
            f"{file} was made for another base: its tokens have {len(made)} numbers, and the text of this model has "
            f"{width}. Give an IP-Adapter for this model."
        )
    return network


def _check_layers(adapter: ImagePromptAdapter, layers: dict[str, Tensor], file: Path, name: str) -> None:
    """Raise ValueError unless the layers' weights are those of the U-Net's cross-attention layers, and no others."""
    own = adapter.ip_adapter.state_dict()
    strange = sorted(layers.keys() - own.keys())
    if any("lora" in key for key in strange):
        raise ValueError(f"{file} brings a LoRA of its own (FaceID): it is not supported.")
    lacking = sorted(own.keys() - layers.keys())
    if strange or lacking:
        what = f"it has {strange[0]}, which" if strange else f"it has no {lacking[0]}, which"
        raise ValueError(
            f"{file} was made for another base: {what} {name} {'lacks' if strange else 'needs'}. Give an IP-Adapter "
            f"for {name}."
        )
    for key, x in layers.items():
        if x.shape != own[key].shape:
            raise ValueError(
                f"{file} was made for another base: its {key} is {list(x.shape)}, and {name} needs "
                f"{list(own[key].shape)}. Give an IP-Adapter for {name}."
            )


class CLIPEyes(nn.Module):
    """CLIP's image encoder, as diffusers' load_ip_adapter uses it: pictures [B, 3, H, W] in [-1, 1] to embeddings.

    folder: of a CLIPVisionModelWithProjection; parts: whether the adapter reads the states of all parts before the last
    layer, [B, L, E], instead of one embedding [B, E]; reads: the width E that it reads.

    Raises WeightsUnavailableError where there is no such folder, ValueError for one of another width.
    """

    def __init__(self, folder: Path, parts: bool, reads: int) -> None:
        super().__init__()
        if not (folder / "config.json").is_file():
            raise WeightsUnavailableError(
                f"There is no image encoder in {folder}: give encoder=, the folder of CLIP's image encoder "
                "(h94/IP-Adapter has it as models/image_encoder)."
            )
        if not list(folder.glob("*.safetensors")):
            raise WeightsUnavailableError(
                f"{folder} holds no .safetensors weights of an image encoder: copy them again."
            )
        with extra("sd"):
            from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        self.network: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
        config = self.network.config
        gives = config.hidden_size if parts else config.projection_dim
        if gives != reads:
            raise ValueError(
                f"The image encoder in {folder} gives {gives} numbers, and the adapter reads {reads}: give encoder=, "
                "the folder of the encoder that it was trained with."
            )
        self.parts = parts
        self.prepare = CLIPImageProcessor(size=config.image_size, crop_size=config.image_size)

    def forward(self, pictures: Tensor) -> Tensor:
        whole = ((pictures.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        pixels = self.prepare([Image.fromarray(np.asarray(one)) for one in whole], return_tensors="pt").pixel_values
        return self._embeds(pixels.to(self.network.device))

    def _embeds(self, pixels: Tensor) -> Tensor:
        if self.parts:
            return self.network(pixels, output_hidden_states=True).hidden_states[-2]
        return self.network(pixels).image_embeds

    def negative(self, embeds: Tensor) -> Tensor:
        """The embeddings of no picture, as embeds [B, E] or [B, L, E]: zeros, or the states of a picture of zeros."""
        if not self.parts:
            return torch.zeros_like(embeds)
        side = self.network.config.image_size
        return self._embeds(torch.zeros(len(embeds), 3, side, side, device=embeds.device, dtype=torch.float32))
