"""The settings of a classifier's training, and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import named_options
from diffusion_explained.devices import in_bfloat16, to_channels_last
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import Classifier
from diffusion_explained.noise import check_seed, stream
from diffusion_explained.tables import check_types
from diffusion_explained.training.augmentation import PADDINGS
from diffusion_explained.training.checkpoints import Checkpoint
from diffusion_explained.training.config import PRECISIONS, check_allowed


@named_options
@dataclass(frozen=True)
class ClassifierTrainConfig:
    """The settings of a classifier's training; the defaults suit digits.

    learning_rate: the highest learning rate of SGD with Nesterov momentum 0.9; the rate rises for a quarter of the
        steps, then falls to 0.
    label_smoothing: the share of each label that is spread over all classes (Szegedy et al. 2016, Section 7).
    max_shift: every image is shifted by up to this many pixels in each direction, differently in every epoch.
    padding: what fills the edges of a shifted image: "black", or "reflect" for a reflection of the image.
    flip: mirror each image with probability 1/2.
    cutout: the side of a grey square that covers a part of each image; 0 for none.
    precision, channels_last: as for `TrainConfig`.

    Raises ValueError for a setting out of range.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    max_shift: int = 2
    padding: str = "black"
    flip: bool = False
    cutout: int = 0
    precision: str = "float32"
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_seed(self.seed)
        allowed = {
            "epochs (1 or more)": self.epochs >= 1,
            "batch_size (1 or more)": self.batch_size >= 1,
            "learning_rate (above 0)": 0 < self.learning_rate < math.inf,
            "weight_decay (0 or more)": 0 <= self.weight_decay < math.inf,
            "label_smoothing (from 0 to below 1)": 0 <= self.label_smoothing < 1,
            "max_shift (0 or more)": self.max_shift >= 0,
            "cutout (0 or more)": self.cutout >= 0,
        }
        check_allowed(self, allowed)
        if self.padding not in PADDINGS:
            raise unknown_name("padding", self.padding, PADDINGS)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


class ClassifierState:
    """The state of a classifier's training: everything that changes, and so the content of a checkpoint."""

    def __init__(self, network: Classifier, config: ClassifierTrainConfig) -> None:
        device = next(network.parameters()).device
        self.network, self.config = network, config
        if config.channels_last:
            to_channels_last(network)
        self.bfloat16 = in_bfloat16(config.precision, device)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.generator = stream(config.seed)
        self.order = torch.empty(0, dtype=torch.int64, device="cpu")  # the order of the images in this epoch
        self.step, self.loss, self.seconds = 0, math.nan, 0.0

    def set_learning_rate(self, rate: float) -> None:
        """Give SGD the learning rate of this step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def gradient_step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One step of SGD along the gradient of the loss; returns the loss []."""
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        # cuDNN's fastest kernels add in varying order, so each training run would give a different network
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
                logits = self.network(x)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        return loss.detach()

    def checkpoint(self, description: dict[str, Any]) -> Checkpoint:
        """The current state as a checkpoint, to be written to a file."""
        tensors = {"generator": self.generator.get_state(), "order": self.order}
        tensors |= {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            tensors[f"momentum/{name}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return Checkpoint(description, {"step": self.step, "loss": self.loss, "seconds": self.seconds}, tensors)

    def load(self, saved: Checkpoint) -> None:
        """Restore the state from a checkpoint of the same training run."""
        prefix = "network/"
        of_network = {name.removeprefix(prefix): x for name, x in saved.tensors.items() if name.startswith(prefix)}
        self.network.load_state_dict(of_network)
        for name, parameter in self.network.named_parameters():
            momentum = torch.empty_like(parameter).copy_(saved.tensors[f"momentum/{name}"])
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.generator.set_state(saved.tensors["generator"])
        self.order = saved.tensors["order"]
        self.step = int(saved.progress["step"])
        self.loss, self.seconds = saved.progress["loss"], saved.progress["seconds"]
