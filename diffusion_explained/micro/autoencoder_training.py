"""Train the autoencoder: it reconstructs pictures from latents with 48 times fewer numbers.

    for record in train_autoencoder(vae, emoji, AutoencoderConfig(seconds=150), device="cuda"):
        print(record.step, record.loss)
    measured = finish_autoencoder(record_vae, emoji)

Latent diffusion, Sec. 3.1: a Gaussian encoder and a decoder; a small KL term keeps the latents near N(0, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device, to_channels_last
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.reconstruction import balance_latents, reconstruction_psnr
from diffusion_explained.micro.scene_stream import SceneBatches
from diffusion_explained.micro.scenes import SceneSampler, draw_scenes
from diffusion_explained.noise import randn
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.config import check_allowed
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import compiled, make_step
from diffusion_explained.training.timed import TimedConfig, TimedRecord, train_for
from diffusion_explained.weight_files import round_to_fp16

DRAWN_AT_ONCE = 8  # batches: each drawing waits for the device several times, whatever the number of scenes
MEASURED_SCENES = 2048  # how many scenes the latents' mean and standard deviation are measured on


@named_options
@dataclass(frozen=True)
class AutoencoderConfig(TimedConfig):
    """The settings for training the autoencoder.

    edge_weight: the weight in the loss of the differences between neighbouring pixels, which sharpens edges.
    kl_weight: the weight of the KL divergence of a latent number from N(0, 1), which makes the decoder tolerate a
        little noise.
    """

    batch_size: int = 64
    learning_rate: float = 1e-3
    edge_weight: float = 0.5
    kl_weight: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_allowed(
            self,
            {"edge_weight (0 or more)": self.edge_weight >= 0, "kl_weight (0 or more)": self.kl_weight >= 0},
        )


class Reconstruction(nn.Module):
    """An autoencoder during training: (pictures, eps) -> (pictures, mean, log variance); latents are mean + std * eps.

    images [B, 3, H, W], eps and mean [B, C, h, w].
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.mean + posterior.std * eps, return_dict=False)[0]
        return decoded, posterior.mean, posterior.logvar


def autoencoder_loss(
    decoded: Tensor, images: Tensor, mean: Tensor, logvar: Tensor, config: AutoencoderConfig
) -> Tensor:
    """The autoencoder's loss, |x' - x| + edge_weight * |grad x' - grad x| + kl_weight * KL, each averaged; shape [].

    KL = (mean^2 + var - 1 - log var) / 2 per latent number     (latent diffusion, Sec. 3.1 and App. G)

    decoded x' and images x [B, 3, H, W]; mean and logvar [B, C, h, w].
    """
    difference = decoded - images
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    kl = (mean.square() + logvar.exp() - 1 - logvar).mean() / 2
    return difference.abs().mean() + config.edge_weight * edges + config.kl_weight * kl


@named_options(of=train_for)
@one_at_a_time
@typed_arguments
def train_autoencoder(
    vae: Any,
    emoji: EmojiSet,
    config: AutoencoderConfig,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    checkpoints: Path | None = None,
    **options: Any,
) -> Iterator[TimedRecord]:
    """Train an AutoencoderKL on drawn scenes, in place; at the end it holds the moving average of its weights.

    Args:
        workers: the number of processes that compose scenes; 0 for this process.
        checkpoints: a folder; if it holds a checkpoint of this training, training resumes from it.
        options: record_every and checkpoint_every of `train_for`.

    Raises ValueError for the checkpoints of another training, FloatingPointError when the loss is not finite, and what
    `folder_lock.hold` raises.
    """
    device = choose_device(device)
    if config.channels_last:
        to_channels_last(vae)
    state = TrainingState.new(vae.to(device).train(), config)
    description = {"network": dict(vae.config), "training": asdict(config), "emoji": len(emoji)}
    resume(state, description, checkpoints)

    predict = compiled(Reconstruction(vae), config)

    def loss(images: Tensor, eps: Tensor) -> Tensor:
        decoded, mean, logvar = predict(images, eps)
        return autoencoder_loss(decoded.float(), images, mean.float(), logvar.float(), config)

    step = make_step(loss, state, config, Processes.here(device, config.batch_size))
    pictures = drawn(emoji, config, device, state.step, workers)

    def batches() -> list[Tensor]:
        x = next(pictures)
        side = x.shape[-1] // 2 ** (len(vae.config.block_out_channels) - 1)
        shape = (len(x), vae.config.latent_channels, side, side)
        return [x, randn(shape, state.noise_generator, device)]

    yield from train_for(step, state, config, batches, description, checkpoints=checkpoints, **options)
    vae.load_state_dict(state.ema.state_dict())


def drawn(
    emoji: EmojiSet, config: AutoencoderConfig, device: torch.device, first: int, workers: int
) -> Iterator[Tensor]:
    """Yield the pictures of the training's batches from batch `first` on; several batches are drawn at once."""
    images = emoji.images.to(device)
    scenes = SceneBatches(SceneSampler(emoji, "train", config.seed), config.batch_size * DRAWN_AT_ONCE)
    chunk, skipped = divmod(first, DRAWN_AT_ONCE)
    form = torch.channels_last if config.channels_last else torch.contiguous_format
    for together in scenes.stream(chunk, config.num_steps // DRAWN_AT_ONCE + 1 - chunk, workers):
        for x in draw_scenes(together, images).split(config.batch_size)[skipped:]:
            yield x.contiguous(memory_format=form)
        skipped = 0


@torch.no_grad()
def finish_autoencoder(vae: Any, emoji: EmojiSet, seed: int = 0) -> dict[str, Any]:
    """Balance a trained autoencoder's latents, set its scaling factor, round its weights to fp16, and measure it.

    Returns {"psnr_held_out", "psnr_training", "latents": {"means", "stds", "std"}}: the PSNR in dB over white, of the
    held-out emoji and of as many training emoji.
    """
    vae.eval()
    device = next(vae.parameters()).device
    images = emoji.images.to(device)
    batches = SceneBatches(SceneSampler(emoji, "train", seed), 64).stream(0, MEASURED_SCENES // 64)
    latents = [vae.encode(draw_scenes(scenes, images)).latent_dist.mean for scenes in batches]
    found = balance_latents(vae, torch.cat(latents).cpu())
    round_to_fp16(vae)
    held_out, seen = emoji.images[emoji.held_out], emoji.images[~emoji.held_out]
    spread = torch.linspace(
        0, len(seen) - 1, min(len(seen), max(1, len(held_out))), dtype=torch.float32, device="cpu"
    ).long()
    measured = {"psnr_training": reconstruction_psnr(vae, seen[spread]), "latents": found}
    if len(held_out):
        measured["psnr_held_out"] = reconstruction_psnr(vae, held_out)
    return measured
