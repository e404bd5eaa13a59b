"""Self-attention, as the U-Net and the DiT use it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attend(nn.Module):
    """Multi-head attention: from queries, keys and values [B, N, width], in heads of head_width, to [B, N, width].

        softmax(q k^T / sqrt(head_width)) v               Vaswani et al. 2017, "Attention Is All You Need", Eq. 1

    It has no weights; it is a module so that a hook can read its input (`inside.attention_maps`).

    causal: every position attends to itself and to earlier positions only, as in an autoregressive model.
    """

    def __init__(self, head_width: int, *, causal: bool = False) -> None:
        super().__init__()
        self.head_width = head_width
        self.causal = causal

    def forward(self, qkv: Tensor) -> Tensor:
        """qkv: queries, keys and values, concatenated, [B, N, 3 * width]."""
        return self.gather(*self.heads(qkv))

    def between(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same between two sets: queries [B, N, width], keys and values [B, M, width] each -> [B, N, width]."""
        return self.gather(*(self.split(part) for part in (q, k, v)))

    def gather(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The weighted sums of v for queries and keys, all in heads [B, heads, N, head_width] -> [B, N, width]."""
        # Written out on a CPU: for few positions this is 10 times as fast as torch's fused function.
        on_cpu = q.device.type == "cpu"
        gathered = self.weights(q, k) @ v if on_cpu else F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return gathered.transpose(1, 2).flatten(2)  # [B, N, width]

    def heads(self, qkv: Tensor) -> list[Tensor]:
        """q, k and v, [B, heads, N, head_width] each."""
        return [self.split(part) for part in qkv.chunk(3, dim=-1)]

    def split(self, part: Tensor) -> Tensor:
        """One of them in heads: [B, N, width] -> [B, heads, N, head_width]."""
        return part.unflatten(-1, (-1, self.head_width)).transpose(1, 2)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Attention weights [B, heads, N, N]; each row sums to 1."""
        scores = q @ k.transpose(-1, -2) * self.head_width**-0.5
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(dim=-1)
