"""The diffusion transformer: the image is cut into patches, and the patches are the tokens of a transformer.

It is called like the U-Net, and its output has the shape of the image as well.

    x_t -> patches -> + positions -> [block, block, ...] -> norm, linear -> patches put back -> output
                                        each scaled, shifted and gated by time and class

Peebles & Xie 2023, "Scalable Diffusion Models with Transformers" (DiT), Section 3, with its adaLN-Zero blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.embeddings import ClassEmbedding, InputGain, TimeEmbedding, sinusoids
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes

MLP_RATIO = 4  # hidden width of a block's two-layer network, relative to the tokens' width


@named_options
@dataclass(frozen=True)
class DiTConfig:
    """The configuration of a diffusion transformer, stored in its weight file.

    `patch_size` p makes one token of every p x p pixels: half of p means four times as many tokens, and at least four
    times the computation. Each of `depth` blocks works on tokens of `width` numbers, with attention heads of
    `head_width`.

    Raises ValueError for sizes that do not divide one another.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    patch_size: int = 4
    width: int = 192
    depth: int = 6
    head_width: int = 64
    num_classes: int | None = 10

    def __post_init__(self) -> None:
        check_sizes(self)
        _, height, width = self.image_shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide {height} x {width} images: {self}")
        if self.width % self.head_width:
            raise ValueError(f"head_width {self.head_width} must divide the width {self.width}: {self}")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, for the sines and cosines of the positions: {self}")

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches (rows, columns)."""
        return self.image_shape[1] // self.patch_size, self.image_shape[2] // self.patch_size


class DiT(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, C, H, W], t [B] of `Schedule.network_time`, labels [B] -> [B, C, H, W].

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch.
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        patch = config.image_shape[0] * config.patch_size**2

        self.embed_time = TimeEmbedding(config.width)
        self.embed_class = ClassEmbedding(config.num_classes, config.width)
        self.embed_patch = nn.Linear(patch, config.width)
        self.register_buffer("positions", positions(config.grid, config.width), persistent=False)
        self.blocks = nn.ModuleList(Block(config.width, config.head_width) for _ in range(config.depth))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.head = nn.Linear(config.width, patch)
        self.input_gain = InputGain(config.width, config.image_shape[0])
        for last in (self.modulate, self.head):  # training starts from output 0, the mean of every target
            zero_weights(last)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        # comments give the shapes for a 28 x 28 digit
        cond = F.silu(self.embed_time(t) + self.embed_class(labels, len(x_t)))  # [B, 192]
        tokens = F.pixel_unshuffle(x_t, self.config.patch_size).flatten(2).transpose(1, 2)  # [B, 49, 16]
        tokens = self.embed_patch(tokens) + self.positions  # [B, 49, 192]

        for block in self.blocks:
            tokens = block(tokens, cond)

        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)  # [B, 1, 192] each
        tokens = self.head(modulated(self.norm(tokens), scale, shift))  # [B, 49, 16]
        patches = tokens.transpose(1, 2).unflatten(2, self.config.grid)  # [B, 16, 7, 7]
        output = F.pixel_shuffle(patches, self.config.patch_size)  # [B, 1, 28, 28]
        return output.float() + self.input_gain(cond, x_t)


class Block(nn.Module):
    """A transformer block: attention, then a two-layer network.

    Each works on normalized tokens, scaled and shifted by time and class, and its output is multiplied by a gate and
    added to the tokens. The gates start at 0 ("adaLN-Zero"), so a new block returns its tokens unchanged.

    tokens [B, N, width] and cond [B, width] -> [B, N, width]. causal: as for `Attend`.
    """

    def __init__(self, width: int, head_width: int, *, causal: bool = False) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 6 * width)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.attend = Attend(head_width, causal=causal)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(approximate="tanh"), nn.Linear(MLP_RATIO * width, width)
        )
        zero_weights(self.modulate)

    def forward(self, tokens: Tensor, cond: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(cond)[:, None].chunk(6, dim=-1)  # [B, 1, width]
        attended = self.out(self.attend(self.qkv(modulated(self.norm1(tokens), scale1, shift1))))
        tokens = torch.addcmul(tokens, gate1, attended)
        return torch.addcmul(tokens, gate2, self.mlp(modulated(self.norm2(tokens), scale2, shift2)))


def modulated(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Tokens [B, N, width] * (1 + scale) + shift, both [B, 1, width] (DiT, Section 3.2)."""
    return torch.addcmul(shift, tokens, 1 + scale)


@typed_arguments
def positions(grid: tuple[int, int], width: int) -> Tensor:
    """The position of each patch, as sines and cosines of its row and of its column -> [rows * columns, width].

    Without positions a transformer could not distinguish different arrangements of the same patches.
    """
    rows, columns = torch.meshgrid(
        *(torch.arange(side, device="cpu", dtype=torch.int64) for side in grid), indexing="ij"
    )
    return torch.cat([sinusoids(rows.flatten(), width // 2), sinusoids(columns.flatten(), width // 2)], dim=-1)
