"""`TrainConfig`: how to train, and nothing of what; the same for a notebook cell and for a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_explained.checks import named_options
from diffusion_explained.names import unknown_name
from diffusion_explained.noise import check_seed
from diffusion_explained.tables import check_types

PRECISIONS = ("auto", "float32", "bfloat16")
NOISE_ON = ("cpu", "device")


def check_allowed(config: object, allowed: Mapping[str, bool]) -> None:
    """Raise ValueError for the first setting that is not allowed; allowed: "name (what it may be)" -> whether it is."""
    for what, holds in allowed.items():
        if not holds:
            raise ValueError(f"{what} cannot be {getattr(config, what.split()[0])!r}.")


@named_options
@dataclass(frozen=True)
class TrainConfig:
    """How to train; the defaults suit digits and points.

    images: how many images to see, with repeats; there are images // batch_size steps.
    learning_rate: of AdamW; reached after warmup_steps, then falling linearly to 0.
    gradient_clip: the largest norm that a step's gradient may have.
    ema_decay: of the moving average of the weights, which is what samples.
    label_dropout: how often an image's label is replaced by the null label, for classifier-free guidance.
    precision: "bfloat16" computes the network in it (autocast), "float32" does not; "auto" is bfloat16 where the
        device is fast in it: CUDA, and processors with AVX512-BF16 or AMX (two times as fast there).
    compile: let torch.compile fuse the network; worth its minute for long runs on CUDA.
    cuda_graph: on CUDA, record a step's kernels once and replay them: a small network's training waits for Python else.
    channels_last: keep the network's weights as a GPU's convolutions like them, the channels innermost.
    noise_on: where the noise is drawn: "cpu", the same on every machine, or "device", the same on every device of one
        kind, and no more the slowest part of the training of a small network on a GPU.
    flip: mirror half of the images, where left and right mean nothing.

    Raises ValueError for a setting out of range.
    """

    images: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    label_dropout: float = 0.1
    precision: str = "auto"
    compile: bool = False
    cuda_graph: bool = False
    channels_last: bool = False
    noise_on: str = "cpu"
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        allowed = {
            "images (one batch or more)": self.images >= self.batch_size,
            "batch_size (1 or more)": self.batch_size >= 1,
            "learning_rate (above 0)": 0 < self.learning_rate < float("inf"),
            "warmup_steps (0 or more)": self.warmup_steps >= 0,
            "betas (two numbers from 0 to below 1)": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "weight_decay (0 or more)": self.weight_decay >= 0,
            "gradient_clip (above 0)": self.gradient_clip > 0,
            "ema_decay (from 0 to below 1)": 0 <= self.ema_decay < 1,
            "label_dropout (0 to 1)": 0 <= self.label_dropout <= 1,
        }
        check_seed(self.seed)
        check_allowed(self, allowed)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.noise_on not in NOISE_ON:
            raise unknown_name("place to draw noise on", self.noise_on, NOISE_ON)

    @property
    def num_steps(self) -> int:
        """How many steps the images make."""
        return self.images // self.batch_size

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 0, 1, ...: up linearly for warmup_steps, and down linearly to 0 at the end."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warmup * (1 - step / self.num_steps)

    def ema_decay_at(self, step: int) -> float:
        """The decay of step 0, 1, ...: small at first, so that the random initial weights are soon forgotten."""
        return min(self.ema_decay, (1 + step) / (10 + step))
