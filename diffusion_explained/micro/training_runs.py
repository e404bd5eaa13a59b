"""From the emoji to a folder that can be shipped: both trainings, each with its measurements, files and card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device, hardware
from diffusion_explained.files import atomic_folder
from diffusion_explained.micro.autoencoder_training import AutoencoderConfig, finish_autoencoder, train_autoencoder
from diffusion_explained.micro.card import read_card, write_card
from diffusion_explained.micro.emoji import EmojiSet
from diffusion_explained.micro.encoded_scenes import EncodedScenes, encode_scenes
from diffusion_explained.micro.networks import (
    build_autoencoder,
    build_text_encoder,
    build_unet,
    in_fp16,
    save_micro,
)
from diffusion_explained.micro.text_to_image_training import TextToImage, TextToImageConfig, train_text_to_image
from diffusion_explained.models import count_parameters
from diffusion_explained.noise import seeded
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.training.timed import TimedConfig, TimedRecord

CHECKPOINTS = "checkpoints"


@named_options(of=train_autoencoder, but="checkpoints")
@typed_arguments
def make_autoencoder(
    out: Path,
    emoji: EmojiSet,
    config: AutoencoderConfig,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    **options: Any,
) -> Iterator[TimedRecord]:
    """Train an autoencoder and write it with its card to a folder; checkpoints are in a subfolder.

    options: of `train_autoencoder`. The weights are written after the last record; the same call again resumes a
    stopped training.
    """
    vae = seeded(config.seed, build_autoencoder)
    for record in train_autoencoder(
        vae, emoji, config, device=device, workers=workers, checkpoints=out / CHECKPOINTS, **options
    ):  # one at least
        yield record
    measured = finish_autoencoder(vae, emoji, config.seed)
    with atomic_folder(out) as part:
        in_fp16("vae", vae).save_pretrained(part, safe_serialization=True)
    card = {"parameters": count_parameters(vae), **measured, **training_card(config, record, device)}
    write_card(out, {"autoencoder": card})


@typed_arguments
def load_autoencoder(folder: Path, device: torch.device | str = "cpu") -> Any:
    """Load the autoencoder that `make_autoencoder` wrote.

    Raises FileNotFoundError if it is not there, OSError if it is damaged.
    """
    device = choose_device(device)
    if not (folder / "diffusion_pytorch_model.safetensors").is_file():
        raise FileNotFoundError(f"there is no autoencoder in {folder}: `diffusion-explained micro vae` trains one")
    try:
        vae, report = diffusers().AutoencoderKL.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, low_cpu_mem_usage=False
        )
    except Exception as error:  # diffusers and safetensors raise many kinds of errors for a damaged file
        raise OSError(f"the autoencoder in {folder} is damaged: {error}. Train or copy it again.") from error
    if lacking := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise OSError(f"the autoencoder in {folder} is not complete: it lacks {lacking[0]}. Train or copy it again.")
    return vae.eval().requires_grad_(False).to(device)


@named_options(of=encode_scenes)
@typed_arguments
def make_scenes(
    vae_folder: Path,
    emoji: EmojiSet,
    tokenizer: Any,
    count: int,
    *,
    device: torch.device | str = "cpu",
    **options: Any,
) -> EncodedScenes:
    """Encode scenes with the autoencoder of a folder, in half precision on a GPU; options: of `encode_scenes`."""
    vae = load_autoencoder(vae_folder, device)
    return encode_scenes(
        vae.half() if choose_device(device).type == "cuda" else vae, tokenizer, emoji, count, **options
    )


@named_options(of=train_text_to_image, but="checkpoints")
@typed_arguments
def make_micro(
    out: Path,
    vae_folder: Path,
    scenes: EncodedScenes,
    tokenizer: Any,
    prediction: str,
    config: TextToImageConfig,
    *,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Iterator[TimedRecord]:
    """Train text encoder and U-Net on encoded scenes, and write the whole pipeline with its card.

    options: of `train_text_to_image`. The weights are written after the last record; the same call again resumes a
    stopped training.
    """
    card, vae = read_card(vae_folder), load_autoencoder(vae_folder)
    model = seeded(config.seed, lambda: TextToImage(build_text_encoder(tokenizer), build_unet()))
    for record in train_text_to_image(
        model, scenes, prediction, config, device=device, checkpoints=out / CHECKPOINTS, **options
    ):  # one at least
        yield record
    save_micro(out, vae, model.text_encoder, tokenizer, model.unet, prediction)
    card["text_to_image"] = {
        "prediction": prediction,
        "parameters": {"text encoder": count_parameters(model.text_encoder), "U-Net": count_parameters(model.unet)},
        "tokens": tokenizer.model_max_length,
        "caption_dropout": config.label_dropout,
        "scenes": len(scenes),
        **training_card(config, record, device),
    }
    write_card(out, card)


def training_card(config: TimedConfig, record: TimedRecord, device: torch.device | str) -> dict[str, Any]:
    """The entries of a card that describe a training."""
    return {
        "images_seen": record.images_seen,
        "seconds": record.seconds,
        "loss": record.loss,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "hardware": hardware(device),
        "torch": torch.__version__,
    }
