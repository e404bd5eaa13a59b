"""An equivariant network for atoms: turn or mirror a molecule, and its output turns or is mirrored with it.

An item is a list of points, each with a position in space and features, [B, N, 3 + F]. Between every two points there
is a message, computed from their features and their distance, which no rotation changes. Messages change the features,
and move each point towards or away from the others, along the line between them.

    e_ij <- e_ij + phi_e(h_i, h_j, e_ij, |x_i - x_j|)                          (Satorras et al. 2021, Eq. 3)
    x_i  <- x_i + sum_j (x_i - x_j) / (|x_i - x_j| + 1) * phi_x(e_ij)          (Eq. 4; its divisor: EDM, Eq. 12)
    h_i  <- h_i + phi_h(h_i, sum_j e_ij)                                       (Eq. 5 and 6)

Satorras, Hoogeboom & Welling 2021, "E(n) Equivariant Graph Neural Networks" (EGNN); Hoogeboom et al. 2022, "Equivariant
Diffusion for Molecule Generation in 3D" (EDM). It differs from them in these points:

- Messages are kept from block to block, as the state of the pair (Vignac et al. 2023, "MiDi", keeps bonds so).
- phi_e sees distances through radial functions, because bonds differ by a few hundredths of an angstrom.
- Time and class scale and shift the normalized features of each block, as in the DiT.
- Input and output are scaled by time for every channel's own spread, as for images (Karras et al. 2022, Sec. 5): kinds
  of atoms are small numbers beside positions, so that the molecule's shape is decided before its kinds.
- All data have their centre at 0, and the noise has not: EDM draws the noise without its centre, and here the network
  gives the centre's velocity along the straight path exactly, mean(x_t) / t, so that x_0 is centred. It is for the
  prediction type "flow" alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.embeddings import ClassEmbedding, TimeEmbedding
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes

RADIAL = 32  # radial functions of a distance
REACH = 6.0  # the largest of their centres, in spreads of the positions
LEAST_TIME = 1e-3  # below it, the centre's velocity is not divided by the time
LEAST_SIGNAL = 0.25  # below it, distances are not divided by alpha


@named_options
@dataclass(frozen=True)
class EGNNConfig:
    """The configuration of an equivariant network, stored in its weight file.

    image_shape: (N, 3 + F), N points with three coordinates and F features each. spreads: the root mean square of the
    positions, then of each feature. The spread of the positions is the network's unit of length.

    Raises ValueError for sizes that make no network.
    """

    image_shape: tuple[int, int] = (9, 8)
    width: int = 160
    depth: int = 9
    spreads: tuple[float, ...] = (1 / 6, 0.1, 0.03, 0.03, 0.03, 0.03)
    num_classes: int | None = None

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.image_shape[1] < 4 or self.width % 2:
            raise ValueError(f"points need three coordinates and a feature or more, and the width must be even: {self}")
        if len(self.spreads) != self.image_shape[1] - 2 or not min(self.spreads) > 0:
            raise ValueError(f"spreads must be one number above 0 for the positions and one per feature: {self}")


class EGNN(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, N, 3 + F], t [B] of `Schedule.network_time`, labels [B] -> [B, N, 3 + F].

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch. The output
    is the velocity of `FlowSchedule`: for positions it is equivariant, for features invariant, and both are equivariant
    to the order of the points.
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: EGNNConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        features = config.image_shape[1] - 3
        spreads = torch.tensor([config.spreads[0]] * 3 + [*config.spreads[1:]], device="cpu", dtype=torch.float32)
        self.register_buffer("spread", spreads, persistent=False)  # the weight file has the configuration
        self.spread: Tensor

        self.embed_time = TimeEmbedding(config.width)
        self.embed_class = ClassEmbedding(config.num_classes, config.width)
        self.embed_features = nn.Linear(features, config.width)
        self.embed_distance = nn.Linear(RADIAL + 2, config.width)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.depth))
        self.modulate = nn.Linear(config.width, 2 * config.width)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.head = nn.Linear(config.width, features)
        for last in (self.modulate, self.head):  # training starts from the best linear prediction
            zero_weights(last)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        # comments give the shapes for molecules of up to 9 atoms of 5 features
        cond = F.silu(self.embed_time(t) + self.embed_class(labels, len(x_t)))  # [B, 160]
        time = (t / 1000).float()[:, None, None]
        spread = self.spread  # [8]
        norm = (time.square() + (spread * (1 - time)).square()).sqrt()  # of x_t, [B, 1, 8]
        centre = x_t[..., :3].mean(dim=1, keepdim=True)  # [B, 1, 3]
        centred = torch.cat([x_t[..., :3] - centre, x_t[..., 3:]], dim=-1)
        start, features = (centred / norm).tensor_split([3], dim=-1)  # [B, 9, 3], [B, 9, 5]

        seen = between_all(centred[..., :3] / (spread[:3] * (1 - time).clamp(min=LEAST_SIGNAL)))[1]
        e = self.embed_distance(radial(seen))  # [B, 9, 9, 160]
        h = self.embed_features(features)  # [B, 9, 160]
        moved = torch.zeros_like(start)
        for block in self.blocks:
            change, h, e = block(start + time / norm[..., :1] * moved, h, e, cond)
            moved = moved + change

        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)
        changed = self.head(torch.addcmul(shift, self.norm(h), 1 + scale)).float()  # [B, 9, 5]
        output = torch.cat([moved - moved.mean(dim=1, keepdim=True), changed], dim=-1)
        velocity = (time - spread.square() * (1 - time)) / norm.square() * centred - spread / norm * output
        drift = centre.expand_as(start) / time.clamp(min=LEAST_TIME)
        return velocity + F.pad(drift, (0, features.shape[-1]))


class Block(nn.Module):
    """Messages between all points, then how the points move, and new features.

    x [B, N, 3], h [B, N, width], e [B, N, N, width], cond [B, width] -> change of x [B, N, 3], new h and e.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 3 * width)
        self.norm, self.norm_pair = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        # the parts of phi_e's first layer that see h_i, h_j, e_ij and the distance
        self.receiver = nn.Linear(width, width)
        self.sender, self.pair = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.distance = nn.Linear(RADIAL + 2, width, bias=False)
        self.message = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)  # how much a message matters (EGNN, Eq. 8)
        self.move = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        for last in (self.modulate, self.move[-1], self.update[-1]):
            zero_weights(last)

    def forward(self, x: Tensor, h: Tensor, e: Tensor, cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale, shift, gate = self.modulate(cond)[:, None].chunk(3, dim=-1)  # [B, 1, width] each
        normed = torch.addcmul(shift, self.norm(h), 1 + scale)
        between, distance = between_all(x)

        m = self.receiver(normed)[:, :, None] + self.sender(normed)[:, None]
        m = m + self.pair(self.norm_pair(e)) + self.distance(radial(distance))
        m = F.silu(self.message(F.silu(m)))  # [B, N, N, width]
        e = e + m
        change = (between / (distance + 1) * self.move(e)).sum(dim=2)
        gathered = (self.gate(m).sigmoid() * m).mean(dim=2)  # [B, N, width]
        return change, h + (1 + gate) * self.update(torch.cat([normed, gathered], dim=-1)), e


def between_all(x: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors x_i - x_j [B, N, N, 3] between points [B, N, 3], and their lengths [B, N, N, 1]."""
    between = x[:, :, None] - x[:, None]
    return between, (between.square().sum(dim=-1, keepdim=True) + 1e-8).sqrt()


def radial(distance: Tensor) -> Tensor:
    """Distances [..., 1] as bells around 32 centres up to 6, and two functions for larger distances -> [..., 34]."""
    centres = torch.linspace(0, REACH, RADIAL, device=distance.device, dtype=torch.float32)
    bells = torch.exp(-(((distance - centres) * (RADIAL / REACH)) ** 2) / 2)
    return torch.cat([bells, distance / (distance + REACH), torch.log1p(distance) / 3], dim=-1)
