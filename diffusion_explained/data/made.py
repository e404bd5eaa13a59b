"""Pictures that one of our models made, for machines without the data set that the model was trained on.

    dataset = made_by_model("cifar10")              # 400 images, 40 per class, uint8 [400, 3, 32, 32]

They are not data: nobody should train on them, or measure a model against them. `str(dataset)` says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_explained.checks import typed_arguments
from diffusion_explained.data.hub import DamagedDataError
from diffusion_explained.data.hub_datasets import DATASETS, sha256
from diffusion_explained.data.images import ImageDataset
from diffusion_explained.files import atomic_path
from diffusion_explained.messages import unknown_name

MADE_FILES = {"cifar10": Path(__file__).with_name("cifar10_made.npz")}


@typed_arguments
def made_by_model(name: str) -> ImageDataset:
    """The bundled pictures that a model made of a data set's classes: split "made", in the order of their classes.

    recipes/cifar10_made.py made the file, without selecting pictures. Raises ValueError for a data set without such
    pictures, DamagedDataError for a file that is missing, truncated or altered.
    """
    if name not in MADE_FILES:
        raise unknown_name("data set with pictures made by a model", name, MADE_FILES)
    path, dataset = MADE_FILES[name], DATASETS[name]
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"]).long()
            about = json.loads(str(file["about"]))
        if sha256(images) != about["pixels_sha256"] or sha256(labels) != about["labels_sha256"]:
            raise DamagedDataError("its pictures are not those that were written (their checksum differs)")
        made = ImageDataset(name, "made", images, labels, dataset.class_names, source(about, name))
        if made.image_shape != dataset.image_shape:
            raise DamagedDataError(f"it holds images of shape {made.image_shape}, not {dataset.image_shape}")
    except Exception as error:  # zipfile, zlib, json and numpy each raise their own errors for a damaged file
        raise DamagedDataError(f"{path} is damaged: {error}. Install the package again.") from error
    return made


def source(about: dict[str, Any], name: str) -> str:
    """A sentence that says where the pictures came from."""
    how = f"{about['num_inference_steps']} {about['sampler']} steps, guidance scale {about['guidance_scale']:g}"
    how += " for σ/α from {:g} to {:g}".format(*about["guidance_interval"])
    return f"our own network {about['model']}, which made them ({how}); this is not the data set {name}"


def write_made(path: Path, made: ImageDataset, about: dict[str, Any]) -> None:
    """Write pictures, their labels, how they were made, and the checksums of both to one file, whole or not at all."""
    about = {**about, "pixels_sha256": sha256(made.images), "labels_sha256": sha256(made.labels)}
    with atomic_path(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            images=made.images.numpy(),
            labels=made.labels.numpy().astype(np.uint8),
            about=np.array(json.dumps(about, sort_keys=True)),
        )
