"""A trained network in half the bits: twice as fast where the processor has arithmetic for them, and a little coarser.

    model = in_precision(load_pretrained("cifar10_unet_flow"), "bfloat16")     # a CPU with AVX512-BF16 or AMX
    model = in_precision(load_pretrained("cifar10_unet_flow", "cuda"), "float16", compiled=True)

Only the network's inside is computed in them (torch.autocast); what samplers do with its output stays float32. A seed
gives nearly the same picture, not the same to rounding, which is why nothing does this unasked.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from diffusion_explained.devices import to_channels_last
from diffusion_explained.models import NetworkModule
from diffusion_explained.names import unknown_name
from diffusion_explained.pretrained import Model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def in_precision(model: Model, precision: str, *, compiled: bool = False) -> Model:
    """The same model, whose network computes in `precision`, one of `PRECISIONS`; "float32" is as it was.

    compiled: let torch.compile fuse it. Its first calls of each batch size take half a minute, the others less time.

    Raises ValueError for another precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return dataclasses.replace(model, network=InPrecision(model.network, PRECISIONS[precision], compiled))


class InPrecision(NetworkModule):
    """`network(x_t, t, labels)` as the network that it holds, computed in dtype; the output is float32."""

    def __init__(self, network: NetworkModule, dtype: torch.dtype, compiled: bool = False) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype
        self.image_shape, self.num_classes = network.image_shape, network.num_classes
        if network.image_shape[1:] and next(network.parameters()).is_cuda:
            to_channels_last(network)
        self.call = torch.compile(network, dynamic=False) if compiled else network.__call__

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        with torch.autocast(x_t.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.call(x_t, t, labels).float()
