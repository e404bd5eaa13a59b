"""Pictures as prompts on a Stable Diffusion (IP-Adapter, Ye et al. 2023): what is given for a run.

    model = load_image_prompt(load(), "ip-adapter_sd15.safetensors")      # micro's: `micro.image_prompt`
    model.sample("a red cat", image_prompt=picture, image_prompt_scale=0.8, seed=0)

`image_attention` has the equation. With guidance, the side without the prompt gets the tokens of no picture, as in
diffusers. A scale of 0 runs the U-Net alone: the prediction is then that of the model without the adapter, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite, check_image_range, float_data, number
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.image_attention import ActivePrompt, ImagePromptAdapter

MOST_SCALE = 10


@dataclass(frozen=True)
class LoadedImagePrompt:
    """An adapter that is loaded for a model: its name, its weights, and the encoder of its pictures.

    encoder: a module that turns pictures [B, 3, H, W] in [-1, 1] into embeddings, and has `negative(embeds)` for those
    of no picture.
    """

    name: str
    adapter: ImagePromptAdapter
    encoder: Any


@dataclass(frozen=True)
class ShownPicture:
    """The picture of a run: the adapter's weights with the scale, and its tokens [count, L, D], of no picture too."""

    prompt: ActivePrompt
    tokens: Tensor
    negative: Tensor


@torch.no_grad()
def shown_pictures(
    loaded: Sequence[LoadedImagePrompt], image_prompt: Any, scale: Any, count: int
) -> tuple[ShownPicture, ...]:
    """The image prompts of a run of `count` images: of each loaded adapter the picture and the scale.

    image_prompt: one picture [3, H, W] or [1 or count, 3, H, W], or a list with one per adapter, None for none; scale:
    one for all adapters, or a list. An adapter whose scale is 0 is left out.

    Raises ValueError for a number, a picture or a scale that does not fit.
    """
    if image_prompt is None:
        if scale != 1:
            raise ValueError("image_prompt_scale belongs to a picture: give image_prompt= too.")
        return ()
    if not loaded:
        raise ValueError("The model has no image prompt: load one first, model = load_image_prompt(model, FILE).")
    pictures = list(image_prompt) if isinstance(image_prompt, (list, tuple)) else [image_prompt]
    scales = list(scale) if isinstance(scale, (list, tuple)) else [scale] * len(loaded)
    for name, given in (("image_prompt", pictures), ("image_prompt_scale", scales)):
        if len(given) != len(loaded):
            raise ValueError(
                f"{name} holds {len(given)} and the model has {len(loaded)} image prompts "
                f"({', '.join(each.name for each in loaded)}): give one per adapter, in this order."
            )
    allowed = f"a number from 0 to {MOST_SCALE}"
    checked = [float(number("image_prompt_scale", one, allowed, 0, MOST_SCALE)) for one in scales]
    return tuple(
        _shown(each, _checked(picture, each, count), one, count)
        for each, picture, one in zip(loaded, pictures, checked, strict=True)
        if one != 0
    )


def _shown(loaded: LoadedImagePrompt, picture: Tensor, scale: float, count: int) -> ShownPicture:
    weight = next(loaded.adapter.parameters())
    embeds = loaded.encoder(picture.to(weight.device))
    both = [loaded.adapter.image_proj(one.to(weight.dtype)) for one in (embeds, loaded.encoder.negative(embeds))]
    tokens, negative = (x.expand(count, *x.shape[1:]).contiguous() for x in both)
    return ShownPicture(ActivePrompt(loaded.adapter.by_layer(), scale), tokens, negative)


def _checked(picture: Any, loaded: LoadedImagePrompt, count: int) -> Tensor:
    """The picture as [1 or count, 3, H, W]. Raises ValueError for another shape, or values outside -1 to 1."""
    x = float_data("image_prompt", picture)
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(
            f"image_prompt must be a picture [3, H, W] or [1 or B, 3, H, W]; got {shortened(list(x.shape))}."
        )
    if len(x) not in (1, count):
        raise ValueError(
            f"image_prompt holds {len(x)} pictures for {count} images: give one for all, or one per image."
        )
    check_finite(x, "image prompts", "give a picture with values from -1 to 1")
    check_image_range(x, "image_prompt")
    return x.detach().float()
