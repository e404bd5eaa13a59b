"""Training for a given time or a given number of images, for the autoencoder and the text-to-image U-Net.

The learning rate follows the progress: the elapsed share of the time or of the images, whichever is larger. So on a
faster machine training uses more images in the same time, and its learning rate still ends at 0.
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

WITHOUT_END = 2**40  # images, for training that is limited only by time


@named_options
@dataclass(frozen=True)
class TimedConfig(TrainConfig):
    """A `TrainConfig` for a number of images or of seconds, whichever is reached first.

    ema_exponent: gamma of the moving average, whose window is a fixed share of the steps so far, about 5% for 17.

    Raises ValueError for a setting out of range, and if neither images nor seconds are given.
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
            raise ValueError("The length of training is missing: give seconds, or images, or both.")

    def progress(self, step: int, seconds: float) -> float:
        """The progress of training, 0 to 1, before step 0, 1, ... and after this many seconds of training."""
        in_time = 0.0 if self.seconds is None else seconds / self.seconds
        return min(1.0, max(step / self.num_steps, in_time))

    def rate(self, step: int, progress: float) -> float:
        """The learning rate: it rises linearly for warmup_steps and falls linearly to 0 at the end."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps)) * (1 - progress)

    def ema_decay_at(self, step: int) -> float:
        """The decay (1 - 1/n)^(gamma + 1) of the n-th step: the window grows with the steps (EDM2, Sec. 3.1)."""
        return (1 - 1 / (step + 1)) ** (self.ema_exponent + 1)


@dataclass(frozen=True)
class TimedRecord:
    """The progress of training, from 0 to 1; loss is the mean since the previous record, seconds the training time."""

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
    """Take gradient steps until the time or the images are used up, yielding a record every record_every steps.

    The last step is always recorded.

    Args:
        batches: draws what the next step is called with, at random from the state's generators if at random.
        description: the description of this training run, for its checkpoints.

    Raises FloatingPointError when the loss is no longer a finite number.

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

    if progress == 1:  # the checkpoint is that of the last step
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
