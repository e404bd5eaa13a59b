"""Samplers: methods that lead from noise to data, each written as a generator of `Step`s.

A sampler receives a denoiser, x_T and the levels to visit, and never a network or a schedule. So the same functions
sample 2-D points, digits and Stable Diffusion's latents. They are all built on one line,

    x_next = next.alpha * pred.x_0 + next.sigma * pred.eps

which is DDIM (Eq. 12, eta = 0), Karras' Euler step and the Euler step of flow matching at once.

    steps = list(euler(denoise, x_T, levels))       # every step, to inspect
    x_0 = final(euler(denoise, x_T, levels))        # or only the final sample
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_kind_of,
    check_options,
    float_data,
    number,
    same_shape,
    typed_arguments,
    whole,
)
from diffusion_explained.denoisers import Denoiser, Prediction
from diffusion_explained.forward import check_noisy, posterior, posterior_std, transition
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.noise import Generators, check_generators, randn
from diffusion_explained.schedules import Level, check_decreasing


@dataclass(frozen=True)
class Step:
    """One step of a sampler: x_t at `level`, the denoiser's prediction `pred` there, and x_next at `next_level`.

    pred_2 is the second prediction of a second-order step (Heun's, at the end of its trial step), or the last one of a
    corrector; otherwise None.
    The tensors are [B, ...]; i counts the steps from 0.
    """

    i: int
    level: Level
    next_level: Level
    x_t: Tensor
    pred: Prediction
    x_next: Tensor
    pred_2: Prediction | None = None


def final(steps: Iterable[Step]) -> Tensor:
    """Run a sampler to its end and return the last x_next [B, ...]. Raises ValueError if there is no step."""
    if not isinstance(steps, Iterable):
        raise ValueError(f"steps must be those of a sampler, as euler(...) yields them; got {shortened(steps)}.")
    x_0 = None
    for step in steps:
        check_kind_of("each of the steps", step, Step)
        x_0 = step.x_next
    if x_0 is None:
        raise ValueError("The sampler yielded no step.")
    return x_0


def step_pairs(
    x_t: Tensor, levels: Sequence[Level], generator: Generators = None
) -> Iterator[tuple[int, Level, Level]]:
    """Check a sampler's arguments, then return (i, level, next_level) for each step; x_t is [B, ...].

    Raises ValueError for x_t without images or with NaN, for levels that do not decrease, and for another generator.
    """
    check_decreasing(levels)
    if float_data("x_t", x_t).ndim < 2 or len(x_t) == 0:
        raise ValueError(f"x_t must be [B, ...] with B of 1 or more; got {list(x_t.shape)}.")
    if not bool(x_t.isfinite().all()):
        raise ValueError("x_t holds NaN or infinite values: start from finite noise.")
    check_generators(generator, len(x_t))
    return ((i, levels[i], levels[i + 1]) for i in range(len(levels) - 1))


def sampler(steps: Callable[..., Iterator[Step]]) -> Callable[..., Iterator[Step]]:
    """Decorate a sampler: it runs without gradients, its predictions are checked for their shape, its steps for NaN.

    NaN carries over from every step to the next. So on a GPU, where each check must wait for the device, the steps are
    checked once, at the end; on a CPU, after every step.
    """

    arguments = inspect.signature(steps)
    steps = torch.no_grad()(steps)

    @functools.wraps(steps)
    def checked(*args: Any, **options: Any) -> Iterator[Step]:
        check_options(steps.__name__, options, arguments.parameters)
        return finite(*args, **options)

    def finite(*args: Any, **options: Any) -> Iterator[Step]:
        waiting = []  # steps whose checks [B] are not yet read from the device
        given = arguments.bind(*args, **options)
        levels, denoise = given.arguments["levels"], given.arguments["denoise"]
        last = len(levels) - 2 if isinstance(levels, Sequence) else None
        given.arguments["denoise"] = functools.partial(predict, denoise)
        for i, step in enumerate(steps(*given.args, **given.kwargs)):
            waiting.append((step, step.x_next.flatten(1).isfinite().all(dim=1)))
            if step.x_next.device.type == "cpu" or i == last:
                for done, finite in waiting:
                    _refuse_unless(finite, done)
                waiting.clear()
            yield step

    return checked


def predict(denoise: Denoiser, x_t: Tensor, level: Level) -> Prediction:
    """The denoiser's prediction at x_t [B, ...], checked to have its shape: torch would broadcast smaller tensors.

    Raises ValueError for what is no denoiser, and for a prediction of another class or shape.
    """
    if not callable(denoise):
        raise ValueError(f"denoise must be a denoiser, called as denoise(x_t, level); got a {type(denoise).__name__}.")
    pred = denoise(x_t.clone(), level)  # which a denoiser may change in place
    if not isinstance(pred, Prediction):
        raise ValueError(f"A denoiser must return a Prediction(x_0, eps, eps_cond); got a {type(pred).__name__}.")
    same_shape("x_t and the denoiser's x_0", x_t, float_data("The denoiser's x_0", pred.x_0))
    same_shape("x_t and the denoiser's eps", x_t, float_data("The denoiser's eps", pred.eps))
    return pred


def _refuse_unless(finite: Tensor, step: Step) -> None:
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise ValueError(
            f"{bad} of {len(finite)} images became NaN or infinite in the step from t={step.level.t:g} to "
            f"t={step.next_level.t:g}: the network's output is broken there. Load its weights again, compute in "
            "float32 or bfloat16 instead of float16, or lower guidance_scale."
        )


@sampler
def ddim(
    denoise: Denoiser, x_t: Tensor, levels: Sequence[Level], *, eta: float = 0.0, generator: Generators = None
) -> Iterator[Step]:
    """Denoising diffusion implicit models: deterministic at eta = 0, DDPM's posterior at eta = 1.

        std    = eta * std(q(x_next | x_t, x_0))                            (DDIM, Eq. 16)
        x_next = next.alpha * x_0 + sqrt(next.sigma^2 - std^2) * eps + std * z   (DDIM, Eq. 12)

    Args:
        denoise: called as denoise(x_t, level); returns a Prediction.
        x_t: noise at levels[0], [B, ...].
        levels: decreasing in noise; the last is where sampling ends.
        eta: 0 to 1, the factor on the posterior's standard deviation.
        generator: draws z; one generator, one per image, or None (torch's global generator).
    """
    eta = number("eta", eta, "from 0 (deterministic) to 1 (DDPM)", 0, 1)
    for i, level, next_level in step_pairs(x_t, levels, generator):
        pred = denoise(x_t, level)
        std = min(
            eta * posterior_std(level, next_level), next_level.sigma
        )  # rounding may exceed sigma in the last digit
        x_next = next_level.alpha * pred.x_0 + (next_level.sigma**2 - std**2) ** 0.5 * pred.eps
        if std > 0:
            x_next = x_next + std * randn(x_t.shape, generator, x_t.device, x_t.dtype)
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def ddpm(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    *,
    variance: str = "small",
    generator: Generators = None,
) -> Iterator[Step]:
    """Ancestral sampling: draw x_next from the posterior, with the predicted x_0 in place of the data.

        x_next ~ q(x_next | x_t, x_0 = pred.x_0)                            (DDPM, Algorithm 2 and Eq. 6-7)

    Args:
        denoise, x_t, levels, generator: as for `ddim`.
        variance: "small", the posterior's (exact for a single data point), or "large", that of the forward step
            (exact for Gaussian data): the two choices of DDPM, Sec. 3.2.

    Raises ValueError for another variance.

    x_t is [B, ...].
    """
    if variance not in ("small", "large"):
        raise ValueError(f'variance must be "small" or "large", got {shortened(variance)}.')
    for i, level, next_level in step_pairs(x_t, levels, generator):
        pred = denoise(x_t, level)
        x_next, std = posterior(pred.x_0, x_t, level, next_level)
        if next_level.sigma > 0:  # the last step adds no noise (Algorithm 2, line 3)
            if variance == "large":
                _, std = transition(next_level, level)
            x_next = x_next + std * randn(x_t.shape, generator, x_t.device, x_t.dtype)
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def euler(denoise: Denoiser, x_t: Tensor, levels: Sequence[Level]) -> Iterator[Step]:
    """Euler's method on the probability-flow ODE: one step along the tangent of the path.

        dx_t = x_0 d(alpha) + eps d(sigma)

    With alpha = 1 this is Karras' d = (x - x_0) / sigma, x + d * d(sigma) (EDM, Algorithm 1, lines 4-5);
    on the straight path it is x + v dt with the velocity v = eps - x_0 (rectified flow, Algorithm 1).

    denoise, x_t [B, ...] and levels: as for `ddim`.
    """
    for i, level, next_level in step_pairs(x_t, levels):
        pred = denoise(x_t, level)
        x_next = x_t + (next_level.alpha - level.alpha) * pred.x_0 + (next_level.sigma - level.sigma) * pred.eps
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def euler_ancestral(
    denoise: Denoiser, x_t: Tensor, levels: Sequence[Level], *, eta: float = 1.0, generator: Generators = None
) -> Iterator[Step]:
    """An Euler step to slightly below the next level, then new noise up to it (k-diffusion, sample_euler_ancestral).

        r = (next.sigma / next.alpha) / (level.sigma / level.alpha)         the fraction of the noise ratio that is left
        up = eta * next.sigma * sqrt(1 - r^2),   down = sqrt(next.sigma^2 - up^2)
        x_next = next.alpha * x_0 + down * eps + up * z

    Arguments as for `ddim`; eta = 0 is Euler, eta = 1 draws x_next from the same distribution as DDPM.

    x_t is [B, ...].
    """
    eta = number("eta", eta, "from 0 (Euler) to 1 (ancestral)", 0, 1)
    for i, level, next_level in step_pairs(x_t, levels, generator):
        pred = denoise(x_t, level)
        r = (next_level.sigma * level.alpha) / (next_level.alpha * level.sigma)
        up = eta * next_level.sigma * max(0.0, 1 - r**2) ** 0.5
        down = max(0.0, next_level.sigma**2 - up**2) ** 0.5
        x_next = next_level.alpha * pred.x_0 + down * pred.eps
        if up > 0:
            x_next = x_next + up * randn(x_t.shape, generator, x_t.device, x_t.dtype)
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


FEW_STEPS = 15
PURE_NOISE = 1000.0  # from this sigma / alpha on, x_t says almost nothing about x_0; the cosine schedule ends at 20,000


def _ode_scales(level: Level, next_level: Level) -> tuple[float, float]:
    """The factors c at both ends of a step by which an ODE solver divides x: it integrates x / c.

    Karras et al. integrate x / alpha, for which the slope d(x / alpha) / d(sigma / alpha) is eps. On the straight path
    of a flow model, alpha + sigma = 1, x itself is integrated: it starts at alpha = 0, where x / alpha is undefined.
    """
    straight = abs(level.alpha + level.sigma - 1) < 1e-9
    return (1.0, 1.0) if straight else (level.alpha, next_level.alpha)


@sampler
def heun(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    *,
    S_churn: float = 0.0,
    S_tmin: float = 0.0,
    S_tmax: float = math.inf,
    S_noise: float = 1.0,
    generator: Generators = None,
) -> Iterator[Step]:
    """Heun's second-order method: a trial Euler step, then the mean of the two slopes (EDM, Algorithm 1).

        x' = Euler step;   x_next = x_t + (slope(x_t) + slope(x')) / 2 * step     (lines 4-8)

    With S_churn > 0, noise is added before each step, and the step starts from the noisier state (EDM, Algorithm 2).
    The sampler is then random, and the new noise corrects errors of earlier steps.

        gamma = min(S_churn / n, sqrt(2) - 1)  where S_tmin <= sigma / alpha <= S_tmax, else 0
        x_t  <- x_t + S_noise * sqrt(t_hat^2 - t^2) * z,   t_hat = (1 + gamma) * t          (alpha = 1; lines 4-6)

    A step needs two network evaluations (NFE). Two steps are Euler's and need one: the last step, since the slope at
    sigma = 0 is unknown; and a first step from nearly pure noise, since it spans nearly the whole range of
    sigma / alpha and would multiply an error of the second slope by this range. The slope is that of x / alpha, or
    of x on the straight path: see `_ode_scales`.

    Args:
        denoise, x_t, levels: as for `ddim`.
        S_churn: the amount of noise added over all n steps; 0 is the deterministic Algorithm 1, EDM uses 30 to 80. A
            step with added noise is yielded with the raised level and the noisier x_t.
        S_tmin, S_tmax: the noise ratios sigma / alpha between which noise is added.
        S_noise: the standard deviation of z; EDM uses up to 1.007, for networks that remove slightly too much noise.
        generator: for z; one, one per image, or None (torch's global stream).

    Raises ValueError for S_churn > 0 on levels whose t is not sigma itself: only EDM's and the straight path have a
    time at every level in between.
    """
    S_churn, S_noise = number("S_churn", S_churn, "0 or more", 0), number("S_noise", S_noise, "0 or more", 0)
    if not isinstance(S_tmin, float | int) or not isinstance(S_tmax, float | int) or not 0 <= S_tmin <= S_tmax:
        raise ValueError(f"S_tmin and S_tmax must be 0 <= S_tmin <= S_tmax; got {shortened(S_tmin)} and {S_tmax!r}.")
    for i, level, next_level in step_pairs(x_t, levels, generator):
        if S_churn > 0 and S_tmin * level.alpha <= level.sigma <= S_tmax * level.alpha and level.alpha > 0:
            gamma = min(S_churn / (len(levels) - 1), 2**0.5 - 1)
            noisier = _raised(level, gamma)
            scale, std = transition(level, noisier)
            x_t = scale * x_t + S_noise * std * randn(x_t.shape, generator, x_t.device, x_t.dtype)
            level = noisier
        pred, pred_2 = denoise(x_t, level), None
        x_next = next_level.alpha * pred.x_0 + next_level.sigma * pred.eps
        c, next_c = _ode_scales(level, next_level)
        if next_level.sigma > 0 and level.sigma < PURE_NOISE * c:
            pred_2 = denoise(x_next, next_level)
            x_0, eps = (pred.x_0 + pred_2.x_0) / 2, (pred.eps + pred_2.eps) / 2
            d_alpha = next_level.alpha / next_c - level.alpha / c
            d_sigma = next_level.sigma / next_c - level.sigma / c
            x_next = next_c * (x_t / c + d_alpha * x_0 + d_sigma * eps)
        yield Step(i, level, next_level, x_t, pred, x_next, pred_2)
        x_t = x_next


def _raised(level: Level, gamma: float) -> Level:
    """The level at which sigma / alpha is (1 + gamma) times as large. Raises ValueError where t is not sigma."""
    variance_exploding = level.alpha == 1
    straight = abs(level.alpha + level.sigma - 1) < 1e-9
    if abs(level.t - level.sigma) > 1e-9 or not (variance_exploding or straight):
        raise ValueError(
            f"S_churn needs levels whose time is sigma itself, as EDMSchedule's and FlowSchedule's; at t={level.t:g} "
            f"sigma is {level.sigma:g}. Use euler_ancestral or ddim with eta = 1 for noise on this schedule."
        )
    ratio = (1 + gamma) * level.sigma / level.alpha
    alpha = 1.0 if variance_exploding else 1 / (1 + ratio)
    return Level(ratio * alpha, alpha, ratio * alpha)


@sampler
def dpm_solver_pp_2m(denoise: Denoiser, x_t: Tensor, levels: Sequence[Level]) -> Iterator[Step]:
    """DPM-Solver++ (2M): second order from one network evaluation per step, by reusing the previous prediction of x_0.

        h = lambda_next - lambda,  lambda = log(alpha / sigma),  r = h_before / h
        D = x_0 + (x_0 - x_0 before) / (2 r)                                (DPM-Solver++, Algorithm 2)
        x_next = next.sigma / sigma * x_t + next.alpha * (1 - exp(-h)) * D

    The first step, a step from pure noise and the last step are of first order, which is DDIM. A last step that ends at
    a noisy level is of first order only if there are fewer than 15 steps, as in diffusers (lower_order_final).

    denoise, x_t [B, ...] and levels: as for `ddim`.
    """
    x_0_before: Tensor | None = None
    h_before = math.nan
    for i, level, next_level in step_pairs(x_t, levels):
        pred = denoise(x_t, level)
        h = (next_level.log_snr - level.log_snr) / 2
        D = pred.x_0
        last_of_few = i == len(levels) - 2 and i + 1 < FEW_STEPS
        if x_0_before is not None and next_level.sigma > 0 and not last_of_few:
            D = pred.x_0 + h / (2 * h_before) * (pred.x_0 - x_0_before)
        shrink = (next_level.sigma * level.alpha) / (next_level.alpha * level.sigma)  # exp(-h), also when h is infinite
        x_next = next_level.sigma / level.sigma * x_t + next_level.alpha * (1 - shrink) * D
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t, x_0_before, h_before = x_next, pred.x_0, h


def langevin(x_t: Tensor, pred: Prediction, level: Level, snr: float, generator: Generators = None) -> Tensor:
    """One step of Langevin dynamics [B, ...] at a level, whose density it leaves (nearly) as it is.

        x <- x + h * score + sqrt(2 h) * z,   score = -eps / sigma                        (Song et al. 2021, Eq. 4)
        h = 2 * (snr * sigma)^2

    This h is the rule of the paper's Algorithms 4 and 5, 2 * (snr * |z| / |score|)^2, with the expected norms instead
    of the measured ones: those of a batch would make an image depend on its neighbours. After many steps the variance
    of noise (a Gaussian of variance sigma^2) is 1 / (1 - snr^2) times as large as it should be.

    x_t [B, ...] is at the level, and pred is the prediction there. Raises ValueError for a snr that is not from 0 to 1,
    and for a clean level, which has no score.
    """
    snr = number("snr", snr, "from 0 (no step) to 1; Song et al. use 0.16", 0, 1)
    check_noisy(level)
    z = randn(x_t.shape, generator, x_t.device, x_t.dtype)
    return x_t - 2 * snr**2 * level.sigma * pred.eps + 2 * snr * level.sigma * z


@sampler
def predictor_corrector(
    denoise: Denoiser,
    x_t: Tensor,
    levels: Sequence[Level],
    *,
    corrections: int = 1,
    snr: float = 0.16,
    generator: Generators = None,
) -> Iterator[Step]:
    """Predictor-corrector sampling: a step of DDPM, then steps of Langevin dynamics at the next level.

        x_next ~ q(x_next | x_t, x_0 = pred.x_0)                (the predictor, ancestral: Song et al. 2021, App. F)
        x_next <- langevin(x_next, next_level)                  (the corrector, Algorithms 4 and 5, repeated)

    The predictor's error leaves x_next in a slightly wrong distribution; the corrector moves it towards the right one.
    A step needs 1 + corrections network evaluations, the last step one, since clean data has no score. `Step.pred_2` is
    the last corrector's prediction.

    Args:
        denoise, x_t [B, ...], levels, generator: as for `ddim`.
        corrections: Langevin steps per level; 0 is `ddpm`.
        snr: the size of a Langevin step, as for `langevin`.
    """
    corrections = whole("corrections", corrections, 0)
    for i, level, next_level in step_pairs(x_t, levels, generator):
        pred, pred_2 = denoise(x_t, level), None
        x_next, std = posterior(pred.x_0, x_t, level, next_level)
        if next_level.sigma > 0:
            x_next = x_next + std * randn(x_t.shape, generator, x_t.device, x_t.dtype)
            for _ in range(corrections):
                pred_2 = denoise(x_next, next_level)
                x_next = langevin(x_next, pred_2, next_level, snr, generator)
        yield Step(i, level, next_level, x_t, pred, x_next, pred_2)
        x_t = x_next


@sampler
def consistency(
    denoise: Denoiser, x_t: Tensor, levels: Sequence[Level], *, generator: Generators = None
) -> Iterator[Step]:
    """Multistep consistency sampling: jump to the predicted x_0, then add new noise up to the next level.

        x_next = next.alpha * x_0 + next.sigma * z            (Song et al. 2023, "Consistency Models", Algorithm 1)

    It is for a consistency model, whose predicted x_0 is a sample; other denoisers predict a mean, which is blurred.
    Arguments as for `ddim`; x_t is [B, ...].
    """
    for i, level, next_level in step_pairs(x_t, levels, generator):
        pred = denoise(x_t, level)
        x_next = next_level.alpha * pred.x_0
        if next_level.sigma > 0:
            x_next = x_next + next_level.sigma * randn(x_t.shape, generator, x_t.device, x_t.dtype)
        yield Step(i, level, next_level, x_t, pred, x_next)
        x_t = x_next


@sampler
def ddim_invert(denoise: Denoiser, x_0: Tensor, levels: Sequence[Level], *, iterations: int = 1) -> Iterator[Step]:
    """DDIM inversion: from an image to the noise that DDIM turns into this image.

    A DDIM step x_s = s.alpha * x_0 + s.sigma * eps(x_t) is solved for x_t by fixed-point iteration,

        x_t <- t.alpha / s.alpha * (x_s - s.sigma * eps(x_t)) + t.sigma * eps(x_t)

    One iteration, with eps evaluated at x_s, is the usual approximate inversion (DDIM, Sec. 4.3, Eq. 14 reversed);
    about ten iterations make the round trip exact where the steps are small.

    Args:
        denoise: as for `ddim`; use guidance_scale 1 (guidance magnifies errors).
        x_0: images at the last of the levels, [B, ...].
        levels: those of sampling, decreasing in noise; the inversion visits them in reverse order.
        iterations: network evaluations per step, 1 or more.
    """
    iterations = whole("iterations", iterations, 1)
    x_s = x_0
    for i, noisier, here in reversed(list(step_pairs(x_0, levels))):
        x_t = x_s
        for _ in range(iterations):
            pred = denoise(x_t, noisier)
            x_t = noisier.alpha / here.alpha * (x_s - here.sigma * pred.eps) + noisier.sigma * pred.eps
        yield Step(len(levels) - 2 - i, here, noisier, x_s, pred, x_t)
        x_s = x_t


@dataclass(frozen=True)
class Start:
    """The start of a sampling run: x_t [B, ...] at levels[0], the levels to visit, and one generator per image."""

    x_t: Tensor
    levels: list[Level]
    streams: list[torch.Generator]


@typed_arguments
def run(name: str, denoise: Denoiser, start: Start, **options: Any) -> Iterator[Step]:
    """Run the named sampler from a start; a sampler that draws noise continues with the start's generators.

    options: the sampler's options (eta). Raises ValueError for a name or an option that does not exist.
    """
    check_sampler(name)
    takes = inspect.signature(SAMPLERS[name]).parameters
    check_options(name, options, set(takes) - {"denoise", "x_t", "levels", "generator"})
    if "generator" in takes:
        options["generator"] = start.streams
    return SAMPLERS[name](denoise, start.x_t, start.levels, **options)


def divide_options(
    name: str, options: Mapping[str, Any], of_denoiser: Sequence[str], steps: Callable[..., Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the options of a sampling run into (those of the model's denoiser, those of the named sampler).

    Raises ValueError for an option that neither they nor the method `steps` itself have; the message lists all.
    """
    check_sampler(name)
    own = set(inspect.signature(SAMPLERS[name]).parameters) - {"denoise", "x_t", "levels", "generator"}
    of_run = set(inspect.signature(steps).parameters) - {"self", "options"}
    check_options(f"a run with {name}", options, {*of_denoiser, *own, *of_run})
    mine = {key: value for key, value in options.items() if key in of_denoiser}
    return mine, {key: value for key, value in options.items() if key in own}


def check_denoiser_alone(guidance_scale: float | None, of_denoiser: Mapping[str, Any]) -> None:
    """Raise ValueError if options of a denoiser are given together with a finished denoiser."""
    given = [*of_denoiser, *([] if guidance_scale is None else ["guidance_scale"])]
    if given:
        raise ValueError(f"The denoiser is made already: give {', '.join(given)} to model.denoiser.")


def check_sampler(name: str) -> None:
    """Raise ValueError unless `name` is the name of a sampler."""
    if not isinstance(name, str) or name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpm_solver_pp_2m": dpm_solver_pp_2m,
}
