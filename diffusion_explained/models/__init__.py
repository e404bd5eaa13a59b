"""The networks, by the names under which weight files and recipes know them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffusion_explained.models.classifier import Classifier, ClassifierConfig
from diffusion_explained.models.dit import DiT, DiTConfig
from diffusion_explained.models.mlp import MLP, MLPConfig
from diffusion_explained.models.unet import UNet, UNetConfig
from diffusion_explained.names import unknown_name

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "mlp": (MLP, MLPConfig),
    "unet": (UNet, UNetConfig),
    "dit": (DiT, DiTConfig),
    "classifier": (Classifier, ClassifierConfig),
}

__all__ = [
    "MLP",
    "NETWORKS",
    "Classifier",
    "ClassifierConfig",
    "DiT",
    "DiTConfig",
    "MLPConfig",
    "UNet",
    "UNetConfig",
    "build_network",
    "count_flops",
    "count_parameters",
    "network_config",
]


def build_network(config: dict[str, Any]) -> nn.Module:
    """The network that a config describes: its name under "network", and the fields of its config class.

    Raises ValueError for a name or a field that does not exist.
    """
    options = dict(config)
    name = options.pop("network", None)
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    network_class, config_class = NETWORKS[name]
    fields = {field.name for field in dataclasses.fields(config_class)}
    for option in options:
        if option not in fields:
            raise unknown_name(f"setting of {name}", option, fields)
    # JSON and TOML know lists, configs are frozen and hold tuples
    return network_class(config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}))


def network_config(network: nn.Module) -> dict[str, Any]:
    """The JSON-able config from which `build_network` builds the same network (with other weights)."""
    for name, (network_class, _) in NETWORKS.items():
        if type(network) is network_class:
            return {"network": name, **dataclasses.asdict(network.config)}
    raise ValueError(f"{type(network).__name__} is not one of the package's networks: {', '.join(NETWORKS)}.")


def count_parameters(network: nn.Module) -> int:
    """The number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_flops(network: nn.Module) -> int:
    """Floating-point operations of one forward pass of one image, a multiplication and an addition being two.

    Only convolutions and matrix products are counted (`torch.utils.flop_counter`); they are nearly all of it.
    """
    device = next(network.parameters()).device
    x = torch.zeros(1, *network.image_shape, device=device, dtype=torch.float32)
    times = () if isinstance(network, Classifier) else (torch.zeros(1, device=device, dtype=torch.float32),)
    with FlopCounterMode(display=False) as counter:
        network(x, *times)
    return counter.get_total_flops()
