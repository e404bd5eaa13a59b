"""`TrainConfig`: the settings of training, without network and data; notebooks and recipes use the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_explained.checks import named_options
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import check_seed
from diffusion_explained.tables import check_types

PRECISIONS = ("auto", "float32", "bfloat16")
NOISE_ON = ("cpu", "device")


def check_allowed(config: object, allowed: Mapping[str, bool]) -> None:
    """Raise ValueError for the first setting out of range; allowed: "name (its range)" -> whether it is in range."""
    for what, holds in allowed.items():
        if not holds:
            raise ValueError(f"{what} cannot be {getattr(config, what.split()[0])!r}.")


@named_options
@dataclass(frozen=True)
class TrainConfig:
    """The settings of training; the defaults suit digits and points.

    images: the number of training images processed, repeats included; there are images // batch_size steps.
    learning_rate: the highest learning rate of AdamW, reached after warmup_steps; then it falls linearly to 0.
    gradient_clip: the largest norm of a step's gradient; larger gradients are scaled down.
    ema_decay: the decay of the moving average of the weights; samples are drawn with the averaged weights.
    label_dropout: class dropout, the probability that an image's label is replaced by the null label, for
        classifier-free guidance.
    precision: "bfloat16" runs the network in bfloat16 (autocast), "float32" does not; "auto" is bfloat16 on devices
        with fast bfloat16 arithmetic: CUDA, and processors with AVX512-BF16 or AMX (about twice as fast there).
    compile: compile the network with torch.compile; this takes about a minute, which pays off in long runs on CUDA.
    cuda_graph: on CUDA, capture the training step once and replay it; without this, a small network mostly waits for
        Python to launch kernels.
    channels_last: store the network's weights with the channels innermost, which makes convolutions faster.
    noise_on: where the noise is drawn. "cpu" gives the same noise on every machine; "device" draws the noise on the
        GPU: faster, but reproducible only on the same kind of GPU.
    flip: mirror each image with probability 1/2, for data in which left and right carry no meaning.

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
        """The number of training steps, images // batch_size."""
        return self.images // self.batch_size

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step 0, 1, ...: a linear rise for warmup_steps, and a linear fall to 0 at the end."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warmup * (1 - step / self.num_steps)

    def ema_decay_at(self, step: int) -> float:
        """The decay of step 0, 1, ...: small at first, so that the average soon forgets the random initial weights."""
        return min(self.ema_decay, (1 + step) / (10 + step))
