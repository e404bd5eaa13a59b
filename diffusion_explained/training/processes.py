"""Several processes that train one network together, by Hugging Face's accelerate; and the usual case of only one.

Every process draws the whole batch from the same seed and works on its own part of it; then the gradients are averaged.
So two processes do, up to rounding, what one does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from diffusion_explained.extras import extra

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_main_process() -> bool:
    """Whether this is the one, of those that a launcher started, that writes files and prints."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes a launcher, `accelerate launch` or torchrun, started: 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """This process: its rank among `count`, and the device it works on. `accelerator` is None if it is alone."""

    rank: int
    count: int
    device: torch.device
    accelerator: Accelerator | None

    @classmethod
    def here(cls, device: torch.device | str, batch_size: int) -> Processes:
        """What a launcher started; else one process on `device`.

        Raises ValueError if a batch cannot be divided evenly among the processes.
        """
        if process_count() == 1:
            return cls(0, 1, torch.device(device), None)
        with extra("train"):
            from accelerate import Accelerator  # lazy: a second of import that a training alone need not wait for

        accelerator = Accelerator(cpu=torch.device(device).type == "cpu")
        count = accelerator.num_processes
        if batch_size % count:
            raise ValueError(
                f"batch_size {batch_size} cannot be divided evenly among {count} processes: use a multiple of {count}."
            )
        return cls(accelerator.process_index, count, accelerator.device, accelerator)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and prints."""
        return self.rank == 0

    def share_weights(self, network: nn.Module) -> None:
        """Give the network of every process the weights of the main one's."""
        if self.accelerator is not None:
            with extra("train"):
                from accelerate.utils import broadcast

            broadcast(list(network.state_dict().values()))

    def average_gradients(self, network: nn.Module) -> None:
        """After the backward pass: put each gradient's mean over all processes in its place.

        They travel as one vector: a message for each of some hundred weights would be mostly waiting.
        """
        if self.accelerator is None:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        means = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    @overload
    def part(self, x: Tensor) -> Tensor: ...

    @overload
    def part(self, x: None) -> None: ...

    def part(self, x: Tensor | None) -> Tensor | None:
        """This process's rows of a batch [B, ...] -> [B / count, ...]."""
        if x is None or self.count == 1:
            return x
        return x.chunk(self.count)[self.rank]

    def mean(self, x: Tensor) -> Tensor:
        """The mean of a number [] over all processes."""
        return x if self.accelerator is None else self.accelerator.reduce(x, "mean")

    def wait(self) -> None:
        """Wait until all processes have come this far."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
