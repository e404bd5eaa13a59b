"""Weights in 8 bits: kept as float8, computed in the type of the run. Half of the memory of float16.

    w8 = round(w / s)    in torch.float8_e4m3fn: 4 bits of exponent, 3 of mantissa, at most 448
    y  = x (s w8)^T + b  in the type of x

s is a power of two, one per layer, with which the largest |w / s| lies in (224, 448]: multiplying by s rounds nothing,
and each weight that is no smaller than 1/14,336 of the largest is off by at most 1/16 of itself. Biases, norms and
the layers that embed time, text and latents (`KEPT`) stay as they are: they are few, and some networks give them
inputs in the type of their weights.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0  # of FLOAT8
# by their names in diffusers and in single files: time_embedding, x_embedder, time_emb_proj, emb_layers, time_in
KEPT = re.compile(r"emb|(^|\.)(time|vector|guidance|img|txt)_in(\.|$)")


class Linear8(nn.Linear):
    """A linear layer whose weight [out, in] is float8, a buffer, so that the module's dtype is that of the run."""

    scale: float

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


class Conv8(nn.Conv2d):
    """A convolution whose weight [out, in, h, w] is float8, as in `Linear8`."""

    scale: float

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] to [B, out, H', W']."""
        return self._conv_forward(x, self.weight.to(x.dtype) * self.scale, self.bias)


KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Linear8, nn.Conv2d: Conv8}


def to_float8(network: nn.Module) -> None:
    """Keep the weights of a network's linear layers and convolutions in float8, in place."""
    for name, layer in network.named_modules():
        kind = KINDS.get(type(layer))
        if kind is not None and not KEPT.search(name):
            _convert(layer, kind)


def _convert(layer: Any, kind: type[nn.Module]) -> None:
    weight = layer.weight.detach()
    largest = float(weight.abs().amax())
    layer.scale = 2.0 ** math.ceil(math.log2(largest / LARGEST)) if largest > 0 else 1.0
    del layer.weight
    layer.register_buffer("weight", (weight.float() / layer.scale).to(FLOAT8))
    layer.__class__ = kind


def parameters_of(part: nn.Module) -> int:
    """The number of a part's parameters, with the weights that are kept in float8."""
    kept = (layer.weight.numel() for layer in part.modules() if isinstance(layer, Linear8 | Conv8))
    return sum(p.numel() for p in part.parameters()) + sum(kept)


def is_float8(network: nn.Module) -> bool:
    """Whether a network has weights in float8."""
    return any(isinstance(layer, Linear8 | Conv8) for layer in network.modules())
