"""The computational cost of Stable Diffusion 1.5 in its published size, counted without GPU, weights or memory.

torch's meta device runs a network on shapes alone; its FLOP counter counts what each operation would compute. As in
`models.count_flops`, only convolutions and matrix products count, and a multiplication and an addition are two FLOPs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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


class _FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel leaves it in memory: its result, and no matrix of N x N weights."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, value = named["query"], named["value"]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


class _Living(TorchDispatchMode):
    """The bytes of all tensors that are alive: now, and the most so far."""

    def __init__(self, apart: nn.Module) -> None:
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in (*apart.parameters(), *apart.buffers())}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            storage = x.untyped_storage() if isinstance(x, Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _freed(self, storage: int, count: int) -> None:
        self.known.discard(storage)
        self.now -= count


def count_peak(call: Callable[[], Any], network: nn.Module) -> int:
    """The bytes of all tensors, beside a network's weights, that are alive at the same time in `call()`; on any device.

    What kernels need for themselves, and the allocator's gaps, are not among them.
    """
    with torch.no_grad(), _FusedAttention(), _Living(network) as living:
        call()
    return living.most


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
def published_pipeline() -> Any:
    """The pipeline of Stable Diffusion 1.5 in its published size on the meta device: shapes without values."""
    return pipeline_of_sd("eps", 4, torch.device("meta"))


@cache
def _on_meta() -> tuple[Any, Any]:
    """The published pipeline, and its U-Net for pixels."""
    with torch.device("meta"):
        on_pixels = unet_of_sd(3, 3, 512, full_size=True)
    return published_pipeline(), on_pixels
