"""Training for a given time, or a given number of images: what the autoencoder's and the U-Net's training share.

Learning rate and moving average are fitted to the length as it is known: to the share of the time, or of the images,
that has passed, whichever is larger. So a training on a faster machine sees more images, and ends as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diffusion_explained.checks import named_options
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.meter import Meter
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import GradientStep, RecordedStep

WITHOUT_END = 2**40  # images, for a training that time ends


@named_options
@dataclass(frozen=True)
class TimedConfig(TrainConfig):
    """A `TrainConfig` for a number of images, or of seconds, or what comes first.

    ema_exponent: gamma of the moving average, whose window is a share of the training so far: 17 is about 5% of it.

    Raises ValueError for a setting out of range, or no end.
    """

    images: int = WITHOUT_END
    seconds: float | None = None
    noise_on: str = "device"
    ema_exponent: float = 16.97

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds (above 0) cannot be {self.seconds!r}.")
        if not 0 <= self.ema_exponent <= 1000:
            raise ValueError(f"ema_exponent (from 0 to 1000) cannot be {self.ema_exponent!r}.")
        if self.seconds is None and self.images == WITHOUT_END:
            raise ValueError("Say how long to train: give seconds, or images, or both.")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training lies behind, 0 to 1, before step 0, 1, ... at so many seconds of training."""
        in_time = 0.0 if self.seconds is None else seconds / self.seconds
        return min(1.0, max(step / self.num_steps, in_time))

    def rate(self, step: int, progress: float) -> float:
        """The learning rate: up linearly for warmup_steps, and down linearly to 0 at the end."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps)) * (1 - progress)

    def ema_decay_at(self, step: int) -> float:
        """(1 - 1/n)^(gamma + 1) at the n-th step: a window that grows with the training (EDM2, Sec. 3.1)."""
        return (1 - 1 / (step + 1)) ** (self.ema_exponent + 1)


@dataclass(frozen=True)
class TimedRecord:
    """Where a training is: its loss is the mean since the record before, progress from 0 to 1, seconds of training."""

    step: int
    progress: float
    loss: float
    learning_rate: float
    images_seen: int
    images_per_second: float
    seconds: float


@named_options
def train_for(
    step: GradientStep | RecordedStep,
    state: TrainingState,
    config: TimedConfig,
    batches: Callable[[], Sequence[Tensor]],
    description: dict[str, Any],
    *,
    record_every: int = 20,
    checkpoints: Path | None = None,
    checkpoint_every: int = 1000,
) -> Iterator[TimedRecord]:
    """Take gradient steps until time or images are used up, yielding a record now and then, and one at the end.

    Args:
        batches: draws what the next step is called with, at random from the state's generators if at random.
        description: what makes this training the one it is, for its checkpoints.

    Raises FloatingPointError when the loss is no longer a number.

    inputs and target are [B, ...].
    """
    device = next(state.network.parameters()).device
    meter = Meter(
        state, config, Processes.here(device, config.batch_size),
        record_every=record_every, checkpoints=checkpoints, checkpoint_every=checkpoint_every, description=description,
    )  # fmt: skip
    progress, rate = config.progress(state.step, state.seconds), 0.0

    def record() -> TimedRecord:
        seen, speed = state.step * config.batch_size, meter.images_per_second
        return TimedRecord(state.step, progress, state.loss, rate, seen, speed, state.seconds)

    if progress == 1:  # its checkpoint is the last one
        yield record()
    meter.start()
    while progress < 1:
        rate = config.rate(state.step, progress)
        state.set_learning_rate(rate)
        meter.add(step(*batches()))
        state.average(config.ema_decay_at(state.step))
        state.step += 1
        progress = config.progress(state.step, meter.seconds)
        if meter.after_step(last=progress == 1):
            yield record()
            meter.start()
