"""The state of a training run: everything that changes during training, and so the content of a checkpoint."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from diffusion_explained.noise import stream
from diffusion_explained.training.checkpoints import Checkpoint
from diffusion_explained.training.config import TrainConfig

Trained = TypeVar("Trained", bound=nn.Module)


@dataclass
class TrainingState(Generic[Trained]):
    """A network, the moving average of its weights, the optimizer, the random generators, and the progress.

    generator draws the images, the times and the labels, and noise_generator the noise; on the CPU they are the same
    object. loss is that of the last record; seconds is the total training time, including that before a checkpoint.
    """

    network: Trained
    ema: Trained
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    noise_generator: torch.Generator
    step: int = 0
    loss: float = math.nan
    seconds: float = 0.0

    @classmethod
    def new(cls, network: Trained, config: TrainConfig) -> TrainingState[Trained]:
        """The state before the first step; the network must already be on its device."""
        device = next(network.parameters()).device
        recorded = config.cuda_graph and device.type == "cuda"
        optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=torch.tensor(config.learning_rate, device=device, dtype=torch.float32)
            if recorded
            else config.learning_rate,
            betas=(config.betas[0], config.betas[1]),
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
            capturable=recorded,
        )
        for parameter in network.parameters():  # AdamW would do this in its first step, which a CUDA graph may capture
            zeros = torch.zeros_like(parameter)
            step = torch.zeros((), device=device, dtype=torch.float32)
            optimizer.state[parameter] = {"step": step, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        ema = copy.deepcopy(network).eval().requires_grad_(False)
        generator = stream(config.seed)
        on_device = config.noise_on == "device" and device.type != "cpu"
        noise_generator = stream(config.seed, device) if on_device else generator
        return cls(network, ema, optimizer, generator, noise_generator)

    def set_learning_rate(self, rate: float) -> None:
        """Set AdamW's learning rate for this step."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # a captured step reads the rate from this tensor's memory
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """After a step of AdamW: ema <- decay * ema + (1 - decay) * weights; buffers are copied.

        Buffers are not weights, but values that a layer counts or measures (such as the statistics of a BatchNorm).
        """
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - decay)
        for kept, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def checkpoint(self, description: dict[str, Any]) -> Checkpoint:
        """The current state as a checkpoint, to be written to a file."""
        tensors = {"generator": self.generator.get_state(), "noise_generator": self.noise_generator.get_state()}
        for part, named in self._parts().items():
            tensors |= {f"{part}/{name}": tensor for name, tensor in named.items()}
        return Checkpoint(description, {"step": self.step, "loss": self.loss, "seconds": self.seconds}, tensors)

    def load(self, saved: Checkpoint) -> None:
        """Restore the state from a checkpoint of the same training run."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "optimizer": {}}
        for name, tensor in saved.tensors.items():
            if "/" in name:
                part, _, rest = name.partition("/")
                parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"])
        self.ema.load_state_dict(parts["ema"])
        self._load_optimizer(parts["optimizer"])
        self.generator.set_state(saved.tensors["generator"])
        self.noise_generator.set_state(saved.tensors["noise_generator"])
        self.step = int(saved.progress["step"])
        self.loss, self.seconds = saved.progress["loss"], saved.progress["seconds"]

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        optimizer = {
            f"{name}/{entry}": value  # AdamW's entries: step, exp_avg, exp_avg_sq
            for name, parameter in self.network.named_parameters()
            for entry, value in self.optimizer.state[parameter].items()
        }
        return {"network": self.network.state_dict(), "ema": self.ema.state_dict(), "optimizer": optimizer}

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self.network.named_parameters()):  # torch numbers them in this order
            prefix = f"{name}/"
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            # the same memory layout as the weights, channels last or not: a fused AdamW reads both in memory order
            state[i] = {key: torch.empty_like(parameter).copy_(x) if x.ndim else x for key, x in own.items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
