"""Embeddings: the time t and the class as vectors that a network can use; and a learned gain on the input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import typed_arguments


@typed_arguments
def sinusoids(t: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Times t [B], of magnitude up to about 1000, as sines and cosines of `width` // 2 frequencies -> [B, width].

        [cos(t * w_0), ..., sin(t * w_0), ...],   w_i = max_period ** (-i / (width / 2))

    Vaswani et al. 2017, "Attention Is All You Need", Section 3.5; used for t by DDPM.
    """
    half = width // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )  # [width/2]
    angles = t.float()[:, None] * frequencies  # [B, width/2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """t [B] -> [B, width]: sinusoids, then a two-layer network."""

    @typed_arguments
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layer1 = nn.Linear(width, width)
        self.layer2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        return self.layer2(F.silu(self.layer1(sinusoids(t, self.width))))


class ClassEmbedding(nn.Module):
    """labels [B] -> [B, width]: one learned vector per class, and a last one for the null label (no class given).

    With `num_classes=None` the embedding is zero.
    """

    @typed_arguments
    def __init__(self, num_classes: int | None, width: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.table = None if num_classes is None else nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Tensor | None, batch_size: int) -> Tensor | float:
        if self.table is None:
            return 0.0
        if labels is None:
            null = self.table.num_embeddings - 1
            labels = torch.full((batch_size,), null, device=self.table.weight.device, dtype=torch.int64)
        return self.table(labels)


class InputGain(nn.Linear):
    """A gain per channel, learned from time and class, with which x_t is added to the network's output. It starts at 0.

    The predicted noise of nearly pure noise is nearly x_t itself; without the gain the network would have to learn to
    copy its input.
    """

    def __init__(self, embedding_width: int, channels: int) -> None:
        super().__init__(embedding_width, channels)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, cond: Tensor, x_t: Tensor) -> Tensor:  # type: ignore[override]  # x_t is not nn.Linear's
        """cond [B, embedding_width] and x_t [B, C, ...] -> gain * x_t."""
        with torch.autocast(x_t.device.type, enabled=False):  # bfloat16's steps of 0.4% are too coarse in pure noise
            return super().forward(cond.float()).unflatten(1, (-1, *[1] * (x_t.ndim - 2))) * x_t
