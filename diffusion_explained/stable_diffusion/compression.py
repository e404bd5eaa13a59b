"""How much smaller latents are than pictures: ours beside the published ones, each from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_explained.stable_diffusion.model import StableDiffusion


@dataclass(frozen=True)
class Compression:
    """One autoencoder's trade: a picture side x side x 3 for latents side/pixels x side/pixels x channels.

    side: pixels, what the model was trained to draw; pixels: how many a latent pixel is wide; scaling_factor: what
    latents are multiplied by, so that their variance is about 1 (after shift_factor has been subtracted).
    """

    name: str
    side: int
    channels: int
    pixels: int
    scaling_factor: float
    shift_factor: float = 0.0

    @property
    def picture_values(self) -> int:
        """Numbers in a picture."""
        return 3 * self.side**2

    @property
    def latent_side(self) -> int:
        """Latent pixels in a row."""
        return self.side // self.pixels

    @property
    def latent_values(self) -> int:
        """Numbers in its latents."""
        return self.channels * self.latent_side**2

    @property
    def times(self) -> float:
        """How many times fewer numbers: 3 * pixels^2 / channels, whatever the side."""
        return self.picture_values / self.latent_values


# the models' own vae/config.json (latent_channels, block_out_channels, scaling_factor, shift_factor), and unet's or
# transformer's sample_size
PUBLISHED = (
    Compression("Stable Diffusion 1.5", 512, 4, 8, 0.18215),
    Compression("Stable Diffusion XL", 1024, 4, 8, 0.13025),
    Compression("Stable Diffusion 3", 1024, 16, 8, 1.5305, 0.0609),
)


def compression_of(model: StableDiffusion) -> Compression:
    """A loaded model's, from its configuration."""
    config = model.pipe.vae.config
    return Compression(
        model.name,
        model.default_size,
        config.latent_channels,
        model.pixels,
        config.scaling_factor,
        config.get("shift_factor") or 0.0,
    )
