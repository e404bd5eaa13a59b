"""The computational cost of Stable Diffusion 1.5 in its published size, counted without GPU, weights or memory.

torch's meta device runs a network on shapes alone; its FLOP counter counts what each operation would compute. As in
`models.count_flops`, only convolutions and matrix products count, and a multiplication and an addition are two FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_explained.checks import typed_arguments
from diffusion_explained.stable_diffusion.families import FAMILIES
from diffusion_explained.stable_diffusion.latents import check_size
from diffusion_explained.stable_diffusion.stand_ins import pipeline_of_sd, unet_of_sd


class Work(NamedTuple):
    """FLOPs by kind: convolutions, products with weights (linear layers), and attention (q kᵀ and weights times v).

    With the number of positions N the first two grow like N, and attention among the positions like N².
    """

    convolutions: int
    products: int
    attention: int

    @property
    def total(self) -> int:
        """The sum of all FLOPs."""
        return sum(self)


@typed_arguments
def count_work(call: Callable[[], Any]) -> Work:
    """Count the FLOPs of `call()`, on any device.

    Attention is computed without fused kernels here, because torch's counter does not know all of them.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        call()
    by_operation = {str(name): flops for name, flops in counter.get_flop_counts().get("Global", {}).items()}
    convolutions = sum(flops for name, flops in by_operation.items() if "convolution" in name)
    products = sum(flops for name, flops in by_operation.items() if name in ("aten.mm", "aten.addmm"))
    return Work(convolutions, products, sum(by_operation.values()) - convolutions - products)


@typed_arguments
@cache
def published_work(height: int = 512, width: int = 512) -> dict[str, Work]:
    """The FLOPs of one forward pass of one image through each part of Stable Diffusion 1.5, for height x width pixels.

    "U-Net on pixels" is the same network with 3 channels in and out, run on the picture instead of its latents.
    Raises ValueError for a size that latents cannot have.
    """
    check_size(height, width, FAMILIES["sd"].multiple)
    pipe, on_pixels = _on_meta()
    place: dict[str, Any] = {"device": "meta", "dtype": torch.float32}
    with torch.device("meta"):  # for the tensors that the networks create
        time, ids = torch.ones(1, **place), torch.zeros(1, 77, device="meta", dtype=torch.int64)
        prompt = torch.zeros(1, 77, pipe.unet.config.cross_attention_dim, **place)
        latents = torch.zeros(1, pipe.unet.config.in_channels, height // 8, width // 8, **place)
        picture = torch.zeros(1, 3, height, width, **place)
        return {
            "text encoder": count_work(lambda: pipe.text_encoder(ids)),
            "U-Net": count_work(lambda: pipe.unet(latents, time, prompt)),
            "decoder": count_work(lambda: pipe.vae.decode(latents)),
            "U-Net on pixels": count_work(lambda: on_pixels(picture, time, prompt)),
        }


def published_parameters() -> dict[str, int]:
    """The number of parameters of each part of Stable Diffusion 1.5."""
    pipe, _ = _on_meta()
    parts = {"text encoder": pipe.text_encoder, "U-Net": pipe.unet, "autoencoder": pipe.vae}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


@cache
def _on_meta() -> tuple[Any, Any]:
    """The pipeline in its published size, and its U-Net for pixels, on the meta device: shapes without values."""
    meta = torch.device("meta")
    with meta:
        on_pixels = unet_of_sd(3, 3, 512, full_size=True)
    return pipeline_of_sd("eps", 4, meta), on_pixels
