"""A Micro Stable Diffusion with random weights, for tests that need its folder and no picture of it."""

from pathlib import Path

import torch

from diffusion_explained.micro.card import write_card
from diffusion_explained.micro.networks import build_autoencoder, build_text_encoder, build_unet, save_micro
from diffusion_explained.micro.tokens import load_tokenizer

TRAINING = {"images_seen": 1, "seconds": 1.0, "loss": 1.0, "seed": 0, "hardware": "a test", "torch": torch.__version__}


def random_micro(folder: Path, prediction: str) -> Path:
    """Write it, its card included."""
    tokenizer = load_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_micro(folder, build_autoencoder(), build_text_encoder(tokenizer), tokenizer, build_unet(), prediction)
    drawn = {"prediction": prediction, "parameters": {}, "tokens": 32, "caption_dropout": 0.1, "scenes": 1, **TRAINING}
    write_card(folder, {"autoencoder": {"parameters": 1, "psnr_training": 1.0, **TRAINING}, "text_to_image": drawn})
    return folder
