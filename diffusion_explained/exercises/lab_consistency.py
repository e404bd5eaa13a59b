"""The exercises of lab 36, The consistency loss."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.exercises.grading import Given, exercise, near, refuse
from diffusion_explained.noise import randn, stream

CLOSE = 1e-5


def _parameterised(
    network: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma: Tensor,
    sigma_data: float,
    sigma_min: float,
    mistake: str,
) -> Tensor:
    """c_skip x + c_out network(c_in x, sigma) with the boundary condition at sigma_min, or with one typical mistake."""
    sigma = sigma[:, None]
    low = 0.0 if mistake == "at 0" else sigma_min
    root = (sigma**2 + sigma_data**2).sqrt()
    c_skip, c_out, c_in = (
        sigma_data**2 / ((sigma - low) ** 2 + sigma_data**2),
        sigma_data * (sigma - low) / root,
        1 / root,
    )
    if mistake == "no c_in":
        c_in = torch.ones_like(root)
    output = network(c_in * x, sigma[:, 0])
    if mistake == "output":
        return output
    return c_out * x + c_skip * output if mistake == "exchanged" else c_skip * x + c_out * output


@exercise("36.1", "The boundary condition", "my_f(network, x, sigma, sigma_data, sigma_min)", minutes=20, difficulty=2)
def has_the_boundary_condition(answer: object, given: Given) -> None:
    """f(x, sigma) of any network, at sigma_min and above, for two sizes of data."""
    for sigma_data, sigma_min in ((0.5, 0.002), (1.0, 0.1), (0.3 + float(given.rand(1)), 0.05)):
        mix, shift = to_float64(given.randn(3, 2)), to_float64(given.randn(2))
        with torch.no_grad():
            x, above = to_float64(given.randn(7, 2)), to_float64(given.rand(6))
            sigma = torch.cat([above.new_tensor([sigma_min]), sigma_min + 20 * above**3])

            def of(x: Tensor, sigma: Tensor, mix: Tensor = mix, shift: Tensor = shift) -> Tensor:
                return torch.cat([x, sigma.log()[:, None]], dim=1) @ mix + shift

            def by(
                mistake: str, x: Tensor = x, sigma: Tensor = sigma, a: float = sigma_data, b: float = sigma_min
            ) -> Tensor:
                return _parameterised(of, x, sigma, a, b, mistake)

            got = given.tensor(answer, of, x, sigma, sigma_data, sigma_min, shape=(7, 2))
            if near(got, by(""), CLOSE):
                continue
            for mistake, hint in (
                ("at 0", "the boundary is at σ = 0, as with EDM's factors: subtract sigma_min from σ in both"),
                ("no c_in", "the network is given x, not c_in x"),
                ("output", "this is the network's output: at sigma_min the answer must be x, for every network"),
                ("exchanged", "c_skip and c_out are exchanged: at sigma_min c_skip is 1"),
            ):
                assert not near(got, by(mistake), CLOSE), hint
            assert near(got[0], x[0], CLOSE), "at sigma_min the answer is not x: there c_skip is 1 and c_out is 0"
            refuse("this is not c_skip x + c_out network(c_in x, σ)")


def _sigmas(n: int, low: float, high: float, rho: float) -> list[float]:
    ends = low ** (1 / rho), high ** (1 / rho)
    return [(ends[0] + i / (n - 1) * (ends[1] - ends[0])) ** rho for i in range(n)]


@exercise("36.2", "The noise levels", "my_sigmas(n, sigma_min, sigma_max, rho)", minutes=15, difficulty=1)
def are_the_noise_levels(answer: object, given: Given) -> None:
    """n rising noise levels, evenly spaced in sigma to the power of 1 / rho, both ends included."""
    for n, low, high, rho in (
        (3, 0.002, 80.0, 7.0),
        (10, 0.01, 5.0, 3.0),
        (4 + int(4 * given.rand(1)), 0.02, 20.0, 5.0),
    ):
        result = given.call(answer, n, low, high, rho)
        got = float64_on_cpu("levels", given.numbers(result, n))

        def are(ones: Sequence[float], got: Tensor = got) -> bool:
            expected = float64_on_cpu("levels", ones)
            return bool(((got - expected).abs() <= CLOSE * expected.abs()).all())

        if are(_sigmas(n, low, high, rho)):
            continue
        i = [k / (n - 1) for k in range(n)]
        assert not are(_sigmas(n, low, high, rho)[::-1]), (
            "the levels fall: a consistency model counts them from low to high"
        )
        assert not are([low + one * (high - low) for one in i]), (
            "the levels are evenly spaced in σ: space σ^(1/ρ) evenly"
        )
        assert not are([low * (high / low) ** one for one in i]), "the levels are evenly spaced in log σ: space σ^(1/ρ)"
        assert not are(_sigmas(n, low, high, 1 / rho)), "ρ is upside down: space σ^(1/ρ) evenly, then take the power ρ"
        assert abs(float(got[0]) - low) < CLOSE, f"the first level is {float(got[0]):.3g}, not sigma_min"
        assert abs(float(got[-1]) - high) < CLOSE * high, f"the last level is {float(got[-1]):.3g}, not sigma_max"
        refuse("between its ends σ^(1/ρ) is not evenly spaced")


class _Jump(nn.Module):
    """f(x, sigma), a small network with three weights."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.weights = nn.Parameter(to_float64(given.randn(3)))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        a, b, c = self.weights
        return a * x / (1 + sigma[:, None]) + b * torch.sin(x) + c * sigma[:, None]


def _loss(f: nn.Module, x_0: Tensor, eps: Tensor, low: Tensor, high: Tensor, mistake: str = "") -> Tensor:
    """The consistency training loss with a pseudo-Huber distance, or with one typical mistake."""
    guess = f(x_0 + high[:, None] * eps, high)
    if mistake == "data":
        other = x_0
    elif mistake == "clean":
        other = f(x_0, low)
    else:
        other = f(x_0 + low[:, None] * eps, low)
    if mistake == "stop":
        guess = guess.detach()
    elif mistake != "gradient":
        other = other.detach()
    c = 0.00054 * (1.0 if mistake == "c" else x_0.shape[1] ** 0.5)
    squared = (guess - other).square().sum(1)
    distance = squared if mistake == "squared" else (squared + c**2).sqrt() - c
    weight = torch.ones_like(low) if mistake == "weight" else 1 / (high - low)
    if mistake == "upside down":
        weight = high - low
    return (weight * distance).mean()


@exercise("36.3", "The consistency loss", "my_loss(f, x_0, eps, sigma_low, sigma_high)", minutes=35, difficulty=3)
def is_the_consistency_loss(answer: object, given: Given) -> None:
    """The loss and its gradient, which comes from the noisier side only."""
    for count in (4, 9, 1):
        f, x_0, eps = _Jump(given), *to_float64(given.randn(2, count, 2))
        low = 0.01 + to_float64(given.rand(count))
        high = low + 0.1 + to_float64(given.rand(count))
        seen: list[_Jump] = []
        f.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(module))
        result = given.call(answer, f, x_0, eps, low, high)
        assert isinstance(result, Tensor) and result.shape == (), "the loss is a tensor of one number, shape ()"
        assert result.requires_grad, "the loss has no gradient: only the target, at sigma_low, is held fixed"
        (got,) = torch.autograd.grad(result, seen[-1].weights) if seen else (x_0.new_zeros(3),)

        def by(
            mistake: str, f: _Jump = f, x_0: Tensor = x_0, eps: Tensor = eps, low: Tensor = low, high: Tensor = high
        ) -> tuple[Tensor, Tensor]:
            own = copy.deepcopy(f)
            value = _loss(own, x_0, eps, low, high, mistake)
            return value.detach(), torch.autograd.grad(value, own.weights)[0]

        def is_it(
            mistake: str, result: Tensor = result, got: Tensor = got, by: Callable[[str], tuple[Tensor, Tensor]] = by
        ) -> bool:
            value, gradient = by(mistake)
            return near(result.detach(), value, CLOSE) and near(got, gradient, CLOSE)

        if is_it(""):
            continue
        for mistake, hint in (
            ("gradient", "the target has a gradient too: detach it, or compute it in torch.no_grad()"),
            ("stop", "the gradient comes from the target, at sigma_low: let it come from f at sigma_high only"),
            ("data", "the target is x_0 itself, as for a denoiser: it is f at sigma_low"),
            ("clean", "the target's input has no noise: it is x_0 + sigma_low ε, with the same ε"),
            ("squared", "this is the squared distance: take (|a - b|² + c²)^½ - c"),
            ("c", "c is 0.00054 times the root of the dimension, D^½"),
            ("weight", "the weight 1 / (sigma_high - sigma_low) is missing"),
            ("upside down", "the weight is upside down: neighbouring levels count more"),
        ):
            assert not is_it(mistake), hint
        refuse("this is not the mean of (|f(x_high) - f(x_low)|² + c²)^½ - c over sigma_high - sigma_low")


def _jumps(
    f: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    sigmas: Sequence[float],
    low: float,
    seed: int,
    mistake: str = "",
) -> Tensor:
    """Multistep consistency sampling, or with one typical mistake."""
    generator = stream(seed)

    def at(sigma: float) -> Tensor:
        return noise.new_full((len(noise),), sigma)

    x = f(noise if mistake == "unscaled" else sigmas[0] * noise, at(sigmas[0]))
    for before, sigma in pairwise(sigmas):
        if mistake == "once":
            break
        z = noise if mistake == "old noise" else randn(noise.shape, generator, noise.device, noise.dtype)
        spread = {"no noise": 0.0, "all": sigma}.get(mistake, (sigma**2 - low**2) ** 0.5)
        x = f(x + spread * z, at(before if mistake == "old level" else sigma))
    return x


@exercise("36.4", "Sampling by jumps", "my_sample(f, noise, sigmas, sigma_min, generator)", minutes=20, difficulty=2)
def jumps_and_adds_noise(answer: object, given: Given) -> None:
    """Multistep consistency sampling in one to four jumps, with the noise of one generator."""
    for sigmas, low in (([5.0], 0.01), ([80.0, 2.0], 0.5), ([10.0, 3.0, 0.5 + 0.4 * float(given.rand(1))], 0.2)):
        noise, rate = to_float64(given.randn(20, 2)), float(given.rand(1))

        def f(x: Tensor, sigma: Tensor, rate: float = rate) -> Tensor:
            if not isinstance(sigma, Tensor) or sigma.shape != x.shape[:1]:
                raise ValueError("f takes one noise level per point, a tensor [B]")
            return torch.tanh(x / (1 + sigma[:, None])) + rate * torch.sin(sigma)[:, None]

        seed = 20 + len(sigmas)
        got = given.tensor(answer, f, noise, sigmas, low, stream(seed), shape=(20, 2))
        if near(got, _jumps(f, noise, sigmas, low, seed), CLOSE):
            continue
        for mistake, hint in (
            ("unscaled", "the first input is the noise itself: multiply it by the first level"),
            ("once", "only one jump was made: for each further level add noise, and jump again"),
            ("no noise", "no noise is added between the jumps"),
            ("all", "the new noise has the standard deviation σ: f ends at sigma_min, so add (σ² - sigma_min²)^½ z"),
            ("old noise", "the first noise is added again: draw new noise for each jump"),
            ("old level", "f is asked at the level before: after the new noise x is at the next one"),
        ):
            assert not near(got, _jumps(f, noise, sigmas, low, seed, mistake), CLOSE), hint
        refuse(
            f"in {len(sigmas)} jumps this is not multistep consistency sampling, with the new noise by "
            "torch.randn(x.shape, generator=generator)"
        )
