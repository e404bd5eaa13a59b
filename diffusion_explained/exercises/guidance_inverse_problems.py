"""The exercises of notebook 14, Guidance in general, and inverse problems."""

from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near
from diffusion_explained.guidance import guide, projected_guide
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule


@exercise("14.1", "Guide by a gradient", "my_guided(x_t, level, eps, gradient, s)")
def is_guided_by_the_gradient(answer: object, given: Given) -> None:
    """The pair (x_0, eps) with eps - s sigma gradient, at levels of two schedules and scales of 1 and more."""
    for schedule, t in ((FlowSchedule(), 0.4), (DDPMSchedule.linear(), 300), (FlowSchedule(), 0.8)):
        level, s = schedule.level(t), 1 + 3 * float(given.rand(1))
        x_t, eps, gradient = to_float64(given.randn(3, 5, 2))
        result = given.call(answer, x_t, level, eps, gradient, s)
        assert isinstance(result, tuple | list) and len(result) == 2, "the answer returns a pair, (x_0, eps)"
        assert all(isinstance(one, Tensor) and one.shape == x_t.shape for one in result), (
            "x_0 and eps are tensors of the shape of x_t"
        )
        push, (x_0, guided) = level.sigma * gradient, result
        assert not near(x_0, eps - s * push), "the pair is (x_0, eps), in this order"
        assert not near(guided, eps), "eps is not guided: subtract s σ times the gradient"
        assert not near(guided, eps + s * push), (
            "the sign of the gradient is wrong: the noise points away from the data, and the score towards them"
        )
        assert not near(guided, eps - push), "the scale s is missing"
        assert not near(guided, eps - s * gradient), "the factor σ is missing: score = -eps / σ"
        assert not near(guided, eps - s * gradient / level.sigma), "the gradient is multiplied by σ, not divided"
        assert near(guided, eps - s * push, 1e-5), f"at σ = {level.sigma:.2f} eps is not eps - s σ gradient"
        assert not near(x_0, (x_t - level.sigma * eps) / level.alpha), (
            "x_0 is still the one without guidance: derive x_0 again from the guided eps"
        )
        assert near(level.alpha * x_0 + level.sigma * guided, x_t, 1e-5), (
            f"at σ = {level.sigma:.2f} the pair does not fit: α x_0 + σ eps is not x_t"
        )


@exercise("14.2", "Tilt and noise", "my_stds(a, b, sigma, w)")
def tilts_and_noises(answer: object, given: Given) -> None:
    """Both orders of tilting and noising N(0, a^2) and N(0, b^2), within 1e-4, without noise and without a tilt too.

    Raises AssertionError, with a hint, for other pairs.
    """

    def tilted(a_squared: float, b_squared: float, w: float) -> float:
        return 1 / (w / a_squared + (1 - w) / b_squared)

    cases = [(0.8, 1.0, 0.7, 1.5), (0.5, 1.0, 0.7, 1.0), (0.4, 1.2, 0.0, 2.0)]
    cases += [(0.3 + a / 2, 1 + b, 0.3 + sigma, 1.5 + 3 * w) for a, b, sigma, w in given.rand(2, 4).tolist()]
    for a, b, sigma, w in cases:
        got = given.numbers(given.call(answer, a, b, sigma, w), 2)
        first = (tilted(a**2, b**2, w) + sigma**2) ** 0.5
        second = tilted(a**2 + sigma**2, b**2 + sigma**2, w) ** 0.5
        of_these = f"for a = {a:.2f}, b = {b:.2f}, σ = {sigma:.2f}, w = {w:.2f}"

        def is_pair(x: float, y: float, got: list[float] = got) -> bool:
            return max(abs(got[0] - x), abs(got[1] - y)) <= 1e-4

        if is_pair(first, second):
            continue
        assert not is_pair(second, first), "the pair is (tilted and then noised, noised and then tilted), in this order"
        assert not is_pair(first**2, second**2), "these are variances: the standard deviation is their root"
        assert not is_pair(first, first), (
            f"{of_these} the two orders do not agree: noise first, then tilt, is another one"
        )
        assert not is_pair(second, second), (
            f"{of_these} the two orders do not agree: tilt first; the noise is then added and not tilted"
        )
        of_variances = max(w * a**2 + (1 - w) * b**2 + sigma**2, 0.0) ** 0.5
        assert not is_pair(of_variances, of_variances), (
            "precisions are guided, as scores are, not variances: w / a² + (1 - w) / b²"
        )
        assert not is_pair(
            tilted(a**2, b**2, w) ** 0.5 + sigma, tilted((a + sigma) ** 2, (b + sigma) ** 2, w) ** 0.5
        ), "noise adds its variance, not its standard deviation"
        raise AssertionError(f"{of_these} the pair is ({first:.2f}, {second:.2f}), not ({got[0]:.2f}, {got[1]:.2f})")


@exercise("14.3", "Projected guidance", "my_apg(cond, uncond, w, eta)", minutes=15)
def projects(answer: object, given: Given) -> None:
    """APG of images that differ in size, with eta of 0, of 1, and between them."""
    for w, eta in (
        (3.0, 0.5),
        (3.0, 0.0),
        (2.0, 1.0),
        (1.0, 0.5),
        *((1.5 + 3 * w, 0.1 + 0.8 * e) for w, e in given.rand(2, 2).tolist()),
    ):
        cond, uncond = to_float64(given.randn(2, 3, 2, 4, 4))
        cond = cond * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, device="cpu").reshape(3, 1, 1, 1)
        difference = cond - uncond

        def along(direction: Tensor, d: Tensor = difference, axes: Any = (1, 2, 3)) -> Tensor:
            scale = (d * direction).sum(axes, keepdim=True) / direction.square().sum(axes, keepdim=True)
            return scale * direction

        def apg(parallel: Tensor, factor: float, d: Tensor = difference, c: Tensor = cond, eta: float = eta) -> Tensor:
            return c + factor * (d - parallel + eta * parallel)

        own = along(cond)
        mistakes = [
            (cond, "this is cond itself: nothing guides"),
            (apg(own, w), "the factor is w - 1: the push starts at cond, not at uncond"),
            (apg(own, 1 - w), "the sign is wrong: the push leads from uncond to cond, and beyond"),
            (uncond + w * (difference - own + eta * own), "the push starts at cond, with the factor w - 1"),
            (
                cond + (w - 1) * (own + eta * (difference - own)),
                "this keeps the parallel part: keep the orthogonal one",
            ),
            (apg(along(uncond), w - 1), "the projection is onto cond, not onto uncond"),
            (apg(along(difference), w - 1), "the projection is onto cond, not onto the difference itself"),
            (apg(along(cond, axes=(0, 1, 2, 3)), w - 1), "products are per image, not over the whole batch"),
            (apg(along(cond, axes=(2, 3)), w - 1), "products are per image, over all channels"),
            (apg(own * cond.square().sum((1, 2, 3), keepdim=True).sqrt(), w - 1), "divide by |cond|², not by |cond|"),
            (cond + (w - 1) * (difference - own), "eta is ignored: the share eta of the parallel part is kept"),
            (guide(cond, uncond, w), "this is plain guidance: leave 1 - eta of the part along cond out"),
        ]
        expected = projected_guide(cond, uncond, w, parallel=eta)
        hint = f"for w = {w:.2f} and eta = {eta:.2f} this is not cond + (w - 1) (orthogonal part + eta · parallel part)"
        given.returns(answer, cond, uncond, w, eta, expected=expected, hint=hint, close=1e-6, mistakes=mistakes)


@exercise("14.4", "The gradient of DPS", "my_dps_gradient(denoise, measure, y, x_t)", minutes=15)
def is_the_gradient_of_dps(answer: object, given: Given) -> None:
    """The gradient of the norm of y - A(x_0(x_t)), through a bent denoiser, for linear and nonlinear measurements."""
    for bent in (False, True):
        W, A = to_float64(given.randn(3, 3)), to_float64(given.randn(2, 3))
        x_t, y = to_float64(given.randn(4, 3)), to_float64(given.randn(4, 2))

        def denoise(x: Tensor, W: Tensor = W) -> Tensor:
            return (x @ W.T).tanh()

        def measure(x_0: Tensor, A: Tensor = A, bent: bool = bent) -> Tensor:
            return (x_0 @ A.T).sin() if bent else x_0 @ A.T

        x_0 = denoise(x_t)
        error = measure(x_0) - y  # [4, 2]
        slope = (x_0 @ A.T).cos() if bent else torch.ones_like(error)
        over_x_0 = (error * slope) @ A  # that of half the square
        over_x_t = (over_x_0 * (1 - x_0.square())) @ W
        norm = error.norm(dim=1, keepdim=True)
        expected = over_x_t / norm
        mistakes = [
            (-expected, "the sign is wrong: this is the gradient itself, and the sampler goes down"),
            (over_x_0 / norm, "this is the gradient over x_0: go on through the denoiser to x_t"),
            (2 * over_x_t, "this is the gradient of the square of the norm"),
            (over_x_t, "this is the gradient of half the square of the norm"),
            (over_x_t / error.norm(), "the norm is per row, not over the whole batch"),
            (expected / len(x_t), "the mean over the batch divides by its size: take the sum of the norms"),
            (expected.mean(0).expand_as(expected), "each row has a gradient of its own"),
        ]
        hint = "this is not the gradient of |y - A(x_0(x_t))| over x_t"
        given.returns(answer, denoise, measure, y, x_t, expected=expected, hint=hint, close=1e-6, mistakes=mistakes)
