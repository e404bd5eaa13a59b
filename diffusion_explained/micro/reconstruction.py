"""How well an autoencoder gives pictures back, and what its latents are like."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import to_float64

PEAK_TO_PEAK = 2.0  # of pixels in [-1, 1]
BATCH = 64


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each pair of [B, 3, H, W] in [-1, 1], in dB [B]: 10 log10(2^2 / MSE)."""
    mse = (images.float() - others.float()).square().flatten(1).mean(dim=1)
    return 10 * (math.log10(PEAK_TO_PEAK**2) - mse.log10())


def on_white(images: Tensor) -> Tensor:
    """Pictures with straight alpha, uint8 [N, 4, H, W], over white: float [N, 3, H, W] in [-1, 1]."""
    colour, alpha = images[:, :3].float() / 255, images[:, 3:].float() / 255
    return 2 * (colour * alpha + 1 - alpha) - 1


@torch.no_grad()
def reconstruction_psnr(vae: Any, images: Tensor) -> float:
    """The mean PSNR in dB of pictures, uint8 [N, 4, H, W] over white, encoded to the mean and decoded again.

    Raises ValueError when there are none.
    """
    if not len(images):
        raise ValueError("There are no pictures to measure the reconstruction of.")
    first = next(vae.parameters())
    found = []
    for part in images.split(BATCH):
        x = on_white(part.to(first.device))
        decoded = vae.decode(vae.encode(x.to(first.dtype)).latent_dist.mean, return_dict=False)[0]
        found.append(psnr(x, decoded.float().clamp(-1, 1)).cpu())
    return float(torch.cat(found).mean())


@torch.no_grad()
def balance_latents(vae: Any, latents: Tensor) -> dict[str, Any]:
    """Give every channel of an autoencoder's latents mean 0 and one standard deviation, and set its scaling factor.

    The decoder starts from pure noise when the U-Net samples, so what all pictures share (white, most of all) should
    not be a constant of the latents. The means and the differences between channels go into the 1 x 1 convolutions
    around the latents, which leaves what the autoencoder computes as it was:

        z' = (z - mean_c) * s_c,   s_c = std / std_c       scaling_factor = 1 / std      (latent diffusion, App. G)

    Args:
        latents: means [N, C, h, w] that vae.encode gave for what it will see.
    Returns what was found: {"means", "stds", "std"}.

    Raises ValueError if a channel of the latents does not vary.
    """
    by_channel = to_float64(latents).movedim(1, 0).flatten(1)
    means, stds = by_channel.mean(dim=1), by_channel.std(dim=1)
    if not bool((stds > 0).all() & stds.isfinite().all()):
        said = ", ".join(f"{value:g}" for value in stds.tolist())
        raise ValueError(
            f"Every channel of the latents must vary; their standard deviations are {said}. Train the autoencoder for "
            "longer, or with a smaller learning rate."
        )
    std = stds.square().mean().sqrt()
    scales = std / stds
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(means)

    def like(values: Tensor, weight: Tensor) -> Tensor:
        return values.to(weight.dtype).to(weight.device)

    # rows of quant_conv: C means, then C log variances
    before.weight[:channels] *= like(scales, before.weight)[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - like(means, before.bias)) * like(scales, before.bias)
    before.bias[channels:] += 2 * like(scales, before.bias).log()
    weight = to_float64(after.weight[:, :, 0, 0])
    after.bias += like(weight @ means.to(weight.device), after.bias)
    after.weight /= like(scales, after.weight)[None, :, None, None]
    vae.register_to_config(scaling_factor=float(f"{1 / std:.6g}"))
    return {"means": means.tolist(), "stds": stds.tolist(), "std": float(std)}
