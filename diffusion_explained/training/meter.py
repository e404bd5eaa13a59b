"""`Meter`: the accounts that every training loop keeps, so that the loops themselves hold only their algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from diffusion_explained.training.checkpoints import Checkpoint, save_checkpoint
from diffusion_explained.training.processes import Processes


class Counted(Protocol):
    """A training's state, as far as a `Meter` needs it."""

    step: int
    loss: float
    seconds: float

    def checkpoint(self, description: dict[str, Any]) -> Checkpoint:
        """This moment, for a file."""
        ...


class Settings(Protocol):
    """A training's settings, as far as a `Meter` needs them."""

    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


class Meter:
    """Adds up losses and seconds of a training, saves its checkpoints, and says when a record is due.

        meter.start()
        while state.step < num_steps:
            meter.add(gradient_step(...))
            state.step += 1
            if meter.after_step(last=state.step == num_steps):
                yield a record of state.loss, state.seconds and meter.images_per_second
                meter.start()

    Args:
        state: of the training; the meter writes its loss, the mean since the record before, and its seconds, the time
            spent training, before checkpoints too.
        config: its batch_size, for the speed, and its learning_rate, for what a broken loss is told.
        record_every: steps between records; the last step always has one.
        checkpoints: a folder to save to every checkpoint_every steps and at the last one, or None.
        description: what makes this training the one it is, for its checkpoints.
        processes: those that share each batch; the main one saves.
    """

    def __init__(
        self,
        state: Counted,
        config: Settings,
        processes: Processes,
        *,
        record_every: int,
        checkpoints: Path | None = None,
        checkpoint_every: int = 500,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.state, self.config, self.processes = state, config, processes
        self.record_every, self.checkpoint_every = record_every, checkpoint_every
        self.checkpoints, self.description = checkpoints, dict(description or {})
        self.start()

    def start(self) -> None:
        """Begin the stretch that the next record is about: the time that the reader of records took is not counted."""
        self.first_step, self.first_second = self.state.step, self.state.seconds
        self.losses: Tensor | None = None
        self.clock = time.perf_counter()

    def add(self, loss: Tensor) -> None:
        """Count the loss [] of one step, without waiting for the device."""
        self.losses = loss.clone() if self.losses is None else self.losses + loss

    def after_step(self, *, last: bool) -> bool:
        """Save a checkpoint if one is due; return whether a record is. Call it when state.step has been counted on.

        Raises FloatingPointError, before anything is saved, when the loss is no longer a number.
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
        """The speed since `start`, at a record; 0 before the first step."""
        steps = self.state.step - self.first_step
        return steps * self.config.batch_size / (self.state.seconds - self.first_second) if steps else 0.0
