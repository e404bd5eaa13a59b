"""The exercises of notebook 13, Few steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule
from diffusion_explained.training.few_steps import chord


def _std(t: Any, std: float) -> Any:
    """The standard deviation at time t of the straight path from data N(mean, std^2)."""
    return (((1 - t) * std) ** 2 + t**2) ** 0.5


def _map(given: Given) -> Callable[[Any, Any, Any], Any]:
    """The flow of Gaussian data in closed form: called as moved(x, t, s), it takes x [B, 2] from time t to time s."""
    mean, std = to_float64(given.randn(2)), 0.3 + float(given.rand(1))

    def moved(x: Any, t: Any, s: Any) -> Any:
        return (1 - s) * mean + _std(s, std) / _std(t, std) * (x - (1 - t) * mean)

    return moved


@exercise("13.1", "The chord", "my_chord(x_t, x_s, level, next_level)")
def is_the_chord(answer: object, given: Given) -> None:
    """The pair (x_0, eps) of a line through two points, at levels of two schedules, the clean one included."""
    for schedule in (FlowSchedule(), DDPMSchedule.linear()):
        levels = schedule.levels(4)
        for level, next_level in ((levels[0], levels[2]), (levels[1], levels[2]), (levels[2], levels[4])):
            x_t, x_s = to_float64(given.randn(2, 5, 2))
            result = given.call(answer, x_t, x_s, level, next_level)
            assert isinstance(result, tuple | list) and len(result) == 2, "the answer returns a pair, (x_0, eps)"
            assert all(isinstance(one, Tensor) and one.shape == x_t.shape for one in result), (
                "x_0 and eps are tensors of the shape of x_t"
            )
            expected = chord(x_t, x_s, level, next_level)
            assert not near(result[1], expected[0]), "the pair is (x_0, eps), in this order"
            back = [one.alpha * result[0] + one.sigma * result[1] for one in (level, next_level)]
            assert near(back[0], x_t, 1e-5), f"at σ = {level.sigma:.2f} this line does not pass through x_t"
            assert near(back[1], x_s, 1e-5), f"at σ = {next_level.sigma:.2f} this line does not pass through x_s"


@exercise("13.2", "The target of a consistency model", "my_target(f, x_0, eps, t, s)")
def is_the_consistency_target(answer: object, given: Given) -> None:
    """f(x_s, s) on the straight path, with the same data and noise; f is called once, at the lower noise."""
    for t, s in ((0.8, 0.4), (1.0, 0.5), (0.5, 0.0), *((0.9, 0.8 * r) for r in given.rand(2).tolist())):
        moved = _map(given)
        x_0, eps = to_float64(given.randn(2, 20, 2))
        calls: list[float] = []

        def f(x: Tensor, time: Any, moved: Any = moved, calls: list[float] = calls) -> Tensor:
            calls.append(float(time))
            return moved(x, time, 0.0)

        expected = moved((1 - s) * x_0 + s * eps, s, 0.0)
        got = given.tensor(answer, f, x_0, eps, t, s, shape=(20, 2))
        assert not near(got, moved((1 - t) * x_0 + t * eps, t, 0.0), 1e-6), "this is f(x_t, t), the student's side"
        assert calls == [s], (
            f"f is called at the times {', '.join(f'{one:.2f}' for one in calls) or 'none'}, not once at s = {s:.2f}"
        )
        assert near(got, expected, 1e-6), f"at s = {s:.2f} this is not f(x_s, s): x_s has the same x_0 and the same ε"


@exercise("13.3", "Two half steps", "my_shortcut(u, x_t, t, s)")
def is_the_mean_of_two_half_steps(answer: object, given: Given) -> None:
    """The mean velocity of two steps of half the length, of a field for which the place of the second step matters."""
    for t, s in ((1.0, 0.0), (0.5, 0.25), (0.75, 0.5), *((1.0, float(r)) for r in 0.9 * given.rand(2))):
        rate, x_t = 0.5 + float(given.rand(1)), to_float64(given.randn(20, 2))

        def u(x: Tensor, start: Any, end: Any, rate: float = rate) -> Tensor:
            return rate * x * (1 + float(start)) + torch.sin(2 * x) * float(end) - float(start)

        middle = (t + s) / 2
        first = u(x_t, t, middle)
        second = u(x_t - (t - middle) * first, middle, s)
        got = given.tensor(answer, u, x_t, t, s, shape=(20, 2))
        where = f"from {t:.2f} to {s:.2f}"
        assert not near(got, u(x_t, t, s), 1e-6), f"{where} this is the long step itself: take two half steps"
        assert not near(got, (first + u(x_t, middle, s)) / 2, 1e-6), (
            f"{where} the second half step starts at x_t: it starts where the first one ends"
        )
        assert not near(got, first + second, 1e-6), f"{where} this is the sum of the two velocities: take their mean"
        assert near(got, (first + second) / 2, 1e-6), (
            f"{where} this is not the mean of two half steps: u(x_t, t, m), then u(x_m, m, s)"
        )


@exercise("13.4", "MeanFlow's target", "my_meanflow(u, x_t, t, s, v)")
def is_the_meanflow_target(answer: object, given: Given) -> None:
    """v - (t - s) du/dt along the path, for a field whose derivatives by x and by t both matter."""
    for t, s in ((0.9, 0.1), (0.5, 0.1), (0.8, 0.8), *((0.95, float(r)) for r in 0.9 * given.rand(2))):
        a, b = (0.5 + given.rand(2)).tolist()
        x_t, v = to_float64(given.randn(2, 20, 2))

        def u(x: Any, time: Any, end: Any, a: float = a, b: float = b) -> Any:
            return a * x**2 + b * time**2 * x + end

        by_x, by_t = (2 * a * x_t + b * t**2) * v, 2 * b * t * x_t
        expected = v - (t - s) * (by_x + by_t)
        got = given.tensor(answer, u, x_t, t, s, v, shape=(20, 2))
        where = f"from {t:.2f} to {s:.2f}"
        if t > s:
            assert not near(got, v - (t - s) * by_t, 1e-4), (
                f"{where} the derivative is only that by t: x_t moves with v too"
            )
            assert not near(got, v - (t - s) * by_x, 1e-4), f"{where} the derivative is only that by x: t changes too"
            assert not near(got, v + (t - s) * (by_x + by_t), 1e-4), f"{where} the sign of the second term is wrong"
            assert not near(got, v - (by_x + by_t), 1e-4), f"{where} the factor t - s is missing"
        assert near(got, expected, 1e-4), f"{where} this is not v - (t - s) (v ∂u/∂x + ∂u/∂t)"
