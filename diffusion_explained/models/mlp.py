"""A small fully connected network for points in the plane: the smallest network here that can learn to denoise."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.embeddings import ClassEmbedding, TimeEmbedding
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes


@named_options
@dataclass(frozen=True)
class MLPConfig:
    """The configuration of an MLP, stored in its weight file. `image_shape` is that of one point, (2,) in the plane.

    two_times: the network has a second time input, the end of the step that it predicts (`training.shortcut`).

    Raises ValueError for sizes that make no MLP.
    """

    image_shape: tuple[int, ...] = (2,)
    width: int = 128
    layers: int = 3
    num_classes: int | None = None
    two_times: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        if len(self.image_shape) != 1 or min(*self.image_shape, self.width, self.layers) < 1:
            raise ValueError(f"an MLP takes points of shape (D,), with width and layers of 1 or more; got {self}")


class MLP(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, D], t [B] of `Schedule.network_time`, labels [B] -> [B, D].

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch. A network
    of two times also takes t [B, 2], the times at which a step starts and ends; with t [B] the step has no length.
    Other networks raise ValueError for t [B, 2].
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        (dimensions,) = config.image_shape

        self.embed_time = TimeEmbedding(config.width)
        self.embed_class = ClassEmbedding(config.num_classes, config.width)
        self.embed_length = TimeEmbedding(config.width) if config.two_times else None
        self.stem = nn.Linear(dimensions, config.width)
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.layers))
        self.head = nn.Linear(config.width, dimensions)
        zero_weights(self.head)  # so that training starts from output 0, the mean of every target

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        if t.ndim == 2 and self.embed_length is None:
            raise ValueError("This MLP takes one time per point: build it with two_times=True to give it a step's end.")
        start, end = (t, t) if t.ndim == 1 else t.unbind(dim=1)
        cond = self.embed_time(start) + self.embed_class(labels, len(x_t))  # [B, width]
        if self.embed_length is not None:
            cond = cond + self.embed_length(start - end)
        h = self.stem(x_t)  # [B, width]
        for layer in self.layers:
            h = h + layer(F.silu(h + cond))
        return self.head(F.silu(h))  # [B, D]
