"""Make the pictures that replace CIFAR-10 where it is missing: 400 by our own network, 40 per class, none picked.

    python recipes/cifar10_made.py [OUTPUT.npz] [--weights NAME_OR_FILE] [--device cuda]

Image i is of class i // 40 and starts from the noise of seed i. On another device the last bits differ, and with
them a few bytes of the file; its checksums are inside it. A CPU needs a quarter of an hour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from diffusion_explained.data import ImageDataset, to_uint8
from diffusion_explained.data.made import MADE_FILES, write_made
from diffusion_explained.files import check_file
from diffusion_explained.guidance import MIDDLE
from diffusion_explained.pretrained import Model, load_pretrained

IMAGES_PER_CLASS = 40
SETTINGS = {"sampler": "euler", "num_inference_steps": 50, "guidance_scale": 2.0, "guidance_interval": MIDDLE}


def draw(model: Model) -> ImageDataset:
    """IMAGES_PER_CLASS images of every class, class by class; image i has seed i."""
    labels = torch.arange(model.num_classes).repeat_interleave(IMAGES_PER_CLASS)
    images = [
        to_uint8(model.sample(of_class, seed=k * IMAGES_PER_CLASS, **SETTINGS)).cpu()
        for k, of_class in enumerate(tqdm(labels.split(IMAGES_PER_CLASS), desc="classes"))
    ]
    return ImageDataset("cifar10", "made", torch.cat(images), labels, model.class_names, f"the network {model.name}")


def write(output: Path, weights: str, device: str) -> None:
    """Draw the pictures and write them to `output`."""
    made = draw(load_pretrained(weights, device))
    write_made(output, made, {"model": Path(weights).stem, **SETTINGS})
    print(f"{output}: {len(made):,} images, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=MADE_FILES["cifar10"])
    parser.add_argument("--weights", default="cifar10_unet_flow_fine")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    try:
        check_file(given.output, "OUTPUT ")  # check this before a quarter of an hour of work
    except OSError as error:
        parser.error(str(error))
    write(given.output, given.weights, given.device)
