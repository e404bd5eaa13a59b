"""Train the two LoRAs of micro that are part of the package: outlines ("zorb style") and mosaics ("quib style").

    python recipes/micro_lora.py --out diffusion_explained/weights/micro_lora --device cuda     # half a minute on a GPU
    python recipes/micro_lora.py --steps 2                                                      # a trial on a CPU

Each is taught with five pictures that a rule makes from emoji (`micro.made_styles`), with the defaults of
`diffusion-explained lora`: rank 4, 300 steps of 8 pictures, no prior loss, seed 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from diffusion_explained.devices import choose_device
from diffusion_explained.files import atomic_path, check_folder
from diffusion_explained.micro.lora import LoRA, LoRAConfig, save_lora, train_lora
from diffusion_explained.micro.lora_pictures import encode_pictures
from diffusion_explained.micro.made_styles import MADE, lora_of, made_pictures
from diffusion_explained.micro.training_runs import training_card
from diffusion_explained.stable_diffusion import load

RANK = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/micro_lora"))
    given = parser.parse_args()
    try:
        check_folder(given.out)
    except OSError as error:
        sys.exit(str(error))
    model = load("micro", device=choose_device(given.device), dtype=torch.float32)
    config = LoRAConfig(images=LoRAConfig().batch_size * given.steps)
    for rule in MADE:
        pictures, captions = made_pictures(rule)
        lora = LoRA(model, RANK)
        encoded = encode_pictures(model, pictures.to(model.device), captions)
        for record in train_lora(lora, model, encoded, config, record_every=50):
            print(f"{rule}, step {record.step}: loss {record.loss:.4f}", flush=True)
        card = {"captions": captions, "rank": RANK, **training_card(config, record, model.device)}
        with tempfile.TemporaryDirectory() as folder, atomic_path(given.out / lora_of(rule).name) as part:
            part.write_bytes(save_lora(Path(folder), lora, model, card).read_bytes())


if __name__ == "__main__":
    main()
