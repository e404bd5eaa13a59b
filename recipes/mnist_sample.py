"""Make the digits that ship with the package: 10,000 of MNIST's 60,000 training images, 1,000 per class.

    python recipes/mnist_sample.py [OUTPUT.npz]

This needs the full train split (downloaded once from the hub, or in HF_HUB_CACHE). The choice is seeded, so a second
run writes the same file: images in their original order, their labels, and their indices in that split.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from diffusion_explained.data import ImageDataset, load_dataset
from diffusion_explained.data.hub_datasets import sha256
from diffusion_explained.data.load import SAMPLE_FILE
from diffusion_explained.files import atomic_path, check_file

IMAGES_PER_CLASS = 1000
SEED = 0


def choose(dataset: ImageDataset) -> torch.Tensor:
    """The indices of IMAGES_PER_CLASS random images of every class, ascending, int64."""
    generator = torch.Generator().manual_seed(SEED)
    chosen = []
    for label in range(dataset.num_classes):
        of_class = torch.nonzero(dataset.labels == label).flatten()
        chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[:IMAGES_PER_CLASS]])
    return torch.cat(chosen).sort().values


def write(output: Path) -> None:
    """Choose from the full train split and write the sample to `output`."""
    dataset = load_dataset("mnist", "train")
    indices = choose(dataset)
    sample = dataset.subset(indices)
    with atomic_path(output) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            images=sample.images.numpy(),
            labels=sample.labels.numpy().astype(np.uint8),
            indices=indices.numpy().astype(np.uint16),
        )
    print(f"{output}: {len(sample):,} images, {output.stat().st_size:,} bytes")
    print(f"labels sha256 {sha256(sample.labels)}\npixels sha256 {sha256(sample.images)}")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE_FILE
    try:
        check_file(place, "")
    except OSError as error:
        sys.exit(str(error))
    write(place)
