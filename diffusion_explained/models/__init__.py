"""The networks, and the names by which weight files and recipes refer to them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from diffusion_explained.checks import typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.models.classifier import Classifier, ClassifierConfig
from diffusion_explained.models.dit import DiT, DiTConfig
from diffusion_explained.models.egnn import EGNN, EGNNConfig
from diffusion_explained.models.mlp import MLP, MLPConfig
from diffusion_explained.models.network import NetworkModule, check_network
from diffusion_explained.models.points import PointSet, PointSetConfig
from diffusion_explained.models.space_time import SpaceTimeConfig, SpaceTimeDiT
from diffusion_explained.models.unet import UNet, UNetConfig
from diffusion_explained.tables import read_table

MOST_WEIGHTS = 200_000_000  # 0.8 GB in float32; the largest network that ships has 8 million

NETWORKS: dict[str, tuple[type[NetworkModule] | type[Classifier], type]] = {
    "mlp": (MLP, MLPConfig),
    "unet": (UNet, UNetConfig),
    "dit": (DiT, DiTConfig),
    "space_time": (SpaceTimeDiT, SpaceTimeConfig),
    "egnn": (EGNN, EGNNConfig),
    "points": (PointSet, PointSetConfig),
    "classifier": (Classifier, ClassifierConfig),
}

__all__ = [
    "EGNN",
    "MLP",
    "NETWORKS",
    "Classifier",
    "ClassifierConfig",
    "DiT",
    "DiTConfig",
    "EGNNConfig",
    "MLPConfig",
    "NetworkModule",
    "PointSet",
    "PointSetConfig",
    "SpaceTimeConfig",
    "SpaceTimeDiT",
    "UNet",
    "UNetConfig",
    "build_network",
    "count_flops",
    "count_parameters",
    "network_config",
    "of_data",
]


def build_network(config: dict[str, Any], most_weights: int = MOST_WEIGHTS) -> NetworkModule | Classifier:
    """Build the network that a config describes: its name under "network", and the fields of its config class.

    most_weights: the largest allowed number of weights; it is checked before they are allocated.
    Raises ValueError for a name or a field that does not exist, for a value of the wrong type, for sizes that make no
    network, and for a network with more weights.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"A network is described by a table of its settings; got {config!r}.")
    options = dict(config)
    name = options.pop("network", None)
    if not isinstance(name, str) or name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    network_class, config_class = NETWORKS[name]
    try:
        with Allowance(most_weights):
            return network_class(read_table(config_class, options, f"the network {name}"))
    except (ZeroDivisionError, IndexError, RuntimeError, OverflowError) as error:  # from sizes that no layer can have
        raise ValueError(f"No {name} can be built with these settings: {options}. ({error})") from error


def of_data(network: dict[str, Any], image_shape: Sequence[int], num_classes: int) -> dict[str, Any]:
    """Complete a configuration for `build_network` by image_shape and num_classes. Raises ValueError if it has them."""
    if given := sorted({"image_shape", "num_classes"} & network.keys()):
        raise ValueError(f"[network] has {' and '.join(given)}, which the data set determines: leave that out.")
    return {**network, "image_shape": list(image_shape), "num_classes": num_classes}


class Allowance(TorchFunctionMode):
    """Within this context torch may allocate at most `most` numbers; more raise ValueError before they are allocated.

    A weight file or a recipe can describe a network too large for any memory. (Building it on torch's meta device would
    show its size too, but that imports torch's compiler, which takes seconds.)
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.used = most, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn):
            size = args[0] if args and isinstance(args[0], Sequence) else args
            self.used += math.prod(size)
        elif func is torch.Tensor.clone:  # when a module is copied layer by layer
            self.used += args[0].numel()
        elif func is torch.meshgrid:
            self.used += math.prod(len(axis) for axis in args)
        elif func is torch.arange:
            self.used += int(max(args))
        if self.used > self.most:
            raise ValueError(
                f"The network would have more than {self.most:,} weights, the largest number allowed here."
            )
        return func(*args, **(kwargs or {}))


def network_config(network: nn.Module) -> dict[str, Any]:
    """The config from which `build_network` builds the same network with new weights; it can be written as JSON.

    Raises ValueError for a network that is not one of the package's.
    """
    for name, (network_class, _) in NETWORKS.items():
        if type(network) is network_class:
            config: Any = network.config
            return {"network": name, **dataclasses.asdict(config)}
    raise ValueError(f"{type(network).__name__} is not one of the package's networks: {', '.join(NETWORKS)}.")


@typed_arguments
def count_parameters(network: nn.Module) -> int:
    """The number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_flops(network: NetworkModule | Classifier) -> int:
    """The floating-point operations per image of one forward pass; a multiplication and an addition count as two.

    Only convolutions and matrix products are counted (`torch.utils.flop_counter`); they are nearly all of the work.
    Raises ValueError for a network without weights or without image_shape.
    """
    check_network(network)
    device = next(network.parameters()).device
    x = torch.zeros(1, *network.image_shape, device=device, dtype=torch.float32)
    times = () if isinstance(network, Classifier) else (torch.zeros(1, device=device, dtype=torch.float32),)
    with FlopCounterMode(display=False) as counter:
        network(x, *times)
    return counter.get_total_flops()
