"""A network for point clouds, sets whose order means nothing: whoever permutes the points, permutes the output.

    points -> [ latents read points -> latents think -> points read latents ] x depth -> norm, linear -> output

A few latent vectors take part for all points in the place of each other: the latents attend to the points, a
transformer block works on the latents, and each point attends to the latents. N points and L latents take 2 N L
attention weights instead of N^2. Nothing numbers the points, so f(P x) = P f(x) for every permutation P.

Lee et al. 2019, "Set Transformer", Section 3.1 (induced set attention); Jabri et al. 2023, "Scalable Adaptive
Computation for Iterative Generation" (RIN), Section 2, for reading and writing in each block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.dit import Block, modulated
from diffusion_explained.models.embeddings import ClassEmbedding, InputGain, TimeEmbedding
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes

MLP_RATIO = 2  # hidden width of a point's two-layer network, relative to its width


@named_options
@dataclass(frozen=True)
class PointSetConfig:
    """The configuration of a network for point clouds, stored in its weight file.

    image_shape: of one cloud, (points, dimensions). Each of `depth` blocks works on points and on `latents` vectors of
    `width` numbers, with attention heads of `head_width`. `octaves`: a coordinate x enters as x and as sin and cos of
    pi x, 2 pi x, ..., 2^(octaves - 1) pi x, so that thin surfaces can be told apart.

    Raises ValueError for sizes that make no such network.
    """

    image_shape: tuple[int, int] = (1024, 3)
    width: int = 128
    depth: int = 4
    latents: int = 48
    head_width: int = 32
    octaves: int = 5
    num_classes: int | None = 8

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.width % self.head_width:
            raise ValueError(f"head_width {self.head_width} must divide the width {self.width}: {self}")


class PointSet(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, N, D], t [B] of `Schedule.network_time`, labels [B] -> [B, N, D].

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch.
    Raises ValueError for more points than image_shape says, and for points of another dimension.
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: PointSetConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        dimensions = config.image_shape[1]

        self.embed_time = TimeEmbedding(config.width)
        self.embed_class = ClassEmbedding(config.num_classes, config.width)
        self.embed_point = nn.Linear(dimensions * (1 + 2 * config.octaves), config.width)
        self.latents = nn.Parameter(torch.randn(config.latents, config.width, device="cpu", dtype=torch.float32))
        self.blocks = nn.ModuleList(SetBlock(config.width, config.head_width) for _ in range(config.depth))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.head = nn.Linear(config.width, dimensions)
        self.input_gain = InputGain(config.width, dimensions)
        for last in (self.modulate, self.head):  # training starts from output 0, the mean of every target
            zero_weights(last)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        most, dimensions = self.config.image_shape
        if x_t.ndim != 3 or x_t.shape[1] > most or x_t.shape[2] != dimensions:
            raise ValueError(f"This network takes [B, at most {most} points, {dimensions}]; got {list(x_t.shape)}.")
        cond = F.silu(self.embed_time(t) + self.embed_class(labels, len(x_t)))  # [B, width]
        points = self.embed_point(waves(x_t, self.config.octaves))  # [B, N, width]
        latents = self.latents.repeat(len(x_t), 1, 1)  # [B, L, width]

        for block in self.blocks:
            points, latents = block(points, latents, cond)

        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)  # [B, 1, width] each
        output = self.head(modulated(self.norm(points), scale, shift))  # [B, N, D]
        return output.float() + self.input_gain(cond, x_t.transpose(1, 2)).transpose(1, 2)


class SetBlock(nn.Module):
    """Latents read the points, think, and are read by the points; then a two-layer network works on each point.

    points [B, N, width], latents [B, L, width] and cond [B, width] -> new points and latents. As in a DiT's block, what
    is added to the points is scaled, shifted and gated by time and class, and the gates start at 0.
    """

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.read, self.write = (Between(width, head_width) for _ in range(2))
        self.think = Block(width, head_width)
        self.modulate = nn.Linear(width, 6 * width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(approximate="tanh"), nn.Linear(MLP_RATIO * width, width)
        )
        zero_weights(self.modulate)

    def forward(self, points: Tensor, latents: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(cond)[:, None].chunk(6, dim=-1)  # [B, 1, width]
        latents = self.think(latents + self.read(latents, self.norm1(points)), cond)
        points = torch.addcmul(points, gate1, self.write(modulated(self.norm1(points), scale1, shift1), latents))
        points = torch.addcmul(points, gate2, self.mlp(modulated(self.norm2(points), scale2, shift2)))
        return points, latents


class Between(nn.Module):
    """Attention from one set of vectors to another: to [B, N, width] from [B, M, width] -> [B, N, width]."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.norm_to, self.norm_from = (nn.LayerNorm(width) for _ in range(2))
        self.query, self.out = (nn.Linear(width, width) for _ in range(2))
        self.key_value = nn.Linear(width, 2 * width)
        self.attend = Attend(head_width)

    def forward(self, to: Tensor, source: Tensor) -> Tensor:
        query = self.query(self.norm_to(to))
        return self.out(self.attend.between(query, *self.key_value(self.norm_from(source)).chunk(2, dim=-1)))


def waves(x: Tensor, octaves: int) -> Tensor:
    """Coordinates x [..., D] with sin and cos of 2^k pi x for k = 0 .. octaves - 1 -> [..., D * (1 + 2 * octaves)].

    Mildenhall et al. 2020, "NeRF", Eq. 4.
    """
    scales = math.pi * 2.0 ** torch.arange(octaves, device=x.device, dtype=torch.float32)
    angles = (x.float()[..., None] * scales).flatten(-2)  # [..., D * octaves]
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)
