"""Train the course's text models: masked and uniform diffusion, and their autoregressive twin.

    python recipes/text.py masked                            # 750 steps of 64: about ten minutes on two cores
    python recipes/text.py masked --steps 3200 --batch-size 256 --device cuda --compile

The weights that ship were trained by the second line, for each kind. The text is the five novels of
`data.novels("train")`. At the end the model's bits per letter on the sixth, unseen novel are printed, and go into its
card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from diffusion_explained.checks import whole
from diffusion_explained.data.novels import LETTERS, novels
from diffusion_explained.devices import choose_device
from diffusion_explained.discrete import Alphabet, TextModel, save_text
from diffusion_explained.discrete.text import KINDS
from diffusion_explained.files import check_folder
from diffusion_explained.training.text import TextTraining, train_text, windows

LIMITS = (
    "Writes 128 letters at a time in the words of Jane Austen's novels, mostly spelled right, without sense. It knows "
    "small letters and common punctuation only. Nothing that it writes is by Jane Austen."
)
WINDOWS = 1000  # of the unseen novel, without overlap


def bits_of(model: TextModel, most: int = WINDOWS, num_steps: int = 64) -> tuple[float, float]:
    """Bits per letter on the unseen novel, and their standard error over windows."""
    bits = torch.cat(
        [model.bits(x.to(model.device), num_steps, seed=1000 * k) for k, x in
         enumerate(windows(model, novels("test"), most).split(500))]
    )  # fmt: skip
    return float(bits.mean()), float(bits.std() / len(bits) ** 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="fuse the network with torch.compile, for a GPU")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    check_folder(given.out)
    device, alphabet = choose_device(given.device), Alphabet(LETTERS)
    config = TextTraining(whole("--steps", given.steps, 1), whole("--batch-size", given.batch_size, 1))
    card = {"data": "five novels of Jane Austen", "limits": LIMITS, "recipe": "recipes/text.py"}
    name = f"text_{given.kind}"
    for record in train_text(
        novels("train"), alphabet, given.kind, config, name=name, device=device, compiled=given.compile, card=card
    ):
        if record.model is None:
            print(f"{record.step}: {record.bits:.3f} bits, {record.letters_per_second:.0f} letters/s", flush=True)
    model = record.model
    assert model is not None
    model.network.to(device)
    bits, error = bits_of(model)
    model.card.update(bits_per_letter=round(bits, 4), standard_error=round(error, 4), windows=WINDOWS)
    print(f"{name}: {bits:.3f} ± {error:.3f} bits per letter on the unseen novel")
    print(model.sample(seed=0)[0])
    model.network.to("cpu")
    save_text(given.out / f"{name}.safetensors", model)


if __name__ == "__main__":
    main()
