"""Which device to compute on, and how a model card names it."""

from __future__ import annotations

import os
import platform

import torch


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


def hardware(device: torch.device | str, count: int = 1) -> str:
    """What a training ran on, in words, and how many of it."""
    if torch.device(device).type == "cuda":
        one = torch.cuda.get_device_name(device)
    else:
        one = f"{device}, {torch.get_num_threads()} threads of {os.cpu_count()} cores ({platform.machine()})"
    return one if count == 1 else f"{count} x {one}"
