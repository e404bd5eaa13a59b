"""Weight files: fp16 tensors in a safetensors file that also carries the network's config and its model card.

Nothing is ever unpickled: a weight file from a stranger can be wrong, but it cannot run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusion_explained.files import atomic_path
from diffusion_explained.tensor_files import read_tensors


def round_to_fp16(network: nn.Module) -> None:
    """Round a network's floating-point weights to fp16, in place, so that it measures as its file will."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


def write_weights(path: Path, network: nn.Module, config: dict[str, Any], card: dict[str, Any]) -> None:
    """Write a network's weights as fp16, with its config and card (both JSON-able) in the file's metadata.

    The file appears whole or not at all. Raises ValueError if a weight is NaN, or too large for fp16.
    """
    tensors = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        tensors[name] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        if not bool(tensors[name].isfinite().all()):
            raise ValueError(f"{name} holds NaN, infinity, or numbers too large for fp16: the network is not saved")
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"config": json.dumps(config), "card": json.dumps(card)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """What `write_weights` wrote: the tensors (floating-point ones as float32), the config and the card.

    Raises FileNotFoundError, or OSError that names the file if it is cut short, is no weight file, or holds NaN.
    """
    tensors, metadata = read_tensors(path, "weight file")
    try:
        config, card = json.loads(metadata["config"]), json.loads(metadata["card"])
    except (KeyError, ValueError, RecursionError) as error:
        raise OSError(f"{path} is damaged, or is no weight file of this package: {error!r}") from error
    if not isinstance(config, dict) or not isinstance(card, dict):
        raise OSError(f"{path} is damaged, or is no weight file of this package: its config and card are no tables.")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise OSError(f"{path} is damaged: {name} holds NaN or infinity. Train or copy it again.")
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, config, card
