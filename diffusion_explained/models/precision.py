"""A network that computes in bfloat16 or float16 (torch.autocast); what is around it stays in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_explained.devices import to_channels_last
from diffusion_explained.models.network import NetworkModule

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
