"""The model card of micro's ControlNet: its base, its training and the opening of its zero convolutions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import atomic_path, read_json
from diffusion_explained.micro.card import README

CONTROL_CARD = "control.json"  # beside the weights of a ControlNet that was trained here

USE = """```python
from diffusion_explained.stable_diffusion import load, load_control

model = load_control(load("micro"), "micro")
model.sample("a red cat", control=picture, seed=0)  # picture: [1, 3, 128, 128] in [0, 1]

# or with diffusers alone
control = diffusers.ControlNetModel.from_pretrained(folder)
pipe = diffusers.StableDiffusionControlNetPipeline.from_pretrained(micro_folder, controlnet=control)
```"""


def weights_checksum(folder: Path) -> str:
    """The start of the SHA-256 of a folder's safetensors, one after the other in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@typed_arguments
def read_control_card(folder: Path) -> dict[str, Any]:
    """Read the card in a folder. Raises OSError when there is none, or when it is damaged."""
    card = read_json(folder / CONTROL_CARD, "card")
    if not isinstance(card, dict) or not isinstance(card.get("openings"), list):
        raise OSError(f"the card {folder / CONTROL_CARD} is damaged: it must be a table with openings.")
    return card


def write_control_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a card as JSON, and as README.md for people."""
    with atomic_path(folder / CONTROL_CARD) as part:
        head = json.dumps({key: value for key, value in card.items() if key != "openings"}, indent=2)
        rows = ",\n".join(json.dumps({key: round(x, 5) for key, x in row.items()}) for row in card["openings"])
        part.write_text(f'{head[:-2]},\n  "openings": [\n{rows}\n  ]\n}}\n', encoding="utf-8")
    with atomic_path(folder / README) as part:
        part.write_text(_readme(card), encoding="utf-8")


def _readme(card: dict[str, Any]) -> str:
    kinds = "; ".join(
        f"of {things} " + ", ".join(f"{share:.0%} {kind}" for kind, share in shares.items())
        for things, shares in card["kinds"].items()
    )
    first = card.get("continued_from")
    before = (
        f"{first['images_seen']:,} images in {first['seconds']:,.0f} s without pairs of things (weights "
        f"{first['weights']}), and then on "
        if first
        else ""
    )
    paragraphs = (
        "# The ControlNet of Micro Stable Diffusion",
        "One network for three kinds of control pictures of 128 x 128 pixels: edges (thin white lines), scribbles "
        "(thick white lines) and layouts (the thing that the caption says first in red, the second in blue). The "
        "format of diffusers' ControlNetModel, fp16.",
        USE,
        f"{card['parameters'] / 1e6:.2f} million parameters. A copy of the encoder of micro's U-Net and of the first "
        "residual block of its middle block; the paper copies the whole middle block.",
        "## Training",
        f"Base: {card['base']} (U-Net weights {card['base_weights']}), which stays as it is. {card['scenes']:,} "
        f"scenes, of each image one control picture, made from the scene itself: {kinds}. Captions are replaced by the "
        f"empty one {card['caption_dropout']:.0%} of the time. Trained on {before}{card['images_seen']:,} images in "
        f"{card['seconds']:,.0f} s on {card['hardware']} (torch {card['torch']}), seed {card['seed']}, by "
        "`recipes/micro_control.py`. `control.json` holds the norms of the zero convolutions during training.",
        "## Data and licences",
        "The emoji and captions that Micro Stable Diffusion was trained on: see its card.",
    )
    return "\n\n".join(paragraphs) + "\n"
