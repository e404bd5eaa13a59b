"""The exercises of notebook 04, From DDPM to DDIM."""

from functools import cache

import torch
from torch import Tensor

from diffusion_explained.data import gaussian_modes
from diffusion_explained.denoisers import Prediction
from diffusion_explained.devices import to_float64
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises.grading import Given, exercise
from diffusion_explained.forward import add_noise, posterior_std
from diffusion_explained.noise import randn, stream
from diffusion_explained.samplers import ddim, dpm_solver_pp_2m, final, heun
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level

MOST_EVALUATIONS = 40
SOLVERS = {"DDIM": ddim, "Heun": heun, "DPM-Solver++ 2M": dpm_solver_pp_2m}
PER_STEP = {"DDIM": 1, "Heun": 2, "DPM-Solver++ 2M": 1}  # network evaluations


@exercise("04.1", "DDIM by hand", "my_ddim(pred, next_level)", minutes=5)
def steps_like_ddim(answer: object, given: Given) -> None:
    """One step of DDIM at eta = 0, to levels of three schedules, the clean one included."""
    for schedule in (DDPMSchedule.linear(), FlowSchedule(), EDMSchedule()):
        for next_level in schedule.levels(4)[1:]:
            x_0, eps, before_guidance = given.randn(3, 2, 1, 4, 4)
            pred, expected = Prediction(x_0, eps, eps_cond=before_guidance), add_noise(x_0, eps, next_level)
            hint = f"at σ = {next_level.sigma:.2g} this is not x_s: mix both predictions with the α and σ of next_level"
            alpha, sigma = next_level.alpha, next_level.sigma
            mistakes = (
                (x_0, "this is the predicted picture, not x_s: at the next level noise is left, as long as σ > 0"),
                (alpha * x_0, "this is not x_s: the noise is missing, σ times the predicted ε"),
                (sigma * x_0 + alpha * eps, "this is not x_s: α and σ are exchanged"),
                (alpha * x_0 - sigma * eps, "this is not x_s: the noise is added, not subtracted"),
                (alpha * x_0 + sigma**2 * eps, "this is not x_s: the noise is multiplied by σ, not by the variance σ²"),
                (
                    alpha * x_0 + sigma * before_guidance,
                    "this is not x_s: eps_cond is the noise before guidance; take eps",
                ),
                (
                    alpha * x_0 + max(0.0, 1 - alpha**2) ** 0.5 * eps,
                    "this is not x_s: σ = (1 - α²)^½ holds on one kind of path only; take sigma",
                ),
                (
                    (1 - sigma) * x_0 + sigma * eps,
                    "this is not x_s: α = 1 - σ holds on the straight path only; take alpha",
                ),
            )
            given.returns(answer, pred, next_level, expected=expected, hint=hint, mistakes=mistakes)


@exercise("04.2", "How much of the noise is fresh?")
def is_the_fresh_share(answer: object, given: Given) -> None:
    """The fresh share of the noise's variance, within 0.01, in DDPM's jump from t = 600 to t = 300."""
    schedule, share = DDPMSchedule.linear(), given.number(answer)
    assert 0 <= share <= 1, "a share lies between 0 and 1"

    def fresh(to: int) -> float:
        return (posterior_std(schedule.level(600), schedule.level(to)) / schedule.level(to).sigma) ** 2

    assert abs(share - fresh(599)) > 1e-3, "this is the share of the step from 600 to 599"
    assert abs(share - fresh(300) ** 0.5) > 1e-3, "this is a quotient of standard deviations: square it"
    assert abs(share - (1 - fresh(300))) > 1e-3, "this is the share of the noise that x_t already contained"
    assert abs(share - fresh(300)) < 0.01, "divide ς², the variance of the fresh noise, by σ_s², that of all noise"


@cache
def _start() -> tuple[ExactDenoiser, Tensor, Tensor]:
    """The wide Gaussians' denoiser, 64 points at t = 980, and where the exact solution takes them, as in section 5."""
    means, _ = gaussian_modes("eight_gaussians")
    denoise = ExactDenoiser(GaussianMixture(means, 0.3))
    x_start = to_float64(randn((64, 2), stream(7)))
    return denoise, x_start, final(heun(denoise, x_start, _between(640)))


def _between(n: int) -> list[Level]:
    times = torch.linspace(980, 20, n + 1, dtype=torch.float64, device="cpu").tolist()
    return [DDPMSchedule.linear().level(t) for t in times]


@cache
def _error(name: str, n: int) -> float:
    """The root mean square distance of n steps of a solver from the exact solution."""
    denoise, x_start, exact = _start()
    return float((final(SOLVERS[name](denoise, x_start, _between(n))) - exact).square().mean().sqrt())


def _solver(said: object) -> str:
    """The solver's name in the figure, from that name or the function's, or from the function itself."""
    said = getattr(said, "__name__", said)
    assert isinstance(said, str), f"the first of the pair is the name of a solver, not {said!r}"
    plain = "".join(filter(str.isalnum, said.replace("++", "pp").lower()))
    names = {"ddim": "DDIM", "heun": "Heun", "dpmsolverpp2m": "DPM-Solver++ 2M"}
    assert plain in names, f"the solvers of section 5 are {', '.join(names.values())}; {said!r} is none of them"
    return names[plain]


@exercise("04.3", "Accuracy for a given cost", minutes=15)
def is_the_best_buy(answer: object, given: Given) -> None:
    """The solver and number of steps that get nearest to the exact solution, within 5%, in 40 network evaluations."""
    assert isinstance(answer, tuple | list) and len(answer) == 2, 'the answer is a pair (name, n), such as ("DDIM", 10)'
    name, n = _solver(answer[0]), given.whole(answer[1], 1, MOST_EVALUATIONS)
    evaluations = PER_STEP[name] * n
    assert evaluations <= MOST_EVALUATIONS, f"{name} with {n} steps takes {evaluations} network evaluations"
    best = min(_error(other, MOST_EVALUATIONS // PER_STEP[other]) for other in SOLVERS)
    assert _error(name, n) < 1.05 * best, "another choice gets nearer: compare the errors at 40 network evaluations"
