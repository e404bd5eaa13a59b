"""The exercises of lab 31, Schedules and samplers."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from diffusion_explained.denoisers import Prediction
from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise, near, refuse
from diffusion_explained.forward import posterior_std
from diffusion_explained.noise import randn, stream
from diffusion_explained.schedules import DDPMSchedule, Level, Schedule

Denoise = Callable[[Tensor, Level], Prediction]
CLOSE = 1e-5


@exercise("31.1", "The levels", "my_levels(betas, num_inference_steps)", minutes=20, difficulty=1)
def are_the_levels(answer: object, given: Given) -> None:
    """(t, alpha, sigma) of trailing timesteps of two schedules, then the clean level (-1, 1, 0)."""
    for schedule in (DDPMSchedule.linear(), DDPMSchedule.cosine(400)):
        for n in (5, 8, 7 + int(3 * given.rand(1))):
            got = given.call(answer, schedule.betas, n)
            assert isinstance(got, list | tuple), "the levels are a list of (t, alpha, sigma), one per level"
            rows = float64_on_cpu("levels", [given.numbers(one, 3) for one in got])
            expected = float64_on_cpu("levels", [list(level) for level in schedule.levels(n)])
            where = f"with {n} steps of {len(schedule.betas)}"
            assert len(rows) != n, f"{where} the clean level is missing: the list ends at (-1, 1, 0)"
            assert len(rows) == n + 1, f"{where} these are {len(rows)} levels: {n}, and then the clean one"
            assert not near(rows.flip(0), expected), f"{where} the levels rise: sampling begins with the noisiest one"
            times = rows[:, 0]
            assert not near(times[:-1], expected[:-1, 0] + 1, 1e-9), (
                f"{where} t is one too large: t = T - 1 is the last"
            )
            leading = schedule.timesteps(n, "leading")
            assert not near(times[:-1], leading, 1e-9), (
                f"{where} the first level is t = {times[0]:.0f}: trailing timesteps begin at T - 1"
            )
            assert near(times, expected[:, 0], 1e-9), f"{where} these are not the trailing timesteps"
            alphas, sigmas, right = rows[:, 1], rows[:, 2], expected[:, 1]
            assert not near(alphas, right**2, CLOSE), "this is ᾱ: α is its square root"
            own = (1 - schedule.betas[expected[:-1, 0].long()]).sqrt()
            assert not near(alphas[:-1], own, CLOSE), "α_t is of one step here: multiply 1 - β over all steps up to t"
            assert near(alphas, right, CLOSE), f"{where} α is not the square root of the product of 1 - β up to t"
            assert not near(sigmas, 1 - right, CLOSE), "α + σ = 1 holds on the straight path; here α² + σ² = 1"
            assert not near(sigmas, 1 - right**2, CLOSE), "this is the variance 1 - ᾱ: σ is its square root"
            assert near(sigmas, expected[:, 2], CLOSE), f"{where} σ is not (1 - ᾱ)^½"


def _denoiser(given: Given) -> ExactDenoiser:
    """The exact denoiser of four Gaussians in the plane, at places of this test."""
    return ExactDenoiser(GaussianMixture(to_float64(given.randn(4, 2)), 0.2 + 0.2 * float(given.rand(1))))


def _schedules() -> tuple[Schedule, ...]:
    return DDPMSchedule.linear(), DDPMSchedule.scaled_linear(500)


def _step(pred: Prediction, level: Level, next_level: Level, std: float) -> Tensor:
    """The mean of DDIM's step to next_level when fresh noise of this standard deviation follows."""
    return next_level.alpha * pred.x_0 + max(0.0, next_level.sigma**2 - std**2) ** 0.5 * pred.eps


def _ancestral(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], eta: float, seed: int, mistake: str = ""
) -> Tensor:
    """DDIM with eta (DDPM at eta = 1), or with one typical mistake."""
    generator = stream(seed)
    for level, next_level in pairwise(levels):
        pred = denoise(x, level)
        std = eta * posterior_std(level, next_level)
        if mistake == "eta":
            std = posterior_std(level, next_level)
        if mistake == "large" and next_level.sigma > 0:
            std = eta * (1 - (level.alpha / next_level.alpha) ** 2) ** 0.5
        if mistake == "variance":
            std = std**2
        mean = _step(
            pred, level, next_level, 0.0 if mistake == "all of the noise" else eta * posterior_std(level, next_level)
        )
        if next_level.sigma == 0 and mistake != "last":
            x = mean
            continue
        if mistake == "last" and next_level.sigma == 0:
            std = eta * (1 - (level.alpha / next_level.alpha) ** 2) ** 0.5
        x = mean if mistake == "no noise" else mean + std * randn(x.shape, generator, x.device, x.dtype)
    return x


@exercise("31.2", "DDPM", "my_ddpm(denoise, x_T, levels, generator)", minutes=25, difficulty=2)
def is_ddpm(answer: object, given: Given) -> None:
    """The last x of ancestral sampling, with the noise of one generator, for two schedules and numbers of steps."""
    for schedule in _schedules():
        denoise, x_T = _denoiser(given), to_float64(given.randn(30, 2))
        for n in (1, 4, 9):
            levels, seed = schedule.levels(n), 7 + n
            got = given.tensor(answer, denoise, x_T, levels, stream(seed), shape=(30, 2))

            def by(
                mistake: str,
                denoise: Denoise = denoise,
                x: Tensor = x_T,
                levels: list[Level] = levels,
                seed: int = seed,
            ) -> Tensor:
                return _ancestral(denoise, x, levels, 1.0, seed, mistake)

            if near(got, by(""), CLOSE):
                continue
            _refuse(
                got,
                f"with {n} steps",
                (
                    (by("last"), "the last step adds noise: at σ = 0 nothing is drawn"),
                    (by("no noise"), "the noise z is missing: draw it in every step but the last"),
                    (by("large"), "the standard deviation is β^½, that of a step forward: take that of the posterior"),
                    (
                        by("variance"),
                        "the noise is multiplied by the posterior's variance: take its standard deviation",
                    ),
                    (
                        by("all of the noise"),
                        "all of σ ε stays and z is added on top: too much noise; the mean is the posterior's",
                    ),
                    (_ancestral(denoise, x_T, levels, 0.0, seed), "this is DDIM: DDPM draws new noise in every step"),
                ),
            )
            refuse(
                f"with {n} steps this is not DDPM: the mean of the posterior plus its standard deviation times "
                "torch.randn(x.shape, generator=generator), drawn once per step"
            )  # fmt: skip


@exercise("31.3", "DDIM with η", "my_ddim(denoise, x_T, levels, eta, generator)", minutes=20, difficulty=2)
def is_ddim(answer: object, given: Given) -> None:
    """DDIM's last x at eta of 0, 1/2 and 1: deterministic, between, and DDPM."""
    for schedule in _schedules():
        denoise, x_T = _denoiser(given), to_float64(given.randn(30, 2))
        for eta, n in ((0.0, 5), (1.0, 5), (0.5, 8), (0.2 + 0.6 * float(given.rand(1)), 3)):
            levels, seed = schedule.levels(n), 3 + n
            got = given.tensor(answer, denoise, x_T, levels, eta, stream(seed), shape=(30, 2))

            def by(
                mistake: str,
                denoise: Denoise = denoise,
                x: Tensor = x_T,
                levels: list[Level] = levels,
                eta: float = eta,
                seed: int = seed,
            ) -> Tensor:
                return _ancestral(denoise, x, levels, eta, seed, mistake)

            if near(got, by(""), CLOSE):
                continue
            _refuse(
                got,
                f"at η = {eta:.2f}",
                (
                    (
                        by("all of the noise"),
                        "the predicted noise keeps its whole σ beside the new noise: its factor is (σ² - ς²)^½",
                    ),
                    (_ancestral(denoise, x_T, levels, 1.0, seed), "this is the result of η = 1, whatever η is"),
                    (_ancestral(denoise, x_T, levels, 0.0, seed), "this is the result of η = 0, whatever η is"),
                    (by("eta"), "η is missing in the factor of the new noise"),
                    (
                        by("large"),
                        "ς is η β^½, that of a step forward: take η times the posterior's standard deviation",
                    ),
                    (by("variance"), "ς is η times the posterior's standard deviation, not its variance"),
                    (by("last"), "the last step adds noise: at σ = 0 nothing is drawn"),
                ),
            )
            refuse(f"at η = {eta:.2f} this is not α_s x_0 + (σ_s² - ς²)^½ ε + ς z")  # fmt: skip


def _refuse(got: Tensor, where: str, mistakes: Sequence[tuple[Tensor, str]]) -> None:
    """Raise AssertionError with the hint of the mistake whose result this is."""
    for wrong, hint in mistakes:
        assert not near(got, wrong, CLOSE), f"{where} {hint}"


def _heun(denoise: Denoise, x: Tensor, levels: Sequence[Level], mistake: str = "") -> Tensor:
    """Heun's method for x / alpha over sigma / alpha, or with one typical mistake."""
    for level, next_level in pairwise(levels):
        eps = denoise(x, level).eps
        y, s = x / level.alpha, level.sigma / level.alpha
        next_s = next_level.sigma / next_level.alpha
        trial = y + (next_s - s) * eps
        if next_s > 0 and mistake != "Euler":
            at = level if mistake == "old level" else next_level
            where = x if mistake == "old place" else trial * next_level.alpha
            second = denoise(where, at).eps
            eps = second if mistake == "second only" else eps + second if mistake == "sum" else (eps + second) / 2
        x = next_level.alpha * (y + (next_s - s) * eps)
    return x


@exercise("31.4", "Heun", "my_heun(denoise, x_T, levels)", minutes=25, difficulty=2)
def is_heun(answer: object, given: Given) -> None:
    """Heun's last x, in 2 n - 1 network evaluations."""
    _is_solver(answer, given, _heun, lambda n: 2 * n - 1, (
        ("Euler", "this is Euler's method: predict again at the end of the trial step, and average both slopes"),
        ("old level", "the second prediction is asked at the old level: the trial step ends at next_level"),
        ("old place", "the second prediction is asked at the old x: ask at the end of the trial step"),
        ("second only", "only the second slope is used: take the mean of both"),
        ("sum", "this is the sum of both slopes: take their mean"),
    ), "this is not Heun's method for x / α over σ / α")  # fmt: skip


def _two_m(denoise: Denoise, x: Tensor, levels: Sequence[Level], mistake: str = "") -> Tensor:
    """DPM-Solver++ (2M), or with one typical mistake."""
    before, h_before = None, 1.0
    for level, next_level in pairwise(levels):
        x_0 = denoise(x, level).x_0
        last = next_level.sigma == 0
        h = (next_level.log_snr - level.log_snr) / (1 if mistake == "log SNR" else 2)
        D = x_0
        if before is not None and (not last or mistake == "last") and mistake != "first order":
            share = h_before / h / 2 if mistake == "ratio" else h / h_before / 2
            share = {"sign": -share, "half": 2 * share, "equal steps": 0.5}.get(mistake, share)
            D = x_0 + share * (x_0 - before)
        shrink = 0.0 if last else math.exp(-h)
        x = next_level.sigma / level.sigma * x + next_level.alpha * (1 - shrink) * D
        before, h_before = x_0, h
    return x


@exercise("31.5", "DPM-Solver++ (2M)", "my_2m(denoise, x_T, levels)", minutes=30, difficulty=3)
def is_two_m(answer: object, given: Given) -> None:
    """DPM-Solver++ (2M)'s last x, in one network evaluation per step; the first and the last step are DDIM's."""
    _is_solver(answer, given, _two_m, lambda n: n, (
        ("first order", "this is DDIM: the previous prediction is not used"),
        ("sign", "the sign of the correction is wrong: D = x_0 + (x_0 - x_0 before) / (2 r)"),
        ("ratio", "r is upside down: r = h before / h"),
        ("half", "the factor 1/2 of the correction is missing"),
        ("equal steps", "the steps in λ are not equally long: divide by r = h before / h"),
        ("log SNR", "h is twice too large: λ = log(α / σ) is half the log SNR"),
    ), "this is not DPM-Solver++ (2M): D in all steps but the first and the last, which are DDIM's")  # fmt: skip


def _is_solver(
    answer: object,
    given: Given,
    solve: Callable[..., Tensor],
    evaluations: Callable[[int], int],
    mistakes: Sequence[tuple[str, str]],
    otherwise: str,
) -> None:
    """Compare a deterministic solver with ours, mistake by mistake, and count its network evaluations."""
    for schedule in _schedules():
        exact, x_T = _denoiser(given), to_float64(given.randn(30, 2))
        for n in (1, 3, 6 + int(3 * given.rand(1))):
            levels, called = schedule.levels(n), [0]

            def denoise(x_t: Tensor, level: Level, exact: Denoise = exact, called: list[int] = called) -> Prediction:
                called[0] += 1
                return exact(x_t, level)

            got = given.tensor(answer, denoise, x_T, levels, shape=(30, 2))
            if not near(got, solve(exact, x_T, levels), CLOSE):
                _refuse(got, f"with {n} steps", [(solve(exact, x_T, levels, name), hint) for name, hint in mistakes])
                refuse(f"with {n} steps {otherwise}")
            assert called[0] == evaluations(n), (
                f"{n} steps took {called[0]} network evaluations, {evaluations(n)} are enough"
            )
