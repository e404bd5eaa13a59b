"""The networks, by the names under which weight files and recipes know them."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from diffusion_explained.models.classifier import Classifier, ClassifierConfig
from diffusion_explained.models.unet import UNet, UNetConfig
from diffusion_explained.names import unknown_name

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "unet": (UNet, UNetConfig),
    "classifier": (Classifier, ClassifierConfig),
}

__all__ = ["NETWORKS", "Classifier", "ClassifierConfig", "UNet", "UNetConfig", "build_network", "network_config"]


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
