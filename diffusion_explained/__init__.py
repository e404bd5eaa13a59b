"""Diffusion models made runnable: readable code, trained networks, and one sampler engine for all of them."""

from diffusion_explained import denoisers, exact, forward, noise, predictions, samplers, schedules

__version__ = "0.1.0"
__all__ = ["denoisers", "exact", "forward", "noise", "predictions", "samplers", "schedules"]
