"""Diffusion models made runnable: readable code, trained networks, and one sampler engine for all of them."""

from diffusion_explained import denoisers, exact, forward, noise, predictions, samplers, schedules
from diffusion_explained.pretrained import load_pretrained

__version__ = "0.1.0"
__all__ = ["denoisers", "exact", "forward", "load_pretrained", "noise", "predictions", "samplers", "schedules"]
