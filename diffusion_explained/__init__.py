"""Diffusion models made runnable: readable code, trained networks, and one sampler engine for all of them."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["denoisers", "exact", "forward", "load_pretrained", "noise", "predictions", "samplers", "schedules"]


def __getattr__(name: str) -> Any:
    """Each of these is imported when first asked for, so that the command line starts before torch is loaded."""
    if name == "load_pretrained":
        return importlib.import_module("diffusion_explained.pretrained").load_pretrained
    if name in __all__:
        return importlib.import_module(f"diffusion_explained.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
