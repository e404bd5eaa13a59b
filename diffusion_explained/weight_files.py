"""Weight files: fp16 tensors in a safetensors file that also contains the network's config and its model card.

Nothing is unpickled: a weight file from an unknown source can be wrong, but it cannot run code. And nothing is mapped:
safetensors' own reader maps the file into memory, and if a mapped file is truncated, the system kills the process
(SIGBUS) at the next access to a tensor, without an exception.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import atomic_path, read_bytes
from diffusion_explained.messages import shortened, unknown_name

METADATA = ("config", "card", "format")  # "format" is added by other programs that write safetensors
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SMALL = 10_000  # values that a network may have in addition to its weights, such as the frequencies of embeddings

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(path: Path, what: str = "file", most: int | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and the texts in its metadata; what, most: as for `read_bytes`.

    Raises FileNotFoundError, and OSError, naming the file, if it cannot be read, is truncated or of another format.
    """
    content = read_bytes(path, what, most)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")  # the header is JSON, and `load` has checked it
        words = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise OSError(f"{path} is damaged: cut short, or not a safetensors file ({error}).") from error
    return tensors, words


def round_to_fp16(network: nn.Module) -> None:
    """Round a network's floating-point weights to fp16, in place, so that measurements are those of its weight file."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


@typed_arguments
def write_weights(path: Path, network: nn.Module, config: dict[str, Any], card: dict[str, Any]) -> None:
    """Write a network's weights as fp16, with its config and card (as JSON) in the file's metadata.

    The file appears whole or not at all. Raises ValueError if a weight is NaN, infinite or too large for fp16.
    """
    tensors = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        tensors[name] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        if not bool(tensors[name].isfinite().all()):
            raise ValueError(f"{name} holds NaN, infinity, or numbers too large for fp16: the network is not saved")
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={"config": json.dumps(config), "card": json.dumps(card)})


@typed_arguments
def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Read a file of `write_weights`: the tensors (floating-point ones as float32), the config and the card.

    Raises FileNotFoundError; OSError, naming the file, if it is truncated, is not a weight file, or holds NaN or
    numbers of an unexpected type; ValueError, naming the file, for unknown metadata.
    """
    tensors, metadata = read_tensors(path, "weight file")
    try:
        config, card = (json.loads(metadata[key].removeprefix("\ufeff")) for key in ("config", "card"))
    except (KeyError, ValueError, RecursionError) as error:
        raise OSError(f"{path} is damaged, or is not a weight file of this package: {shortened(error, 200)}") from error
    for key in metadata:
        if key not in METADATA:
            raise ValueError(f"{path}: {unknown_name('metadata', key, METADATA)}")
    for key, table in {"config": config, "card": card}.items():
        if not isinstance(table, dict):
            raise OSError(f"{path} is damaged: its {key} must be a table; got {shortened(table)}.")
    for name, tensor in tensors.items():
        if tensor.dtype not in (*FLOATS, torch.int64):
            raise OSError(
                f"{path}: {name} holds {tensor.dtype}; weights are floats of 16, 32 or 64 bits, counts int64."
            )
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        if not bool(tensors[name].isfinite().all()):
            raise OSError(
                f"{path} is damaged: {name} holds NaN, infinity or numbers beyond float32. Train or copy it again."
            )
    return tensors, config, card


def refused(path: Path, error: ValueError) -> ValueError:
    """The error with the file's name in front, shortened to a few lines, because a file's content can be long."""
    message = str(error)
    return ValueError(f"{path}: {message if len(message) <= 600 else message[:597] + '...'}")


def with_weights(build: Callable[[int], Network], tensors: Mapping[str, Tensor], path: Path) -> Network:
    """Build a network with `build(most_weights)` and give it the tensors [...] of a file as weights.

    most_weights limits the number of weights that may be allocated to about those in the file, because the file's
    configuration may be wrong. The state of torch's global generator is restored. Raises OSError, naming the file, if
    tensors are missing, unknown, or of another shape or type, and ValueError, naming the file, if `build` raises it.

    tensors: by name, each of any shape [...].
    """
    most = 2 * sum(tensor.numel() for tensor in tensors.values()) + SMALL
    try:
        # (On the meta device no initial weights would be drawn, but torch then imports its compiler, which takes more
        # than a second; drawing the weights takes milliseconds.)
        with torch.random.fork_rng(devices=[]):
            network = build(most)
    except ValueError as error:
        raise refused(path, error) from error
    expected = network.state_dict()
    faults = [f"lacks {name}" for name in expected.keys() - tensors.keys()]
    faults += [f"has {shortened(name)}, which the network has not" for name in tensors.keys() - expected.keys()]
    for name in expected.keys() & tensors.keys():
        found, needed = tensors[name], expected[name]
        if found.shape != needed.shape or found.dtype != needed.dtype:
            faults.append(
                f"has {name} as {list(found.shape)} of {found.dtype}, not {list(needed.shape)} of {needed.dtype}"
            )
        elif name.endswith("running_var") and bool((found < 0).any()):
            faults.append(f"has a variance below 0 in {name}")
    if faults:
        more = f" (and {len(faults) - 3} more faults)" if len(faults) > 3 else ""
        raise OSError(
            f"{path} does not hold the weights of the network that it describes: it {'; it '.join(sorted(faults)[:3])}"
            f"{more}. Train or copy it again."
        )
    network.load_state_dict(tensors, assign=True)
    return network


def fingerprint(words: str, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 (hexadecimal) of a text and of named tensors: their names, dtypes, shapes and every byte.

    The tensors may have any shape, [...].
    """
    digest = hashlib.sha256(words.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
