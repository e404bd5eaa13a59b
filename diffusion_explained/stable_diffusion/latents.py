"""Pictures and latents: the autoencoder, and the start of sampling from noise, from a picture, or for inpainting.

The latents of a 512 x 512 picture are 64 x 64 x 4 numbers. `Start` holds where a sampler starts:

    text to image       x_T = eps
    image to image      x_t = alpha * z + sigma * eps at the level given by the strength, z the encoded picture
    inpainting          the same, and the known part of the picture, which `inpainting.KnownRegion` keeps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained import samplers
from diffusion_explained.devices import torch_defaults
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import randn
from diffusion_explained.schedules import Level

TILE = 512  # pixels along a side of a tile, where a large picture is decoded in tiles


@dataclass(frozen=True)
class Known:
    """The known region of inpainting: image_latents and eps [B, C, h, w], mask [B, 1, h, w], 1 where to paint anew.

    first: the level at which sampling starts.
    """

    image_latents: Tensor
    eps: Tensor
    mask: Tensor
    first: Level


@dataclass(frozen=True)
class Start(samplers.Start):
    """The start of a run: x_t [B, C, h, w] at levels[0], the levels to visit, one random stream per image.

    For inpainting: `known`, with any network; or, with a network that was trained to inpaint, `channels`
    [B, 1 + C, h, w], its inputs beside x_t: the mask, and the latents of the picture with the masked part grey.
    """

    known: Known | None = None
    channels: Tensor | None = None


def check_size(height: int, width: int, multiple: int) -> None:
    """Raise ValueError for a picture size that is not a multiple of `multiple`; the message gives the nearest one."""
    if min(height, width) < multiple or height % multiple or width % multiple:
        near = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
        raise ValueError(
            f"height and width must be multiples of {multiple} pixels, got {height} x {width}; "
            f"the nearest is {near[0]} x {near[1]}."
        )


def picture(images: Tensor, count: int) -> Tensor:
    """The user's picture or pictures as [count, 3, H, W]. Raises ValueError for another shape, number, or range."""
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3 or len(images) not in (1, count):
        raise ValueError(f"image must be [3, H, W], or [1 or {count}, 3, H, W]; got {tuple(images.shape)}.")
    if not images.is_floating_point() or not bool((images.abs() <= 1.001).all()):
        raise ValueError("image must hold numbers from -1 (black) to 1 (white); `data.pictures.load_image` gives them.")
    return images.expand(count, -1, -1, -1)


def mask_of(mask: Tensor, images: Tensor) -> Tensor:
    """A mask [B, 1, H, W] of 0 and 1 from one of values 0 to 1: 1 (paint anew) from 0.5 on.

    Raises ValueError for a mask of another size than the images [B, 3, H, W].
    """
    given = tuple(mask.shape)
    mask = mask.reshape(*[1] * (4 - mask.ndim), *given) if mask.ndim < 4 else mask
    size = tuple(images.shape[-2:])
    if mask.ndim != 4 or mask.shape[1] != 1 or len(mask) not in (1, len(images)) or tuple(mask.shape[-2:]) != size:
        raise ValueError(f"The mask must be as large as the picture, [{size[0]}, {size[1]}]; got {given}.")
    return (mask.float() >= 0.5).float().expand(len(images), -1, -1, -1)


def steps_of_strength(strength: float, num_inference_steps: int) -> int:
    """The number of steps that image to image takes for a strength: int(strength * n), as in diffusers.

    Raises ValueError for a strength outside [0, 1], or one that leaves no step.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 (keep the picture) to 1 (start from noise), got {strength}.")
    taken = int(num_inference_steps * strength)
    if taken < 1:
        raise ValueError(
            f"strength {strength:g} leaves none of {num_inference_steps} steps to take, so the picture would come back "
            f"unchanged. Give at least {1 / num_inference_steps:.3g}."
        )
    return taken


def dtype_of(module: nn.Module) -> torch.dtype:
    """The dtype of a module's weights; diffusers' own `.dtype` walks through all modules, which takes milliseconds."""
    return next(module.parameters()).dtype


def statistics(vae: Any, device: torch.device) -> tuple[Tensor | float, Tensor | float]:
    """(centre, spread) of an autoencoder's raw latents z: latents = (z - centre) * scaling_factor / spread.

    The centre is latents_mean [C, 1, 1] and the spread latents_std, where the configuration has them; else shift_factor
    and 1. `configurations` refuses keys that diffusers' pipeline of the family ignores. (In diffusers inpainting with
    Stable Diffusion XL encodes without latents_mean and latents_std, but decodes with them; here encoding and decoding
    both use them.)
    """
    config = vae.config
    if config.get("latents_mean") is None or config.get("latents_std") is None:
        return config.get("shift_factor") or 0.0, 1.0
    mean, std = (
        torch.tensor(config[key], dtype=torch.float32, device=device).reshape(-1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    return mean, std


@torch_defaults()
@torch.no_grad()
def encode(vae: Any, device: torch.device, images: Tensor, streams: Sequence[torch.Generator] | None = None) -> Tensor:
    """Encode pictures [B, 3, H, W] in [-1, 1] to latents [B, C, H/8, W/8], float32, of about unit variance.

        z ~ N(mean, std^2) of the encoder
        latents = (z - centre) * scaling_factor / spread, see `statistics`  (latent diffusion, App. G)

    streams: one random stream per image; without streams z is the mean. A tiny autoencoder returns z itself.
    """
    encoded = vae.encode(images.to(device, dtype_of(vae)))
    if hasattr(encoded, "latent_dist"):
        z = encoded.latent_dist.mean.float()
        if streams is not None:
            z = z + encoded.latent_dist.std.float() * randn(z.shape, streams, z.device)
    else:  # AutoencoderTiny
        z = encoded.latents.float()
    centre, spread = statistics(vae, z.device)
    return (z - centre) * vae.config.scaling_factor / spread


@torch_defaults()
@torch.no_grad()
def decode(vae: Any, device: torch.device, latents: Tensor, through: Callable[..., Any] | None = None) -> Tensor:
    """Decode latents [B, C, h, w] to pictures [B, 3, 8h, 8w], float32 in [-1, 1].

    through: a compiled vae.decode, used instead of vae.decode.
    """
    centre, spread = statistics(vae, latents.device)
    z = latents * spread / vae.config.scaling_factor + centre
    images = (through or vae.decode)(z.to(device, dtype_of(vae)), return_dict=False)[0]
    return images.float().clamp(-1, 1)


def decode_in_tiles(vae: Any, pixels: int) -> None:
    """Make an autoencoder decode pictures of more than `TILE` pixels a side in tiles, which overlap by a quarter.

    pixels: picture pixels per latent pixel. diffusers' own tiles are as large as the training pictures: for Stable
    Diffusion XL 1024 pixels, which saves nothing.
    """
    vae.enable_tiling()
    if hasattr(vae, "tile_latent_min_size"):
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // pixels


def start(
    levels: list[Level],
    streams: list[torch.Generator],
    shape: tuple[int, ...],
    device: torch.device,
    *,
    vae: Any = None,
    image: Tensor | None = None,
    strength: float = 1.0,
    mask: Tensor | None = None,
    shows_mask: bool = False,
) -> Start:
    """The `Start` of a sampler, with random numbers drawn in the same order as in diffusers' pipelines.

    Args:
        levels: all levels, from pure noise on.
        streams: one random stream per image, [B].
        shape: the shape of one image's latents, (C, h, w); of a video (C, f, h, w), without an image.
        image, strength, mask: as in `StableDiffusion.prepare`.
        shows_mask: whether the network takes the mask and the masked picture as input channels.
    """
    count = len(streams)
    if image is None:
        return Start(randn((count, *shape), streams, device), levels, streams)
    levels = levels[len(levels) - 1 - steps_of_strength(strength, len(levels) - 1) :]
    image = picture(image, count)
    if mask is not None:
        mask = mask_of(mask, image).to(image.device)
        small = torch.nn.functional.interpolate(mask, size=shape[1:]).to(device)
    # at full strength diffusers' inpainting starts from pure noise, but its image to image keeps a trace of the picture
    pure = mask is not None and strength == 1
    image_latents = None if pure and shows_mask else encode(vae, device, image, streams)
    eps = randn((count, *shape), streams, device)
    x_t = eps if pure or image_latents is None else add_noise(image_latents, eps, levels[0])
    if mask is None:
        return Start(x_t, levels, streams)
    if shows_mask or image_latents is None:
        masked = encode(vae, device, image * (mask < 0.5), streams)
        return Start(x_t, levels, streams, channels=torch.cat([small, masked], dim=1))
    return Start(x_t, levels, streams, Known(image_latents, eps, small, levels[0]))
