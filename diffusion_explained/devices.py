"""Which device to compute on, what it can hold, and how a model card names it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WITH_FLOAT64 = ("cpu", "cuda")  # other devices may lack float64, as Apple's MPS does


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU where there is one (CUDA, then Apple's MPS), else the CPU.

    Raises ValueError for a name that is no device, or a device that this machine does not have.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_here in here.items() if is_here))
    known = ", ".join(["auto", *(kind for kind, is_here in here.items() if is_here)])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device. This machine has: {known}.") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not here.get(device.type) or (device.index or 0) >= count:
        raise ValueError(f"There is no {name} here. This machine has: {known}.")
    return device


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a training computes in bfloat16: as its precision says, or for "auto" where the device is fast in it."""
    return precision == "bfloat16" or (precision == "auto" and fast_in_bfloat16(device))


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has arithmetic for bfloat16: CUDA mostly, and processors with AVX512-BF16 or AMX."""
    if device.type == "cpu":  # before torch 2.13 there is no asking, and float32 is right everywhere
        able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def hardware(device: torch.device | str, count: int = 1) -> str:
    """What a training ran on, in words, and how many of it."""
    if torch.device(device).type == "cuda":
        one = torch.cuda.get_device_name(device)
    else:
        one = f"{device}, {torch.get_num_threads()} threads of {os.cpu_count()} cores ({platform.machine()})"
    return one if count == 1 else f"{count} x {one}"


def to_float64(x: Tensor) -> Tensor:
    """x in float64, where it is if that device has float64, else on the CPU. `float64_on_cpu` is the one other way.

    x may have any shape, [...].
    """
    return x.to(torch.float64) if x.device.type in WITH_FLOAT64 else x.cpu().to(torch.float64)


def float64_on_cpu(what: str, values: Any) -> Tensor:
    """Numbers, an array or a tensor on any device as float64 on the CPU; ValueError, naming `what`, for all else."""
    try:
        if isinstance(values, Tensor):
            return values.detach().cpu().to(torch.float64)
        return torch.tensor(np.asarray(values), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{what} must be numbers, one or a list of them; got {values!r}.") from error


def to_channels_last(network: nn.Module) -> None:
    """Lay a network's weights out as a GPU's convolutions read them, the channels innermost; in place."""
    to: Any = network.to  # torch documents memory_format, and leaves it out of its annotations
    to(memory_format=torch.channels_last)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Inside, new tensors and weights are float32 on the CPU, whatever `torch.set_default_...` was told.

    A network that is built under it has the same weights for a seed on every machine. It is a decorator too.
    """
    dtype, elsewhere = torch.get_default_dtype(), torch.get_default_device().type != "cpu"
    try:
        if dtype != torch.float32:  # it is global, not a thread's own: touched only if it is another one
            torch.set_default_dtype(torch.float32)
        with torch.device("cpu") if elsewhere else nullcontext():  # torch's context costs time at every operation
            yield
    finally:
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)
