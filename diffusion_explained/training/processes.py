"""Several processes that train one network together, with Hugging Face's accelerate; and the usual single process.

Every process draws the whole batch from the same seed and computes gradients of its own part of the batch; then the
gradients are averaged. So two processes give, up to rounding, the same result as one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from diffusion_explained.devices import choose_device
from diffusion_explained.extras import extra

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_main_process() -> bool:
    """Whether this process, of those that a launcher started, is the one that writes files and prints."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"  # a cluster may set RANK without a launcher


def process_count() -> int:
    """The number of processes that a launcher (`accelerate launch` or torchrun) started; 1 without a launcher.

    Raises ValueError if the launcher's variable WORLD_SIZE holds another text.
    """
    given = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch("[1-9][0-9]{0,5}", given):
        raise ValueError(
            f"The environment variable WORLD_SIZE must be the number of processes, 1 or more; got {given!r}. Unset it "
            "to train in one process."
        )
    return int(given)


@dataclass(frozen=True)
class Processes:
    """This process: its rank among `count` processes, and its device. `accelerator` is None for a single process."""

    rank: int
    count: int
    device: torch.device
    accelerator: Accelerator | None

    @classmethod
    def here(cls, device: torch.device | str, batch_size: int) -> Processes:
        """The processes that a launcher started; without a launcher, one process on `device`.

        Raises ValueError if a batch cannot be divided evenly among the processes.
        """
        if process_count() == 1:
            return cls(0, 1, choose_device(device), None)
        with extra("train"):
            from accelerate import Accelerator  # lazy: the import takes a second, and a single process does not need it

        accelerator = Accelerator(cpu=choose_device(device).type == "cpu")
        count = accelerator.num_processes
        if batch_size % count:
            raise ValueError(
                f"batch_size {batch_size} cannot be divided evenly among {count} processes: use a multiple of {count}."
            )
        return cls(accelerator.process_index, count, accelerator.device, accelerator)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share_weights(self, network: nn.Module) -> None:
        """Copy the main process's weights to the network of every process."""
        if self.accelerator is not None:
            with extra("train"):
                from accelerate.utils import broadcast

            broadcast(list(network.state_dict().values()))

    def average_gradients(self, network: nn.Module) -> None:
        """After the backward pass: replace each gradient by its mean over all processes.

        All gradients are sent as one vector; one message per weight (about a hundred) would be slower.
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
        """The mean of a scalar [] over all processes."""
        return x if self.accelerator is None else self.accelerator.reduce(x, "mean")

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
