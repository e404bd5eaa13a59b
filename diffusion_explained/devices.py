"""Devices: choosing one, its floating-point types, and its name for a model card."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_explained.messages import shortened

WITH_FLOAT64 = ("cpu", "cuda")  # other devices may lack float64, as Apple's MPS does


def choose_device(name: torch.device | str = "auto") -> torch.device:
    """The device of this name; "auto" is a GPU if there is one (CUDA, then Apple's MPS), otherwise the CPU.

    Every function that takes a `device` reads it with this one.
    Raises ValueError for an unknown name, and for a device that this machine does not have.
    """
    if name == "cpu" or name == torch.device("cpu"):  # the usual one, asked for once per image
        return torch.device("cpu")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_here in here.items() if is_here))
    known = ", ".join(["auto", *(kind for kind, is_here in here.items() if is_here)])
    try:
        device = torch.device(name) if isinstance(name, str | torch.device) else None
    except RuntimeError:
        device = None
    if device is None:
        raise ValueError(f"{shortened(name)} is not a device. This machine has: {known}.")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not here.get(device.type) or (device.index or 0) >= count:
        raise ValueError(f"The device {name} is not available here. This machine has: {known}.")
    return device


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether training uses bfloat16: if `precision` says so, or if it is "auto" and the device is fast in bfloat16."""
    return precision == "bfloat16" or (precision == "auto" and fast_in_bfloat16(device))


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic in hardware: most CUDA GPUs, and CPUs with AVX512-BF16 or AMX."""
    if device.type == "cpu":  # before torch 2.13 this cannot be queried, and float32 is right everywhere
        able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def hardware(device: torch.device | str, count: int = 1) -> str:
    """The hardware that training ran on, in words: `count` devices of this kind."""
    if choose_device(device).type == "cuda":
        one = torch.cuda.get_device_name(device)
    else:
        one = f"{device}, {torch.get_num_threads()} threads of {os.cpu_count()} cores ({platform.machine()})"
    return one if count == 1 else f"{count} x {one}"


def to_float64(x: Tensor) -> Tensor:
    """Convert x, of any shape [...], to float64: on its own device if that has float64, otherwise on the CPU.

    `float64_on_cpu` is the only other function for this conversion.
    """
    return x.to(torch.float64) if x.device.type in WITH_FLOAT64 else x.cpu().to(torch.float64)


def float64_on_cpu(what: str, values: Any) -> Tensor:
    """Convert numbers, an array or a tensor [...] on any device to float64 on the CPU.

    Raises ValueError, naming `what`, for anything else.
    """
    try:
        if np.iscomplexobj(values) or (isinstance(values, Tensor) and values.is_complex()):
            raise ValueError("complex")
        if isinstance(values, Tensor):
            return values.detach().cpu().to(torch.float64)
        return torch.tensor(np.asarray(values), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{what} must be one number or a list of numbers; got {shortened(values)}.") from error


def to_channels_last(network: nn.Module) -> None:
    """Store a network's weights with the channels innermost, which convolutions on a GPU read fastest; in place."""
    to: Any = network.to  # torch documents memory_format, but omits it from its annotations
    to(memory_format=torch.channels_last)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Within this context, new tensors and weights are float32 on the CPU, whatever torch's global defaults are.

    So a network built in it has the same weights for a seed on every machine. It can be used as a decorator too.
    """
    dtype, elsewhere = torch.get_default_dtype(), torch.get_default_device().type != "cpu"
    try:
        if dtype != torch.float32:  # the default dtype is shared by all threads: set only if it differs
            torch.set_default_dtype(torch.float32)
        with torch.device("cpu") if elsewhere else nullcontext():  # torch's context costs time at every operation
            yield
    finally:
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)
