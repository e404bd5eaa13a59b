"""Progressive distillation: a student learns to do in one step what its teacher does in two (Salimans & Ho 2022).

    for n in (4, 2, 1):
        student = copy.deepcopy(teacher.network)
        for record in train(student, points, None, schedule, "flow", config, method=Progressive(teacher, n)): ...
        teacher = record.model

The teacher takes 2n DDIM steps from noise to data, the student n. The student's target at x_t is the pair (x_0, eps)
whose single DDIM step ends where two steps of the teacher end. After each round the student becomes the teacher, and n
is halved. A student is trained, and can be used, only at its n levels.
"""

from __future__ import annotations

from typing import Any

import torch

from diffusion_explained.checks import named_options, whole
from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.forward import add_noise
from diffusion_explained.models import NetworkModule
from diffusion_explained.pretrained import Model
from diffusion_explained.training.few_steps import Batch, chord, stacked, step_to
from diffusion_explained.training.state import TrainingState


class Progressive:
    """The method "progressive distillation" for `train`: the chord across two DDIM steps of the teacher (Algorithm 2).

    Args:
        teacher: a model that is sampled in 2n steps.
        n: the number of the student's steps, 1 or more; it is used with `schedule.levels(n)`.

    Raises ValueError for an n below 1, and for a schedule whose levels for n steps are not those of every other of 2n.
    """

    @named_options
    def __init__(self, teacher: Model, n: int) -> None:
        self.teacher, self.n = teacher, whole("n, the number of the student's steps,", n, 1)
        self.levels = teacher.schedule.levels(2 * self.n)
        if self.levels[::2] != teacher.schedule.levels(self.n):
            raise ValueError(
                f"The schedule's levels for {self.n} steps are not every other one of {2 * self.n}: use a FlowSchedule."
            )

    def __call__(self, batch: Batch, state: TrainingState[NetworkModule], done: float) -> Batch:
        """The batch at random levels of the student's, whose pair [B, ...] is the chord across two teacher's steps."""
        i = torch.randint(self.n, (len(batch.x_0),), generator=state.generator, device="cpu", dtype=torch.int64)
        level, middle, end = (stacked([self.levels[2 * k + j] for k in i.tolist()]) for j in range(3))
        knows = NetworkDenoiser(self.teacher.network, self.teacher.schedule, self.teacher.kind, cond=batch.labels)
        x_t = add_noise(batch.x_0, batch.eps, level)
        x_middle = step_to(knows(x_t, level), middle)
        x_s = step_to(knows(x_middle, middle), end)
        x_0, eps = chord(x_t, x_s, level, end)
        t: Any = level.t  # a vector [B]
        return Batch(x_0, eps, t, self.teacher.schedule.network_time(t).to(batch.time.device), batch.labels)
