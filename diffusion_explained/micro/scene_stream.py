"""Scenes by the batch, made by worker processes while the device computes; the pictures are drawn on the device.

Scene i is the same whoever makes it, so neither the number of workers nor a restart changes what a training sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_explained.devices import torch_defaults
from diffusion_explained.micro.scenes import Scenes, SceneSampler
from diffusion_explained.micro.tokens import encode


@dataclass(frozen=True)
class SceneBatches(Dataset):
    """Batch n holds the scenes n * batch_size .. (n + 1) * batch_size - 1, with their token ids [B, L]."""

    sampler: SceneSampler
    batch_size: int
    tokenizer: Any = None

    def __getitem__(self, n: int) -> tuple[Scenes, Tensor | None]:
        scenes = self.sampler.batch(range(n * self.batch_size, (n + 1) * self.batch_size))
        return scenes, None if self.tokenizer is None else encode(self.tokenizer, scenes.captions)

    def stream(self, first: int, count: int, workers: int = 0) -> Iterator[tuple[Scenes, Tensor | None]]:
        """Batches first .. first + count - 1, in order, made ahead by so many processes, or here."""
        loader = DataLoader(self, batch_size=None, sampler=range(first, first + count), num_workers=workers)
        with torch_defaults():  # torch's loader draws a seed of its own as it starts
            batches = iter(loader)
        yield from batches


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the CPU on the device, without waiting for what the device still has to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
