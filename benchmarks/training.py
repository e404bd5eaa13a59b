"""Train the quick recipe on this machine's processor: its time, and the quality of its digits.

python benchmarks/training.py
"""

import tempfile
import time
from pathlib import Path

from side_by_side import machine, table

from diffusion_explained.pretrained import load_pretrained
from diffusion_explained.training.recipes import run_recipe, weights_file

RECIPE = "mnist_unet_flow_quick"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for record in run_recipe(RECIPE, Path(folder)):
            last = record
        total = time.perf_counter() - begin
        card = load_pretrained(weights_file(RECIPE, Path(folder))).card
    rows = [
        [
            f"{card['images_seen']:,}",
            f"{last.seconds:.0f}",
            f"{card['images_seen'] / last.seconds:.0f}",
            f"{100 * measured['samples']['accuracy']:.1f}%",
            f"{measured['samples']['frechet_distance']:.2f}",
        ]
        for measured in card["evaluation"]
    ]
    print(machine(), end="\n\n")
    header = ["images seen", "training, s", "images/s", "guided class accuracy, 1,000 samples", "Frechet distance"]
    print(table(header, rows))
    print(f"\n{total:.0f} s with the evaluation.")


if __name__ == "__main__":
    main()
