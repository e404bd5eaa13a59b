"""Scenes by the batch, made by worker processes while the device computes; the pictures are drawn on the device.

Scene i is the same whoever makes it, so neither the number of workers nor a restart changes what a training sees.
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
    """Batch n is made of the scenes n * batch_size .. (n + 1) * batch_size - 1; a subclass says what, in `made_of`."""

    sampler: SceneSampler
    batch_size: int

    def made_of(self, scenes: Scenes, n: int) -> Made:
        """What the drawing processes hand over of the scenes of batch n."""
        raise NotImplementedError

    def __getitem__(self, n: int) -> Made:
        return self.made_of(self.sampler.batch(range(n * self.batch_size, (n + 1) * self.batch_size)), n)

    def stream(self, first: int, count: int, workers: int = 0) -> Iterator[Made]:
        """Batches first .. first + count - 1, in order, made ahead by so many processes, or here."""
        loader = DataLoader(self, batch_size=None, sampler=range(first, first + count), num_workers=workers)
        with torch_defaults():  # torch's loader draws a seed of its own as it starts
            batches = iter(loader)
        yield from batches


class SceneBatches(Batches[Scenes]):
    """The scenes alone."""

    def made_of(self, scenes: Scenes, n: int) -> Scenes:
        """The scenes."""
        return scenes


@dataclass(frozen=True)
class CaptionedBatches(Batches[tuple[Scenes, Tensor]]):
    """The scenes, and the token ids of their captions, [B, L]."""

    tokenizer: Any

    def made_of(self, scenes: Scenes, n: int) -> tuple[Scenes, Tensor]:
        """The scenes and their token ids."""
        return scenes, encode(self.tokenizer, scenes.captions)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the CPU on the device, without waiting for what the device still has to do.

    The tensor may have any shape, [...].
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
