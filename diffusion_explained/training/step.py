"""One gradient step (DDPM, Algorithm 1, line 5), and the same step captured once as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from diffusion_explained.devices import in_bfloat16
from diffusion_explained.noise import globally_seeded
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState

WARM_UP = 3  # steps before the capture, in which libraries choose their kernels and the compiler compiles


@dataclass
class GradientStep:
    """`step(*batch)`: a step of AdamW along the gradient of loss(*batch) -> [], which it returns.

    The batch's tensors are this process's part of them; the loss is computed in bfloat16 where that is asked for
    (autocast), and the network's dropout follows the training's own seed.
    """

    loss: Callable[..., Tensor]
    state: TrainingState
    config: TrainConfig
    processes: Processes
    bfloat16: bool

    def __call__(self, *batch: Tensor | None) -> Tensor:
        loss = self.forward(*batch)
        loss.backward()
        self.processes.average_gradients(self.state.network)
        nn.utils.clip_grad_norm_(self.state.network.parameters(), self.config.gradient_clip)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad()
        return loss.detach()

    def forward(self, *batch: Tensor | None) -> Tensor:
        """The loss [], with its graph."""
        with (
            torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bfloat16),
            seeded_dropout(self.state.network, self.state.generator, self.processes),
        ):
            return self.loss(*batch)


class RecordedStep:
    """A `GradientStep` that is captured as a CUDA graph at the first call and replayed at all later calls.

    A step of a small network consists of hundreds of short kernels, and launching them one by one from Python takes
    several times as long as running them. A replay reads and writes the same memory as the capture, so the inputs are
    copied there.

    The tensors [B, ...] of a batch are those of `GradientStep`.
    """

    def __init__(self, step: GradientStep) -> None:
        self.step = step
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *batch: Tensor | None) -> Tensor:
        graph = self.record(batch) if self.graph is None else self.graph
        for place, value in zip(self.places, batch, strict=True):
            if place is not None and value is not None:
                place.copy_(value)
        graph.replay()
        return self.loss

    def record(self, batch: Sequence[Tensor | None]) -> torch.cuda.CUDAGraph:
        """Warm up on a separate CUDA stream, then capture one step of the batch, tensors [B, ...]."""
        self.places = [None if value is None else value.clone() for value in batch]
        aside = torch.cuda.Stream()  # the warm-up must not be on the default stream (torch's notes on CUDA graphs)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):  # gradients only: no weight changes
                self.step.forward(*self.places).backward()
                self.step.state.optimizer.zero_grad()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = graph = torch.cuda.CUDAGraph()
        # each of several processes has a thread that watches the communication; its calls must not end the capture
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.loss = self.step(*self.places)
        return graph


def compiled(network: nn.Module, config: TrainConfig) -> Callable[..., Any]:
    """The network as a training calls it, fused by torch.compile if the settings say so."""
    # dynamic=False: kernels for any batch size, which torch makes after a teacher's other one, failed on CUDA
    return torch.compile(network, dynamic=False) if config.compile else network


def make_step(
    loss: Callable[..., Tensor], state: TrainingState, config: TrainConfig, processes: Processes
) -> GradientStep | RecordedStep:
    """The gradient step of a loss in the precision of the settings, recorded on CUDA if they say so.

    A network with dropout is never recorded: its replayed kernels would drop the same numbers each time.
    """
    step = GradientStep(loss, state, config, processes, in_bfloat16(config.precision, processes.device))
    recorded = config.cuda_graph and processes.device.type == "cuda" and not has_dropout(state.network)
    return RecordedStep(step) if recorded else step


@contextmanager
def seeded_dropout(network: nn.Module, generator: torch.Generator, processes: Processes) -> Iterator[None]:
    """Seed dropout, which uses torch's global generators, from the training run's generator; then restore them."""
    if not has_dropout(network):
        yield
        return
    seed = int(torch.randint(2**31, (), generator=generator, device="cpu", dtype=torch.int64)) + processes.rank
    with globally_seeded(seed, [processes.device] if processes.device.type == "cuda" else []):
        yield


def has_dropout(network: nn.Module) -> bool:
    """Whether the network has an active dropout layer."""
    return any(isinstance(module, _DropoutNd) and module.p > 0 for module in network.modules())
