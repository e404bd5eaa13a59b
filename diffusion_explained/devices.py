"""Which device to compute on."""

from __future__ import annotations

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
