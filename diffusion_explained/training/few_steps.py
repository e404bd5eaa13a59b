"""Few-step models: every method trains on a chord of the path instead of its tangent.

A sampler's step follows a straight line, so it is exact only where the path is straight. A few-step model predicts the
chord: the straight line from x_t to the place x_s where the path is at the end of the step. The chord is a pair
(x_0, eps) like any other, and `training_loss` trains on it unchanged. The methods differ in who says where x_s is:

| method                   | module        | x_s                                       | who knows the way             |
|--------------------------|---------------|-------------------------------------------|-------------------------------|
| flow matching            | `loop`        | next to x_t, on the line from x_0 to eps  | the data                      |
| reflow                   | `reflow`      | the end of the path from pure noise       | a teacher, in many steps      |
| progressive distillation | `progressive` | the end of two steps of a teacher         | a teacher, a student before   |
| consistency              | `consistency` | the end of the path, seen from less noise | data or a teacher, and itself |
| shortcut                 | `shortcut`    | the end of two steps of half the length   | the network itself            |

    for record in train(network, points, None, schedule, "flow", config, method=Consistency(schedule)): ...
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.denoisers import Prediction
from diffusion_explained.devices import float64_on_cpu
from diffusion_explained.forward import add_noise, like
from diffusion_explained.models import NetworkModule
from diffusion_explained.schedules import Level, Schedule
from diffusion_explained.training.state import TrainingState


class Batch(NamedTuple):
    """A batch for `training_loss`: data and noise [B, ...], t [B], the network's time input, and labels [B] or None.

    time is that of `Schedule.network_time`, [B], or [B, 2] for a network of two times, the start and the end of a step.
    """

    x_0: Tensor
    eps: Tensor
    t: Tensor
    time: Tensor
    labels: Tensor | None


class Method(Protocol):
    """A method: called without gradients as method(batch, state, done), it returns the batch to train on.

    done: the share of the training that is done, from 0 to 1.
    """

    def __call__(self, batch: Batch, state: TrainingState[NetworkModule], done: float) -> Batch: ...


def levels_at(schedule: Schedule, t: Tensor) -> Level:
    """The levels at the times t [B], one level per image: three vectors [B]."""
    return Level(t, schedule.alpha(t), schedule.sigma(t))  # type: ignore[arg-type]  # vectors in place of numbers


def stacked(levels: list[Level]) -> Level:
    """B levels as one `Level` of three vectors [B], one level per image."""
    columns = (torch.tensor(column, dtype=torch.float64, device="cpu") for column in zip(*levels, strict=True))
    return Level(*columns)  # type: ignore[arg-type]  # vectors in place of numbers


def step_to(pred: Prediction, next_level: Level) -> Tensor:
    """The state [B, ...] after a DDIM step: next.alpha * x_0 + next.sigma * eps (DDIM, Eq. 12, eta = 0)."""
    return add_noise(pred.x_0, pred.eps, next_level)


@typed_arguments
def chord(x_t: Tensor, x_s: Tensor, level: Level, next_level: Level) -> tuple[Tensor, Tensor]:
    """The pair (x_0, eps) whose DDIM step leads from x_t to x_s, both [B, ...]: the chord of a path.

        x_0 = (x_s - (sigma_s / sigma_t) x_t) / (alpha_s - (sigma_s / sigma_t) alpha_t)
                                                        (progressive distillation, Algorithm 2 and App. G)

    It solves x_t = alpha_t x_0 + sigma_t eps and x_s = alpha_s x_0 + sigma_s eps. The levels hold numbers, or vectors
    [B]; the second is less noisy. On the straight path, eps - x_0 is the mean velocity (x_t - x_s) / (t - s).
    Raises ValueError for two equal levels, through which there is no line.
    """
    numbers = [float64_on_cpu("alpha and sigma", number) for number in (*level[1:], *next_level[1:])]
    determinant = numbers[0] * numbers[3] - numbers[1] * numbers[2]
    if bool((determinant == 0).any()):
        raise ValueError("A chord joins two different levels: give a next_level that is less noisy than level.")
    alpha_t, sigma_t, alpha_s, sigma_s = (like(number / determinant, x_t) for number in numbers)
    return sigma_s * x_t - sigma_t * x_s, alpha_t * x_s - alpha_s * x_t
