"""Styles that are made from emoji by a rule, so that no model has seen them: outlines, and blocks of one colour.

    pictures = MADE["ink"](on_white(emoji.images[:5]))          # to teach a LoRA (`micro.lora`)
    model.load_lora(lora_of("ink"))                             # one that was taught so, with the word "zorb"

Both rules take and return pictures [N, 3, H, W] in [-1, 1].
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.combinations import caption_of
from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.stable_diffusion.weights import MICRO_FOLDER

BLOCKS = 16  # along a side of a mosaic
EXAMPLES = ("cat", "house", "umbrella", "red apple", "guitar")  # the emoji of the ready-made pictures, in EXAMPLE_STYLE
EXAMPLE_STYLE = "fluent"
WORDS = {"ink": "zorb", "mosaic": "quib"}  # the new words of the LoRAs that are part of the package
LORA_FOLDER = MICRO_FOLDER.with_name("micro_lora")


@typed_arguments
def ink(images: Tensor) -> Tensor:
    """Outlines: dark where a blurred picture's lightness changes, white elsewhere. [N, 3, H, W] to [N, 3, H, W].

    Raises ValueError for another shape.
    """
    grey = F.avg_pool2d(image_batch("images", images, 3).mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    lines = (4 * (dx.square() + dy.square()).sqrt()).clamp(0, 1)
    return (1 - 2 * lines).expand_as(images)


@typed_arguments
def mosaic(images: Tensor) -> Tensor:
    """16 x 16 blocks of one colour each. [N, 3, H, W] to [N, 3, H, W]. Raises ValueError for another shape."""
    blocks = F.adaptive_avg_pool2d(image_batch("images", images, 3), BLOCKS)
    return F.interpolate(blocks, images.shape[-2:], mode="nearest")


MADE: dict[str, Callable[[Tensor], Tensor]] = {"ink": ink, "mosaic": mosaic}


@typed_arguments
def made_pictures(rule: str) -> tuple[Tensor, list[str]]:
    """The five `EXAMPLES` made by a rule, [5, 3, 128, 128], and their captions with its word, "cat, zorb style".

    Raises ValueError for an unknown rule.
    """
    make, emoji = MADE[_known(rule)], load_emoji_sample()
    of_style = emoji.style == STYLES.index(EXAMPLE_STYLE)
    places = [(of_style & (emoji.subject == emoji.names.index(name))).nonzero()[0] for name in EXAMPLES]
    captions = [caption_of(name, style=WORDS[rule]) for name in EXAMPLES]
    return make(on_white(emoji.images[torch.cat(places)])), captions


@typed_arguments
def lora_of(rule: str) -> Path:
    """The file of the LoRA that was taught with `made_pictures(rule)` (recipes/micro_lora.py).

    Raises ValueError for an unknown rule.
    """
    return LORA_FOLDER / f"{_known(rule)}.safetensors"


def _known(rule: str) -> str:
    if rule not in MADE:
        raise unknown_name("made style", rule, MADE)
    return rule
