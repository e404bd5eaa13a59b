"""The exercises of notebook 05, Flow matching."""

from torch import Tensor

from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise, near
from diffusion_explained.forward import add_noise
from diffusion_explained.schedules import FlowSchedule


@exercise("05.1", "A picture from a velocity", "my_x_0(x_t, v, t)", minutes=5)
def is_the_picture(answer: object, given: Given) -> None:
    """The picture from a point of the straight path and the velocity there, for points and for pictures."""
    for t in (*given.rand(3).tolist(), 1.0):
        for shape in ((20, 2), (3, 1, 4, 4)):
            x_0, eps = given.randn(2, *shape)
            x_t = add_noise(x_0, eps, FlowSchedule().level(t))
            hint = f"not x_0 at t = {t:.2f}: from x_t, go back along v for a time t"
            v = eps - x_0
            mistakes = (
                (x_t + t * v, "this moves along v, towards the noise: go back along v for a time t"),
                (
                    x_t - (1 - t) * v,
                    "the data is at time 0, so the way back takes the time t, not 1 - t: go back along v",
                ),
                (eps, "this is ε, the noise at the other end of the path: go back along v"),
                (x_t - v, "this goes back for a time 1, which is right at t = 1 only: go back along v for a time t"),
                (x_t - 0.5 * v, "this goes back for a time 0.5, whatever t is: go back along v for a time t"),
                (x_t, "this is x_t itself: go back along v for a time t"),
            )
            given.returns(answer, x_t, v, t, expected=x_0, hint=hint, mistakes=mistakes)


@exercise("05.2", "The other convention for time", "my_velocity(u, x, t)")
def is_our_velocity(answer: object, given: Given) -> None:
    """The velocity from noise level t, of a network whose time runs from noise to data; each has other data."""
    for t in (0.2, 0.5, 0.9, *(0.1 + 0.8 * given.rand(2)).tolist()):
        exact, x = ExactDenoiser(GaussianMixture(given.randn(3, 2), 0.3)), given.randn(20, 2)

        def u(x: Tensor, tau: float, exact: ExactDenoiser = exact) -> Tensor:
            if not 0 < tau < 1:
                raise ValueError(f"u is called at the time {float(tau):.2g}, which is not between 0 and 1")
            pred = exact(x, FlowSchedule().level(1 - tau))
            return pred.x_0 - pred.eps

        expected, got = -u(x, 1 - t), given.tensor(answer, u, x, t, shape=(20, 2))
        assert not near(got, -expected, 1e-3), "this velocity points from noise to data: check the sign"
        assert near(got, expected, 1e-3), f"at t = {t:.1f} this is not ε - x_0: at which time, and where, is u called?"


@exercise("05.3", "Choose a shift", minutes=5)
def shifts_the_middle(answer: object, given: Given) -> None:
    """The shift, within 0.01, that moves the middle of ten steps to three times as much noise as signal."""
    shift = given.number(answer)
    assert 0.01 < shift < 100, "a shift is a positive factor on σ/α, and 1 is no shift"
    level = FlowSchedule(shift=shift).levels(10)[5]
    ratio = level.sigma / level.alpha
    assert abs(ratio - 3) < 0.01, f"there σ/α is {ratio:.2f}; without a shift it is 1, and a shift multiplies it"
