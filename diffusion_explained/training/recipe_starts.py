"""The start of a recipe's training: a new network and a data set, trained weights, or a teacher and its pairs."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_explained.data import load_dataset
from diffusion_explained.models import Classifier, NetworkModule, build_network, network_config, of_data
from diffusion_explained.noise import seeded
from diffusion_explained.pretrained import Model, load_pretrained
from diffusion_explained.schedules import Schedule
from diffusion_explained.tables import is_file_name
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.reflow import PairsConfig, PairsRecord, draw_pairs
from diffusion_explained.weight_files import fingerprint


class Start(NamedTuple):
    """A network before its training, its training data (for `train`), and their description (for the model card)."""

    network: NetworkModule
    images: Tensor
    labels: Tensor
    noise: Tensor | None
    kind: str
    class_names: tuple[str, ...]
    data: str


def start_from_data(dataset: str, split: str, network: dict[str, Any], kind: str, seed: int) -> Start:
    """A new network, whose initial weights the seed determines, and a data set.

    network: the configuration for `build_network`, without image_shape and num_classes, which come from the data set.
    Raises ValueError for a classifier.
    """
    data = load_dataset(dataset, split)
    built = seeded(seed, lambda: build_network(of_data(network, data.image_shape, data.num_classes)))
    if isinstance(built, Classifier):
        raise ValueError(
            'A diffusion recipe trains a network that denoises; "classifier" is for the task "classifier".'
        )
    words = f"{data.name}, {data.split} split, {len(data):,} images"
    return Start(built, data.images, data.labels, None, kind, data.class_names, words)


def start_from_weights(name: str | Path, network: nn.Module, kind: str, schedule: Schedule) -> dict[str, Any]:
    """Load the weights of a trained model into a network; returns an entry for the model card that says so.

    Raises ValueError unless the trained model has the same network, prediction type and schedule.
    """
    model = load_pretrained(name)
    trained = (network_config(model.network), model.kind, model.schedule.to_config())
    expected = (network_config(network), kind, schedule.to_config())
    differing = [
        what
        for what, a, b in zip(("network", "kind", "schedule"), trained, expected, strict=True)
        if json.dumps(a) != json.dumps(b)
    ]
    if differing:
        raise ValueError(
            f"{name} cannot be the start of this training: its {' and '.join(differing)} "
            "differ from the recipe's. Give weights that were trained by the same recipe, or none."
        )
    network.load_state_dict(model.network.state_dict())
    before = {
        key: model.card[key] for key in ("images_seen", "steps", "seconds", "date", "started_from") if key in model.card
    }
    return {"started_from": {"name": model.name, "sha256": fingerprint("", model.network.state_dict()), **before}}


def load_teacher(name: str, folder: Path, device: torch.device) -> Model:
    """A recipe's teacher; name: a recipe whose weights are in `folder`, weights that ship, or a weight file."""
    own = folder / name / f"{name}.safetensors" if is_file_name(name) else None
    return load_pretrained(own if own is not None and own.is_file() else name, device)


def start_from_teacher(
    teacher: Model, network: NetworkModule, config: PairsConfig, folder: Path, processes: Processes
) -> Generator[PairsRecord, None, Start]:
    """A network of the teacher's architecture, and pairs that the teacher draws, which are kept in `folder`."""
    pairs = yield from draw_pairs(teacher, config, folder, processes)
    words = f"{config.count:,} pairs of noise and the images that {teacher.name} makes of it"
    return Start(network, pairs.x_0, pairs.labels, pairs.noise, teacher.kind, teacher.class_names, words)
