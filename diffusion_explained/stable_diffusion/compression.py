"""How much smaller latents are than pictures: for our autoencoder and the published ones, from their configurations."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_explained.checks import typed_arguments
from diffusion_explained.stable_diffusion.model import StableDiffusion


@dataclass(frozen=True)
class Compression:
    """One autoencoder's compression: a picture side x side x 3 to latents side/pixels x side/pixels x channels.

    side: the side in pixels of the pictures that the model was trained on; pixels: the picture pixels per latent pixel
    along a side; scaling_factor: the factor that gives latents a variance of about 1, after shift_factor has been
    subtracted.
    """

    name: str
    side: int
    channels: int
    pixels: int
    scaling_factor: float
    shift_factor: float = 0.0

    @property
    def picture_values(self) -> int:
        """The number of values in a picture."""
        return 3 * self.side**2

    @property
    def latent_side(self) -> int:
        """The number of latent pixels along a side."""
        return self.side // self.pixels

    @property
    def latent_values(self) -> int:
        """The number of values in its latents."""
        return self.channels * self.latent_side**2

    @property
    def times(self) -> float:
        """The compression factor, 3 * pixels^2 / channels, which does not depend on the side."""
        return self.picture_values / self.latent_values


# from the models' own vae/config.json (latent_channels, block_out_channels, scaling_factor, shift_factor) and the
# sample_size of the U-Net or transformer
PUBLISHED = (
    Compression("Stable Diffusion 1.5", 512, 4, 8, 0.18215),
    Compression("Stable Diffusion XL", 1024, 4, 8, 0.13025),
    Compression("Stable Diffusion 3", 1024, 16, 8, 1.5305, 0.0609),
)


@typed_arguments
def compression_of(model: StableDiffusion) -> Compression:
    """The `Compression` of a loaded model, from its configuration."""
    config = model.pipe.vae.config
    return Compression(
        model.name,
        model.default_size,
        config.latent_channels,
        model.pixels,
        config.scaling_factor,
        config.get("shift_factor") or 0.0,
    )
