"""Consistency models: from every point of a path the network predicts the same x_0, the path's end.

    student = copy.deepcopy(model.network)
    method = Consistency(schedule, teacher=model)
    for record in train(student, points, None, schedule, "flow", config, method=method): ...

The predicted x_0 is the consistency function f(x_t, t). Two conditions define it (Song et al. 2023, "Consistency
Models", Sec. 3):

    f(x, 0) = x                                 the boundary condition
    f(x_t, t) = f(x_s, s)                       for two points x_t, x_s of one path

The boundary condition holds exactly for every network of the prediction types `flow`, `v`, `eps` and `edm`, because
their predicted x_0 at sigma = 0 is x itself. The second condition is trained: x_s is a step before x_t, and f(x_s, s)
is the target. With a teacher, its step leads from x_t to x_s (consistency distillation, Eq. 7); without one, x_s is
noised data, with the same x_0 and eps as x_t (consistency training, Eq. 10).

Three things differ from that paper, as in "Consistency Models Made Easy" (Geng et al. 2024): training starts from a
diffusion model; s = (1 - gap) t, with a gap that is halved several times during training; the target is from the
network itself, not from a moving average. The loss is that of the velocity: an error of x_0 has the weight 1 / t^2.
"""

from __future__ import annotations

from diffusion_explained.checks import named_options, typed_arguments, whole
from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.forward import add_noise
from diffusion_explained.models import NetworkModule
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import Schedule
from diffusion_explained.training.few_steps import Batch, chord, levels_at, step_to
from diffusion_explained.training.state import TrainingState


class Consistency:
    """The method "consistency" for `train`: the chord from x_t to f(x_s, s), the end of the path as seen from x_s.

    Args:
        schedule: that of the training; t = 0 must be clean data (`FlowSchedule`).
        teacher: a model whose step leads from x_t to x_s; None for consistency training.
        kind: the prediction type of the network that is trained.
        halvings: gap = 1 - s / t is 1/2 at first, and is halved so many times.

    Raises ValueError for a schedule without a time of clean data, and for halvings below 0.
    """

    @named_options
    @typed_arguments
    def __init__(self, schedule: Schedule, teacher: Model | None = None, kind: str = "flow", halvings: int = 6) -> None:
        if not (schedule.alpha(0.0) == 1 and schedule.sigma(0.0) == 0):
            raise ValueError("A consistency model needs a schedule whose t = 0 is clean data: give a FlowSchedule.")
        self.schedule, self.teacher, self.kind = schedule, teacher, kind
        self.halvings = whole("halvings", halvings, 0)

    def gap(self, done: float) -> float:
        """1 - s / t after the share `done` of the training: 1/2, 1/4, ... in stages of equal length."""
        return 0.5 ** (1 + min(self.halvings, int(done * (self.halvings + 1))))

    def __call__(self, batch: Batch, state: TrainingState[NetworkModule], done: float) -> Batch:
        """The batch whose pair [B, ...] is the chord from x_t to f(x_s, s)."""
        level, earlier = (levels_at(self.schedule, t) for t in (batch.t, (1 - self.gap(done)) * batch.t))
        x_t = add_noise(batch.x_0, batch.eps, level)
        if self.teacher is None:
            x_s = add_noise(batch.x_0, batch.eps, earlier)  # the same x_0 and eps (Eq. 10)
        else:
            knows = NetworkDenoiser(self.teacher.network, self.schedule, self.teacher.kind, cond=batch.labels)
            x_s = step_to(knows(x_t, level), earlier)  # one step of the ODE solver (Eq. 6)
        f = NetworkDenoiser(state.network, self.schedule, self.kind, cond=batch.labels)
        x_0, eps = chord(x_t, f(x_s, earlier).x_0, level, Schedule.clean)
        return batch._replace(x_0=x_0, eps=eps)
