"""The network of the text models: a DiT without patches, whose tokens are letters.

    x_t -> letters' vectors -> + positions -> [neighbours, block, ...] -> norm, linear -> logits of the clean letters

Before each block a short convolution mixes neighbouring letters ("Canon layers", Allen-Zhu 2025). A causal network is
given the previous letter by its input; a masked one would have to learn from nothing which position is beside which,
and without the convolutions ours did not: in 7,900 steps it learned the frequencies of the letters and no more.

Without `causal`, every position sees the whole text, and the logits are those of x_0, given x_t and t: a diffusion
model's network. With `causal`, the letters are moved by one position to the right, and a position sees only what stands
before it: the same network, with the same weights and the same cost, as an autoregressive model. It takes t = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, truth, typed_arguments, whole
from diffusion_explained.devices import torch_defaults
from diffusion_explained.discrete.chain import MOST_KINDS
from diffusion_explained.models.dit import Block, modulated
from diffusion_explained.models.embeddings import TimeEmbedding, sinusoids
from diffusion_explained.models.network import zero_weights

REACH = 5  # letters that a convolution sees
TIME_SCALE = 1000.0  # the embedding of times is made for 0 .. 1000


@named_options
@dataclass(frozen=True)
class LettersConfig:
    """The configuration of a text network, stored in its weight file; sizes as for `DiTConfig`.

    kinds: the number of letters; length: the most letters of a text. Raises ValueError for sizes that do not fit.
    """

    kinds: int = 36
    length: int = 128
    width: int = 128
    depth: int = 6
    head_width: int = 32
    causal: bool = False

    def __post_init__(self) -> None:
        whole("kinds", self.kinds, 2, MOST_KINDS)
        for name, most in (("length", 1024), ("width", 4096), ("depth", 100), ("head_width", 4096)):
            whole(name, getattr(self, name), 1, most)
        truth("causal", self.causal)
        if self.width % self.head_width or self.width % 2:
            raise ValueError(f"head_width must divide an even width; got {self}.")


class Letters(nn.Module):
    """`network(x_t, t)`: x_t [B, N], int64, where `kinds` is the mask; t [B] in [0, 1] -> logits [B, N, kinds].

    Raises ValueError for more positions than the network's length.
    """

    positions: Tensor  # [length, width]

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: LettersConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Embedding(config.kinds + 1, width)
        positions = sinusoids(torch.arange(config.length, device="cpu", dtype=torch.int64), width)
        self.register_buffer("positions", positions, persistent=False)
        self.embed_time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, config.head_width, causal=config.causal) for _ in range(config.depth))
        self.neighbours = nn.ModuleList(Neighbours(width, causal=config.causal) for _ in range(config.depth))
        self.modulate = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.head = nn.Linear(width, config.kinds)
        for last in (self.modulate, self.head):  # training starts from equal probabilities
            zero_weights(last)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        N = x_t.shape[1]
        if N > self.config.length:
            raise ValueError(f"The network takes at most {self.config.length} letters; got {N}.")
        if self.config.causal:  # position n sees the letters before n; the mask stands for the beginning
            x_t = F.pad(x_t[:, :-1], (1, 0), value=self.config.kinds)
        cond = F.silu(self.embed_time(TIME_SCALE * t))  # [B, width]
        tokens = self.embed(x_t) + self.positions[:N]  # [B, N, width]
        for mix, block in zip(self.neighbours, self.blocks, strict=True):
            tokens = block(mix(tokens), cond)
        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)
        return self.head(modulated(self.norm(tokens), scale, shift)).float()


class Neighbours(nn.Module):
    """Add to each token a weighted sum of its neighbours, REACH weights per feature: a depthwise convolution.

    tokens [B, N, width] -> [B, N, width]. causal: only earlier tokens and the token itself count.
    """

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.before = REACH - 1 if causal else REACH // 2
        self.weight = nn.Parameter(
            torch.empty(REACH, width, device="cpu", dtype=torch.float32).uniform_(-1, 1) * REACH**-0.5
        )

    def forward(self, tokens: Tensor) -> Tensor:
        N = tokens.shape[1]
        padded = F.pad(tokens, (0, 0, self.before, REACH - 1 - self.before))
        for k, weight in enumerate(self.weight):
            tokens = torch.addcmul(tokens, padded[:, k : k + N], weight)
        return tokens
