"""Batches of scenes, composed by worker processes while the device computes; the pictures are drawn on the device.

Scene i is the same in every process, so neither the number of workers nor a restart changes a training's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_explained.devices import torch_defaults
from diffusion_explained.micro.scenes import Scenes, SceneSampler
from diffusion_explained.micro.tokens import encode

Made = TypeVar("Made")


@dataclass(frozen=True)
class Batches(Dataset[Made]):
    """Batch n is `made_of` the scenes n * batch_size .. (n + 1) * batch_size - 1; subclasses define `made_of`."""

    sampler: SceneSampler
    batch_size: int

    def made_of(self, scenes: Scenes, n: int) -> Made:
        """The batch n that a worker process makes from its scenes."""
        raise NotImplementedError

    def __getitem__(self, n: int) -> Made:
        return self.made_of(self.sampler.batch(range(n * self.batch_size, (n + 1) * self.batch_size)), n)

    def stream(self, first: int, count: int, workers: int = 0) -> Iterator[Made]:
        """Yield batches first .. first + count - 1, in order, made in advance by `workers` processes, or here."""
        loader = DataLoader(self, batch_size=None, sampler=range(first, first + count), num_workers=workers)
        with torch_defaults():  # torch's loader draws a random seed when it starts
            batches = iter(loader)
        yield from batches


class SceneBatches(Batches[Scenes]):
    """Batches of scenes without anything else."""

    def made_of(self, scenes: Scenes, n: int) -> Scenes:
        """The scenes themselves."""
        return scenes


@dataclass(frozen=True)
class CaptionedBatches(Batches[tuple[Scenes, Tensor]]):
    """Batches of scenes with the token ids of their captions, [B, L]."""

    tokenizer: Any

    def made_of(self, scenes: Scenes, n: int) -> tuple[Scenes, Tensor]:
        """The scenes and their token ids."""
        return scenes, encode(self.tokenizer, scenes.captions)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor from the CPU to the device, without waiting for the device's pending work.

    The tensor may have any shape, [...].
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
