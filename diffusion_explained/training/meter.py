"""`Meter`: loss, time, speed and checkpoints of every training loop, so that the loops contain only their algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from diffusion_explained.checks import whole
from diffusion_explained.training.checkpoints import Checkpoint, save_checkpoint
from diffusion_explained.training.processes import Processes


class MeteredState(Protocol):
    """The attributes of a training's state that a `Meter` needs."""

    step: int
    loss: float
    seconds: float

    def checkpoint(self, description: dict[str, Any]) -> Checkpoint:
        """The state as a checkpoint, with the description of its training run."""
        ...


class Settings(Protocol):
    """The settings of a training run that a `Meter` needs."""

    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


class Meter:
    """Adds up the losses and seconds of a training run, saves its checkpoints, and reports when a record is due.

        meter.start()
        while state.step < num_steps:
            meter.add(gradient_step(...))
            state.step += 1
            if meter.after_step(last=state.step == num_steps):
                yield a record of state.loss, state.seconds and meter.images_per_second
                meter.start()

    Args:
        state: of the training run. The meter writes state.loss, the mean loss since the previous record, and
            state.seconds, the time spent training, also before each checkpoint.
        config: batch_size is used for the speed, learning_rate in the message about a loss that is not finite.
        record_every: steps between records; the last step always has one.
        checkpoints: a folder to save to every checkpoint_every steps and at the last one, or None.
        description: the description of this training run, for its checkpoints.
        processes: the processes that share each batch; the main process saves.
    """

    def __init__(
        self,
        state: MeteredState,
        config: Settings,
        processes: Processes,
        *,
        record_every: int,
        checkpoints: Path | None = None,
        checkpoint_every: int = 500,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.state, self.config, self.processes = state, config, processes
        self.record_every = whole("record_every", record_every, 1)
        self.checkpoint_every = whole("checkpoint_every", checkpoint_every, 1)
        self.checkpoints, self.description = checkpoints, dict(description or {})
        self.start()

    def start(self) -> None:
        """Start measuring for the next record; the time that the caller spent on the previous record is not counted."""
        self.first_step, self.first_second = self.state.step, self.state.seconds
        self.losses: Tensor | None = None
        self.clock = time.perf_counter()

    def add(self, loss: Tensor) -> None:
        """Count the loss [] of one step, without waiting for the device."""
        self.losses = loss.clone() if self.losses is None else self.losses + loss

    def after_step(self, *, last: bool) -> bool:
        """Save a checkpoint if one is due; return whether a record is due. Call it after state.step was increased.

        Raises FloatingPointError, before anything is saved, if the loss is not finite.
        """
        is_saved = self.checkpoints is not None and (last or self.state.step % self.checkpoint_every == 0)
        is_recorded = last or self.state.step % self.record_every == 0
        if is_saved or is_recorded:
            self._settle(self.losses)
        if self.checkpoints is not None and is_saved and self.processes.is_main:
            save_checkpoint(self.checkpoints, self.state.checkpoint(self.description))
        return is_recorded

    def _settle(self, losses: Tensor | None) -> None:
        state = self.state
        if losses is None:
            raise RuntimeError("after_step is called after add")
        state.loss = float(self.processes.mean(losses)) / (state.step - self.first_step)  # waits for the device
        if not math.isfinite(state.loss):
            raise FloatingPointError(
                f"the loss is {state.loss} at step {state.step}: "
                f"train with a smaller learning_rate than {self.config.learning_rate:g}"
            )
        state.seconds = self.seconds
        self.clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds spent training until now."""
        return self.state.seconds + time.perf_counter() - self.clock

    @property
    def images_per_second(self) -> float:
        """Images per second since `start`, at a record; 0 before the first step."""
        steps = self.state.step - self.first_step
        return steps * self.config.batch_size / (self.state.seconds - self.first_second) if steps else 0.0
