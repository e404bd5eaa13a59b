"""Measure how well an autoencoder reconstructs pictures, and standardise its latents."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import image_batch, same_shape, typed_arguments
from diffusion_explained.devices import to_float64

PEAK_TO_PEAK = 2.0  # the range of pixels in [-1, 1]
BATCH = 64


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each pair of [B, 3, H, W] in [-1, 1], in dB [B]: 10 log10(2^2 / MSE).

    Raises ValueError for shapes that differ.
    """
    same_shape("both pictures", image_batch("images", images), image_batch("others", others))
    mse = (images.float() - others.float()).square().flatten(1).mean(dim=1)
    return 10 * (math.log10(PEAK_TO_PEAK**2) - mse.log10())


@typed_arguments
def on_white(images: Tensor) -> Tensor:
    """Put pictures with straight alpha, uint8 [N, 4, H, W], on white: float [N, 3, H, W] in [-1, 1]."""
    colour, alpha = images[:, :3].float() / 255, images[:, 3:].float() / 255
    return 2 * (colour * alpha + 1 - alpha) - 1


@typed_arguments
@torch.no_grad()
def reconstruction_psnr(vae: Any, images: Tensor) -> float:
    """The mean PSNR in dB of pictures, uint8 [N, 4, H, W] put on white, encoded to the mean and decoded again.

    Raises ValueError when there are no pictures.
    """
    if not len(images):
        raise ValueError("There are no pictures whose reconstruction could be measured: give one or more.")
    first = next(vae.parameters())
    found = []
    for part in images.split(BATCH):
        x = on_white(part.to(first.device))
        decoded = vae.decode(vae.encode(x.to(first.dtype)).latent_dist.mean, return_dict=False)[0]
        found.append(psnr(x, decoded.float().clamp(-1, 1)).cpu())
    return float(torch.cat(found).mean())


@torch.no_grad()
def balance_latents(vae: Any, latents: Tensor) -> dict[str, Any]:
    """Give all channels of an autoencoder's latents mean 0 and the same standard deviation; set its scaling factor.

    The U-Net starts sampling from noise of mean 0, so what all pictures share (mostly white) should not be a constant
    offset of the latents. The means and the differences between channels go into the 1 x 1 convolutions around the
    latents, so the autoencoder's reconstructions do not change:

        z' = (z - mean_c) * s_c,   s_c = std / std_c       scaling_factor = 1 / std      (latent diffusion, App. G)

    Args:
        latents: means [N, C, h, w] that vae.encode returned for typical pictures.
    Returns the measured statistics: {"means", "stds", "std"}.

    Raises ValueError if a channel of the latents does not vary.
    """
    by_channel = to_float64(latents).movedim(1, 0).flatten(1)
    means, stds = by_channel.mean(dim=1), by_channel.std(dim=1)
    if not bool((stds > 0).all() & stds.isfinite().all()):
        listed = ", ".join(f"{value:g}" for value in stds.tolist())
        raise ValueError(
            f"Every channel of the latents must vary; their standard deviations are {listed}. Train the autoencoder "
            "for longer, or with a smaller learning rate."
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
