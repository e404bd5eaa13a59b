"""Training the small classifier that measures samples: plain supervised learning, one record a step.

    for record in train_classifier(network, load_dataset("mnist"), epochs=8):
        print(record.step, record.loss)
    print(accuracy(network, load_dataset("mnist", "test")))

`run_recipe` does this for a file of recipes/ and writes the weights that the package ships.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.data import ImageDataset, load_dataset
from diffusion_explained.devices import hardware
from diffusion_explained.models import Classifier, build_network, count_parameters, network_config
from diffusion_explained.names import unknown_name
from diffusion_explained.weight_files import round_to_fp16, write_weights


@dataclass(frozen=True)
class ClassifierRecord:
    """One step of `train_classifier`; steps count from 1, and `epoch` is how many times all images were seen."""

    step: int
    num_steps: int
    epoch: float
    images_seen: int
    loss: float
    learning_rate: float
    images_per_second: float


def train_classifier(
    network: Classifier,
    dataset: ImageDataset,
    *,
    epochs: int = 8,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.1,
    max_shift: int = 2,
    seed: int = 0,
) -> Iterator[ClassifierRecord]:
    """Train `network` in place, on the device where it is, yielding a record after each step.

    SGD with Nesterov momentum 0.9; the learning rate rises to `learning_rate` over the first quarter and falls to 0
    (`one_cycle`). Every image is moved by up to `max_shift` pixels each way, anew each time. The loss is the cross
    entropy against labels smoothed by `label_smoothing` (Szegedy et al. 2016, Section 7). The last batch of an epoch
    is dropped when it is not whole. On one device and thread count the same seed gives the same network.

    Raises ValueError if the images are not what the network takes, or make less than one batch.
    """
    if dataset.image_shape != tuple(network.image_shape) or dataset.num_classes != network.num_classes:
        raise ValueError(
            f"the network takes {network.image_shape} images of {network.num_classes} classes, "
            f"and {dataset.name} has {dataset.image_shape} of {dataset.num_classes}"
        )
    steps_per_epoch = len(dataset) // batch_size
    if epochs < 1 or steps_per_epoch < 1:
        raise ValueError(f"{epochs} epochs of {len(dataset)} images in batches of {batch_size} make no step")
    num_steps = epochs * steps_per_epoch
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    network.train()
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(dataset), generator=generator)
        for indices in order[: steps_per_epoch * batch_size].split(batch_size):
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * one_cycle(step / num_steps)
            x, labels = dataset.batch(indices)
            x = shift_randomly(x, max_shift, generator).to(device)
            loss = F.cross_entropy(network(x), labels.to(device), label_smoothing=label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            loss_value = loss.item()  # waits for the device, so the time is the step's own
            yield ClassifierRecord(
                step,
                num_steps,
                epoch=step / steps_per_epoch,
                images_seen=step * batch_size,
                loss=loss_value,
                learning_rate=optimizer.param_groups[0]["lr"],
                images_per_second=batch_size / (time.perf_counter() - started),
            )
    network.eval()


def one_cycle(progress: float, peak: float = 0.25) -> float:
    """The learning rate's factor at progress 0..1: half a cosine up to 1 at `peak`, another one down to 0."""
    towards_peak = progress / peak if progress < peak else (1 - progress) / (1 - peak)
    return 0.5 * (1 - math.cos(math.pi * towards_peak))


def shift_randomly(x: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Each image [B, C, H, W] moved by its own whole number of pixels each way; black (-1) comes in at the edges."""
    if max_shift == 0:
        return x
    batch_size, _, height, width = x.shape
    padded = F.pad(x, [max_shift] * 4, value=-1.0)
    top, left = torch.randint(2 * max_shift + 1, (2, batch_size), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, :, None]  # [B, H, 1]
    columns = (left[:, None] + torch.arange(width))[:, None, :]  # [B, 1, W]
    images = torch.arange(batch_size)[:, None, None]  # [B, 1, 1]
    return padded.permute(0, 2, 3, 1)[images, rows, columns].permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def accuracy(network: Classifier, dataset: ImageDataset, batch_size: int = 500) -> float:
    """The share of a data set's images, 0..1, whose label the network gives the largest logit."""
    network.eval()
    device = next(network.parameters()).device
    correct = 0
    for x, labels in dataset.batches(batch_size):
        correct += int((network(x.to(device)).argmax(dim=1).cpu() == labels).sum())
    return correct / len(dataset)


def run_recipe(recipe: Mapping[str, Any], output: Path, device: str = "cpu") -> Iterator[ClassifierRecord]:
    """Train what a recipe with `task = "classifier"` describes, and write the weights and their card to `output`.

    Its keys: `dataset` (a name of `load_dataset`), `seed`, and the tables `network` (of `build_network`) and
    `training` (of `train_classifier`). The card's accuracy is that of the fp16 weights, on the test split.
    Raises ValueError for a key that is missing or unknown, and what `load_dataset` raises.
    """
    if missing := [key for key in ("dataset", "seed", "network", "training") if key not in recipe]:
        raise ValueError(f"the recipe lacks {', '.join(missing)}")
    numbers = [
        name for name in inspect.signature(train_classifier).parameters if name not in ("network", "dataset", "seed")
    ]
    for key in recipe["training"]:
        if key not in numbers:
            raise unknown_name("key of [training]", key, numbers)
    train, test = load_dataset(recipe["dataset"], "train"), load_dataset(recipe["dataset"], "test")
    config = {**recipe["network"], "image_shape": train.image_shape, "num_classes": train.num_classes}
    with torch.random.fork_rng():  # the initial weights are the seed's too
        torch.manual_seed(recipe["seed"])
        network = build_network(config).to(device)
    started = time.perf_counter()
    for record in train_classifier(network, train, seed=recipe["seed"], **recipe["training"]):
        yield record
    seconds = time.perf_counter() - started
    round_to_fp16(network)
    card = {
        "task": "classifier",
        "recipe": dict(recipe),
        "data": f"{train.name}, train split, {len(train):,} images",
        "class_names": list(train.class_names),
        "images_seen": record.images_seen,
        "seconds": round(seconds),
        "hardware": hardware(device),
        "torch": torch.__version__,
        "parameters": count_parameters(network),
        "test_accuracy": accuracy(network, test),
    }
    write_weights(output, network, network_config(network), card)
