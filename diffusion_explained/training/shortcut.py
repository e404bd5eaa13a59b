"""Shortcut models: a network that is given the end of its step, trained on two of its own steps of half the length.

    network = MLP(MLPConfig(two_times=True))
    for record in train(network, points, None, schedule, "flow", config, method=Shortcut(schedule)): ...
    steps = euler(JumpDenoiser(record.model.network, schedule, levels), x_T, levels)

The network u(x_t, t, s) predicts the mean velocity on the way from t to s (Frans et al. 2024, "One Step Diffusion via
Shortcut Models", Eq. 3-5, who give the length d = t - s in place of s):

    u(x_t, t, t) = E[eps - x_0 | x_t]                                                    flow matching
    (t - s) u(x_t, t, s) = (t - m) u(x_t, t, m) + (m - s) u(x_m, m, s),  m = (t + s) / 2     self-consistency

There is no teacher and no second phase: most of each batch is flow matching, the rest is self-consistency. The two half
steps are taken by the moving average of the network, without gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, number, whole
from diffusion_explained.denoisers import Prediction, network_output
from diffusion_explained.devices import to_float64
from diffusion_explained.forward import add_noise
from diffusion_explained.models import NetworkModule
from diffusion_explained.predictions import to_x0_eps
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.training.few_steps import Batch, chord, levels_at, step_to
from diffusion_explained.training.state import TrainingState


class Shortcut:
    """The method "shortcut" for `train`, with a network of two times and the prediction type "flow".

    Args:
        schedule: a flow schedule.
        most_steps: a power of two; the shortest steps have the length 1 / most_steps.
        share: the share of each batch that is trained on two of the network's own steps.

    Raises ValueError for most_steps that is no power of two of 2 or more, and for a share outside (0, 1).
    """

    @named_options
    def __init__(self, schedule: FlowSchedule, most_steps: int = 64, share: float = 0.25) -> None:
        self.schedule, self.most_steps = schedule, whole("most_steps", most_steps, 2)
        if self.most_steps & (self.most_steps - 1):
            raise ValueError(f"most_steps must be a power of two, such as 64; got {most_steps}.")
        self.share = number("share", share, "between 0 and 1", 1e-9, 1 - 1e-9)

    def __call__(self, batch: Batch, state: TrainingState[NetworkModule], done: float) -> Batch:
        """The batch [B, ...], its first part with the chord across two of the network's own steps."""
        count = max(1, round(self.share * len(batch.x_0)))
        x_0, eps, t, end = batch.x_0.clone(), batch.eps.clone(), batch.t.clone(), batch.t.clone()
        t[:count], middle, end[:count] = self.steps(count, state.generator)
        level, next_level = levels_at(self.schedule, t[:count]), levels_at(self.schedule, end[:count])
        x_t = add_noise(x_0[:count], eps[:count], level)
        x_middle = self.walk(state.ema, x_t, t[:count], middle)
        x_s = self.walk(state.ema, x_middle, middle, end[:count])
        x_0[:count], eps[:count] = chord(x_t, x_s, level, next_level)
        return Batch(x_0, eps, t, self.times(t, end).to(batch.time.device), batch.labels)

    def steps(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the start, middle and end of `count` steps, [count] each: of the lengths 1, 1/2, ..., 2 / most_steps."""
        lengths = self.most_steps.bit_length() - 1
        n = 2 ** to_float64(torch.randint(lengths, (count,), generator=generator, dtype=torch.int64, device="cpu"))
        i = (torch.rand(count, generator=generator, dtype=torch.float64, device="cpu") * n).floor()
        return (i + 1) / n, (i + 0.5) / n, i / n

    def walk(self, network: NetworkModule, x_t: Tensor, t: Tensor, end: Tensor) -> Tensor:
        """The state [B, ...] after the network's step from x_t at the times t [B] to the times `end` [B].

        The shortest steps are those of flow matching: the network is given t for both times.
        """
        given = torch.where(t - end < 1.5 / self.most_steps, t, end)
        level = levels_at(self.schedule, t)
        velocity = network_output(network, x_t.clone(), self.times(t, given).to(x_t.device))
        pair = to_x0_eps("flow", velocity, x_t, level.alpha, level.sigma)
        return step_to(Prediction(*pair, eps_cond=pair[1]), levels_at(self.schedule, end))

    def times(self, t: Tensor, end: Tensor) -> Tensor:
        """The network's two time inputs [B, 2], from the times t [B] and `end` [B]."""
        return torch.stack([self.schedule.network_time(t), self.schedule.network_time(end)], dim=1)
