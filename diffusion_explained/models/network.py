"""The base class of this package's networks: a torch module with the shape of its data, called like a `Network`.

Your own network works in `training.train` and `pretrained.Model` if it has the same attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from diffusion_explained.checks import whole
from diffusion_explained.messages import shortened


class NetworkModule(nn.Module):
    """A `denoisers.Network` with weights: an nn.Module that is called as network(x_t, t, labels) -> [B, ...].

    image_shape: of one image or point, (C, H, W) or (D,). num_classes: labels are 0 .. num_classes - 1, and
    num_classes itself is the null label; None: the network takes no labels.
    """

    image_shape: tuple[int, ...]
    num_classes: int | None

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The raw output [B, ...] for x_t [B, ...], t [B] and labels [B]; labels=None is the null label for all."""
        raise NotImplementedError


def check_network(network: Any) -> None:
    """Raise ValueError unless a network has weights and the attributes of `NetworkModule`; it may be of any class."""
    if not (isinstance(network, nn.Module) and hasattr(network, "image_shape") and hasattr(network, "num_classes")):
        raise ValueError(
            f"network must be a torch.nn.Module with the attributes image_shape and num_classes, such as a UNet; got "
            f"{shortened(network)}. Build one, or give yours these attributes."
        )
    if next(network.parameters(), None) is None:
        raise ValueError(f"network must have weights; got {shortened(network)}, which has none.")
    if not isinstance(network.image_shape, Sequence) or isinstance(network.image_shape, str):
        shape = shortened(network.image_shape)
        raise ValueError(f"network.image_shape must be that of one image, (C, H, W), or point, (D,); got {shape}.")
    for side in network.image_shape:
        whole("each number of network.image_shape", side, 1)
    if network.num_classes is not None:
        whole("network.num_classes", network.num_classes, 0)


def zero_weights(layer: nn.Module) -> None:
    """Set every weight and bias of a layer to 0, so that training starts from an output of 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
