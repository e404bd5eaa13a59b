"""A diffusion transformer for video: tokens are patches of frames, and attention alternates between space and time.

    x_t -> patches -> + places, + times -> [space, time, space, time, ...] -> norm, linear -> patches put back -> output
                                             each scaled, shifted and gated by t and class

A block of space lets the patches of one frame attend to each other, a block of time the same patch of all frames. For
F frames of P patches that takes F P^2 + P F^2 attention weights instead of (F P)^2.

Ho et al. 2022, "Video Diffusion Models", Section 3 (factorised space-time attention); the blocks are those of the DiT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.dit import Block, modulated, positions
from diffusion_explained.models.embeddings import ClassEmbedding, InputGain, TimeEmbedding, sinusoids
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes

FRAME_RATE = 20.0  # frames are numbered 0, 20, 40, ... in the sinusoids, so that neighbours differ clearly


@named_options
@dataclass(frozen=True)
class SpaceTimeConfig:
    """The configuration of a space-time transformer, stored in its weight file.

    image_shape: of one clip, (channels, frames, height, width). `patch_size` p makes one token of every p x p pixels of
    one frame. `depth` blocks, of space and of time in turn, work on tokens of `width` numbers, with attention heads of
    `head_width`.

    Raises ValueError for sizes that do not divide one another.
    """

    image_shape: tuple[int, int, int, int] = (1, 16, 32, 32)
    patch_size: int = 4
    width: int = 128
    depth: int = 8
    head_width: int = 32
    num_classes: int | None = 40

    def __post_init__(self) -> None:
        check_sizes(self)
        _, _, height, width = self.image_shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide {height} x {width} frames: {self}")
        if self.width % self.head_width or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of head_width {self.head_width}: {self}")

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches of a frame (rows, columns)."""
        return self.image_shape[2] // self.patch_size, self.image_shape[3] // self.patch_size


class SpaceTimeDiT(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, C, F, H, W], t [B], labels [B] -> [B, C, F, H, W], as a `DiT` for clips.

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch.
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: SpaceTimeConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        channels, frames, _, _ = config.image_shape
        patch = channels * config.patch_size**2

        self.embed_time = TimeEmbedding(config.width)
        self.embed_class = ClassEmbedding(config.num_classes, config.width)
        self.embed_patch = nn.Linear(patch, config.width)
        times = FRAME_RATE * torch.arange(frames, device="cpu", dtype=torch.float32)
        self.register_buffer("places", positions(config.grid, config.width), persistent=False)
        self.register_buffer("times", sinusoids(times, config.width)[:, None], persistent=False)
        self.blocks = nn.ModuleList(Block(config.width, config.head_width) for _ in range(config.depth))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.head = nn.Linear(config.width, patch)
        self.input_gain = InputGain(config.width, channels)
        for last in (self.modulate, self.head):  # training starts from output 0, the mean of every target
            zero_weights(last)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        # comments give the shapes for 16 frames of 32 x 32
        cond = F.silu(self.embed_time(t) + self.embed_class(labels, len(x_t)))  # [B, 128]
        patches = F.pixel_unshuffle(x_t.transpose(1, 2), self.config.patch_size).flatten(3)  # [B, 16, 16, 64]
        tokens = self.embed_patch(patches.transpose(2, 3)) + self.places + self.times  # [B, 16, 64, 128]

        for i, block in enumerate(self.blocks):
            in_time = i % 2 == 1
            groups = tokens.transpose(1, 2) if in_time else tokens  # [B, 64, 16, 128] or [B, 16, 64, 128]
            count = groups.shape[1]
            groups = block(groups.flatten(0, 1), cond.repeat_interleave(count, dim=0)).unflatten(0, (-1, count))
            tokens = groups.transpose(1, 2) if in_time else groups

        scale, shift = self.modulate(cond)[:, None, None].chunk(2, dim=-1)  # [B, 1, 1, 128] each
        tokens = self.head(modulated(self.norm(tokens), scale, shift))  # [B, 16, 64, 16]
        patches = tokens.transpose(2, 3).unflatten(3, self.config.grid)  # [B, 16, 16, 8, 8]
        output = F.pixel_shuffle(patches, self.config.patch_size).transpose(1, 2)  # [B, 1, 16, 32, 32]
        return output.float() + self.input_gain(cond, x_t)
