"""The model card of a Micro Stable Diffusion: training, data and measurements, as JSON and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusion_explained.files import atomic_path, read_json
from diffusion_explained.stable_diffusion.weights import MICRO_CARD

README = "README.md"
PREDICTED = {
    "eps": "the noise, on Stable Diffusion 1.5's schedule (scaled linear, 1,000 steps)",
    "flow": "the direction from picture to noise (flow matching, x_t = (1 - t) x_0 + t eps)",
}

USE = """```python
from diffusion_explained.stable_diffusion import load

images = load("micro").sample("a blue cat", seed=0)  # [1, 3, 128, 128] in [-1, 1]

# or with diffusers alone
pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
pipe("a blue cat", height=128, width=128)
```"""


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card in a folder. Raises FileNotFoundError when there is none, OSError when it is damaged."""
    path = folder / MICRO_CARD
    try:
        card = read_json(path, "card")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {MICRO_CARD} in {folder}: `diffusion-explained micro` writes it"
        ) from None
    if not isinstance(card, dict):
        raise OSError(f"the card {path} is damaged: it must be a table; got {str(card)[:60]}.")
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a card as JSON, and as README.md for people."""
    with atomic_path(folder / MICRO_CARD) as part:
        part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    with atomic_path(folder / README) as part:
        part.write_text(readme(card), encoding="utf-8")


def readme(card: dict[str, Any]) -> str:
    """The card in Markdown; shorter if the card is of an autoencoder alone."""
    parts = card["autoencoder"], card.get("text_to_image")
    return "\n\n".join([*_head(*parts), *_autoencoder(parts[0]), *_text_to_image(parts[1]), *_foot()]) + "\n"


def _head(autoencoder: dict[str, Any], text_to_image: dict[str, Any] | None) -> list[str]:
    if text_to_image is None:
        return ["# The autoencoder of Micro Stable Diffusion", "Pictures of 128 x 128 to 16 x 16 x 4 latents and back."]
    counts = {"autoencoder": autoencoder["parameters"], **text_to_image["parameters"]}
    rows = [f"| {part} | {count / 1e6:.2f} million |" for part, count in counts.items()]
    return [
        "# Micro Stable Diffusion",
        "Text to image for emoji of 128 x 128 pixels: Stable Diffusion 1.5's architecture, its autoencoder included, "
        "trained from scratch. A pipeline of diffusers, fp16.",
        USE,
        "\n".join(["| part | parameters |", "|------|------------|", *rows]),
    ]


def _autoencoder(card: dict[str, Any]) -> list[str]:
    psnr = f"{card['psnr_training']:.1f} dB on emoji that it was trained on"
    if "psnr_held_out" in card:
        psnr += f", {card['psnr_held_out']:.1f} dB on emoji that it never saw"
    return ["## Autoencoder", f"Reconstruction (PSNR over white): {psnr}. {_training(card)}"]


def _text_to_image(card: dict[str, Any] | None) -> list[str]:
    if card is None:
        return []
    return [
        "## Text encoder and U-Net",
        f"The U-Net predicts {PREDICTED[card['prediction']]}. Captions of at most {card['tokens']} tokens, replaced by "
        f"the empty one {card['caption_dropout']:.0%} of the time. {card['scenes']:,} scenes, each used several times. "
        f"{_training(card)}{_before(card)}",
    ]


def _before(card: dict[str, Any]) -> str:
    if "continued_from" not in card:
        return ""
    first = card["continued_from"]
    return (
        f" It continued (`{card['recipe']}`) a training on {first['images_seen']:,} images of {first['scenes']:,} "
        f"scenes, {first['seconds']:,.0f} s on {first['hardware']}. It has memorised: with a style named, every seed "
        "gives nearly the one training picture of that subject in that style (`benchmarks/micro_text.py copies`)."
    )


def _training(card: dict[str, Any]) -> str:
    return (
        f"Trained on {card['images_seen']:,} images in {card['seconds']:,.0f} s on {card['hardware']} "
        f"(torch {card['torch']}), seed {card['seed']}."
    )


def _foot() -> list[str]:
    return [
        "## Data and licences",
        "Scenes composed of Fluent Emoji (Microsoft, MIT), Noto Emoji (Google, Apache 2.0) and Twemoji (Twitter and "
        "contributors, CC BY 4.0), recoloured, moved and combined; captions from emojibase-data (MIT). Some "
        "combinations of colour and subject, and of subject and style, were held out, to measure whether the model can "
        "combine them. It can draw only emoji.",
    ]
