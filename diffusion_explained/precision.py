"""Run a trained network in bfloat16 or float16: up to twice as fast where the hardware supports it, but less exact.

    model = in_precision(load_pretrained("cifar10_unet_flow"), "bfloat16")     # a CPU with AVX512-BF16 or AMX
    model = in_precision(load_pretrained("cifar10_unet_flow", "cuda"), "float16", compiled=True)

Only the network itself computes in lower precision (torch.autocast); samplers stay in float32. A seed gives nearly, but
not exactly, the same image, so nothing in this package does this by default.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.devices import to_channels_last
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import NetworkModule
from diffusion_explained.pretrained import Model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@typed_arguments
def in_precision(model: Model, precision: str, *, compiled: bool = False) -> Model:
    """The same model with a network that computes in `precision`, one of `PRECISIONS`; "float32" changes nothing.

    compiled: compile the network with torch.compile. The first call with each batch size takes half a minute; later
    calls are faster than without it.

    Raises ValueError for another precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return dataclasses.replace(model, network=InPrecision(model.network, PRECISIONS[precision], compiled))


class InPrecision(NetworkModule):
    """A wrapper whose `network(x_t, t, labels)` [B, ...] runs the wrapped network in dtype; the output is float32."""

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
