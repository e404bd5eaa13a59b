"""Preview latents in colour without the decoder: a linear map from a latent pixel to red, green and blue.

The map is fitted once per model, by least squares, to the pictures that its own decoder makes from random latents,
averaged over the 8 x 8 pixels of each latent pixel. It is coarse: it shows where things are and their rough colours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_explained.checks import check_finite
from diffusion_explained.noise import generators, randn

SIDE = 32  # latent pixels along a side of the fitted latents: 1,024 pixels for 5 or 17 coefficients per colour


@torch.no_grad()
def fit_preview(decode: Callable[[Tensor], Tensor], channels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Fit the linear map from latents [B, C, h, w] to colours [B, 3, h, w] in [-1, 1]: `decode`, averaged per pixel."""
    latents = randn((1, channels, SIDE, SIDE), generators(1), device)
    images = decode(latents)
    check_finite(images, "decoded pictures", "the decoder is broken, or overflows float16: load it in float32")
    images = torch.nn.functional.avg_pool2d(images, images.shape[-1] // SIDE)

    def columns(z: Tensor) -> Tensor:
        """z [B, C, h, w] as [pixels, C + 1]; the last column, of ones, is for the offset."""
        flat = z.movedim(1, -1).reshape(-1, channels).float()
        return torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)

    colours = images.movedim(1, -1).reshape(-1, 3)
    factors = torch.linalg.lstsq(columns(latents).cpu(), colours.cpu()).solution

    def preview(z: Tensor) -> Tensor:
        rows = columns(z) @ factors.to(z.device)
        return rows.reshape(len(z), *z.shape[2:], 3).movedim(-1, 1).clamp(-1, 1)

    return preview
