"""Which fault a trained denoiser has: its outputs are compared with what each known fault would have taught it.

A network that is trained with a fault learns the exact denoiser of *another* problem: of images in another range, at
the levels of another schedule, with another target. For a Gaussian mixture every one of these denoisers has a closed
form (`exact`), so a fault is found as a physician finds one, by its symptoms:

    error(fault) = exp( mean over t of  log( E |network(x_t, t) - output(fault; x_t, t)|^2 / E |target_t|^2 ) )

where x_t is noised as the fault would have noised it, and output(fault) is what a network of least squared error would
then return. The least error names the fault. The mean is geometric, which is the likelihood of Gaussian errors whose
size differs from level to level: a small network errs most at the cleanest levels, and would hide a fault there. Train
on the points of `data.toy("eight_gaussians")` or `"two_gaussians"`, whose mixture is known; a program that is right
there is right on pictures too, except for what only pictures have.

What no output can show is not found: a shift by one step of 1,000 (train with T = 20 to look for it), and weights that
were not averaged.

    diagnose(network, "eight_gaussians", DDPMSchedule.linear(), "eps").fault       # None, or "off by one", ...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.data.toys import gaussian_modes
from diffusion_explained.denoisers import Network
from diffusion_explained.devices import to_float64
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import randn, stream
from diffusion_explained.predictions import KINDS, check_kind, input_scale, target
from diffusion_explained.schedules import SCHEDULES, DDPMSchedule, FlowSchedule, Level, Schedule

POINTS = 256  # per noise level and hypothesis
LEVELS = 12
LEAST_ERROR = 3e-4  # of the target's variance, below which an output counts as exact
RIGHT_IF = 1.25  # a fault is named only if it explains the outputs this many times better than no fault does
NO_MATCH = 0.2  # of the target's variance: beyond this error nothing that is known here explains the outputs
RARE_LABELS = 1.5  # errors with labels, over those without: most of the training goes to the labels, unless inverted
UNTRAINED_NULL = 30  # errors without labels, over those with labels: a rarely trained null label has 10 at most
NO_LABEL, TWICE_LABEL = 0.05, 1.3  # shares of the way that a label should move the output


@dataclass(frozen=True)
class Cause:
    """A fault, and the problem whose exact denoiser a network with this fault learns.

    name: of the fault; cure: what to look for in the program.
    data: the mixture that it is trained on. level: the level of x_t, for the level that the network is told.
    kind: of its output. sign: of its output. paired: whether x_t holds the noise that the target holds.
    clock: the time that the network is told, for the one that the schedule says.
    """

    name: str
    cure: str
    data: GaussianMixture
    kind: str
    level: Callable[[Level], Level] = field(default=lambda level: level)
    sign: float = 1.0
    paired: bool = True
    clock: Callable[[float], float] = field(default=lambda t: t)


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    fault: the name of the fault, or None. text: one or two sentences for a reader. errors: by the name of each cause,
    from the least error on, in units of the target's variance; "none" is the error without a fault. label_share: how
    far a label moves the output, 1 as it should and 0 not at all; None where no labels were given to the network.
    """

    fault: str | None
    text: str
    errors: dict[str, float]
    label_share: float | None = None


@typed_arguments
def diagnose(
    network: Network, data: str, schedule: Schedule, kind: str, *, num_classes: int | None = None, seed: int = 0
) -> Diagnosis:
    """Name the fault of a network that was trained on a toy made of Gaussians, or say that there is none.

    network: called as network(x, t, labels) -> [B, 2] with x [B, 2] (float32), t [B] of `Schedule.network_time` and
    labels [B], or None. data: "eight_gaussians" or "two_gaussians", as scaled by `data.toy`. kind: the prediction type
    that it was trained for. num_classes: the number of classes of its labels, which is its null label too; None for a
    network without labels. The points and the noise are drawn with the seed.

    Raises ValueError for an unknown toy or prediction type, for a number of classes that the toy does not have, and for
    outputs that are no finite points [B, 2].
    """
    check_kind(kind)
    means, std = gaussian_modes(data)
    if num_classes is not None and whole("num_classes", num_classes, 1) != len(means):
        raise ValueError(f"num_classes is the number of classes of {data}, {len(means)}, or None; got {num_classes}.")
    mixture = GaussianMixture(means, std, classes=list(range(len(means))))
    levels = visited(schedule)
    ask = _Asked(network, num_classes, seed)

    if _same_at_all_times(ask, levels):
        return Diagnosis("time ignored", "The output is the same at all times: the network does not use t.", {})
    causes = [Cause("none", "", mixture, kind), *training_faults(mixture, schedule, kind)]
    errors = {cause.name: ask.error(cause, levels, schedule) for cause in causes}
    if num_classes is not None:
        with_labels = ask.error(causes[0], levels, schedule, labelled=True)
        if errors["none"] > UNTRAINED_NULL * with_labels:
            text = "With labels the output is right, with the null label it is not: no labels were dropped in training."
            return Diagnosis("null label never trained", text, {"none": errors["none"], "with labels": with_labels})
    errors = dict(sorted(errors.items(), key=lambda item: item[1]))
    best = next(cause for cause in causes if cause.name == next(iter(errors)))
    if errors[best.name] > NO_MATCH:
        text = (
            f"Nothing that is known here explains the outputs: the nearest cause is “{best.name}”, with an error of "
            f"{errors[best.name]:.2f} of the target's variance. Train it longer, or on the points of "
            f"toy({data!r}, n)."
        )
        return Diagnosis("not trained", text, errors)
    if best.name != "none" and errors["none"] > RIGHT_IF * errors[best.name]:
        text = (
            f"{best.cure} (The outputs are {errors['none'] / errors[best.name]:.1f} times nearer to this fault than to "
            "the right ones.)"
        )
        return Diagnosis(best.name, text, errors)
    if num_classes is None:
        return Diagnosis(None, f"No fault found; the error is {errors['none']:.4f} of the target's variance.", errors)
    return _of_labels(ask, causes[0], levels, schedule, errors, with_labels)


def visited(schedule: Schedule) -> list[Level]:
    """The levels at which a network is asked: those of a sampling, and the three cleanest times of a DDPM schedule."""
    most = getattr(schedule, "num_train_timesteps", LEVELS)
    levels = [level for level in schedule.levels(min(LEVELS, most)) if level.sigma > 0]
    if isinstance(schedule, DDPMSchedule):
        known = {level.t for level in levels}
        levels += [schedule.level(t) for t in range(min(3, schedule.num_train_timesteps)) if t not in known]
    return levels


def training_faults(mixture: GaussianMixture, schedule: Schedule, kind: str) -> list[Cause]:
    """The faults of a training on a mixture that `diagnose` knows, for one schedule and prediction type."""
    right = Cause("none", "", mixture, kind)

    def scaled(factor: float, shift: float = 0.0) -> GaussianMixture:
        means, std = factor * mixture.means + shift, factor * mixture.std
        return GaussianMixture(means, std, mixture.weights, classes=mixture.classes)

    causes = [
        replace(right, name=f"predicts {other}", kind=other, cure=f"It predicts {other}, and {kind} is said.")
        for other in KINDS
        if other != kind and not (kind == "edm" or other == "edm")
    ]
    causes += [
        replace(right, name="wrong sign", sign=-1.0, cure="Its output has the wrong sign: look at the order of the "
                "difference in the target."),
        replace(right, name="another draw of noise", paired=False, cure="The noise in the target is another draw than "
                "the noise in x_t: draw eps once per step and use it in both places."),
        replace(right, name="range 0 to 1", data=scaled(0.5, 0.5), cure="The data had the range 0 to 1, not -1 to 1: "
                "map them with 2 x - 1."),
        replace(right, name="scale of the data", data=scaled(0.18215), cure="The data were multiplied by 0.18215, as "
                "latents of Stable Diffusion are, or not divided by it: use the factor in both directions."),
        replace(right, name="scale of the data, inverse", data=scaled(1 / 0.18215), cure="The data were divided by "
                "0.18215, as when the factor of latents is forgotten: multiply by it before the noise is added."),
        replace(right, name="variances for standard deviations", level=_squared, cure="x_t was alpha^2 x_0 + sigma^2 "
                "eps: take the square roots of alphas_cumprod and of 1 - alphas_cumprod."),
    ]  # fmt: skip
    causes += [
        replace(right, name=f"schedule {name}", level=_at_the_clock_of(schedule, other),
                cure=f"It was trained with the schedule “{name}”, and another one is said: sample with that schedule.")
        for name, other in _other_schedules(schedule).items()
    ]  # fmt: skip
    if isinstance(schedule, DDPMSchedule):
        last = schedule.num_train_timesteps - 1
        causes += [
            replace(right, name="off by one", cure="The noise of step t + 1 was added while the network was told t, "
                    "or the reverse: index alphas_cumprod from 0.",
                    level=lambda level: schedule.level(min(level.t + 1, last))),
            replace(right, name="off by one, the other way", cure="The noise of step t - 1 was added while the network "
                    "was told t, or the reverse: index alphas_cumprod from 0.",
                    level=lambda level: schedule.level(max(level.t - 1, 0))),
            replace(right, name="one step's noise", cure="x_t has the noise of one step, beta_t, in place of that of "
                    "all steps to t: multiply the alphas up (alphas_cumprod).", level=_of_one_step(schedule)),
            replace(right, name="time in another unit", cure="The network was told t / T in training and is told t "
                    "now: use one clock.", clock=lambda t: t / (last + 1)),
        ]  # fmt: skip
    else:
        causes.append(replace(right, name="time in another unit", cure="The network was told t from 0 to 1 in training "
                              "and is told 1000 t now: use one clock.", clock=lambda t: t / 1000))  # fmt: skip
    return causes


def _squared(level: Level) -> Level:
    return Level(level.t, level.alpha**2, level.sigma**2)


def _of_one_step(schedule: DDPMSchedule) -> Callable[[Level], Level]:
    def level_of(level: Level) -> Level:
        before = schedule.level(level.t - 1).alpha if level.t >= 1 else 1.0
        kept = (level.alpha / before) ** 2  # 1 - beta_t
        return Level(level.t, math.sqrt(kept), math.sqrt(1 - kept))

    return level_of


def _other_schedules(schedule: Schedule) -> dict[str, Schedule]:
    """The schedules that a network with the same clock could have been trained with, by name."""
    steps = getattr(schedule, "num_train_timesteps", 1000)
    made = {
        name: make() if name == "flow" else make(num_train_timesteps=steps)
        for name, make in SCHEDULES.items()
        if name != "edm" and not (name == "flow" and steps != 1000)
    }
    visits = [level.t for level in visited(schedule)]
    return {} if not isinstance(schedule, DDPMSchedule | FlowSchedule) else {
        name: other for name, other in made.items() if not _alike(schedule, other, visits)
    }  # fmt: skip


def _alike(schedule: Schedule, other: Schedule, times: list[float]) -> bool:
    """Whether two schedules have almost the same levels where the network is told the same time."""
    return all(
        math.isclose(schedule.level(t).alpha, _at_the_clock_of(schedule, other)(schedule.level(t)).alpha, abs_tol=0.02)
        for t in times
    )


def _at_the_clock_of(schedule: Schedule, other: Schedule) -> Callable[[Level], Level]:
    """The level of another schedule at the time that the network is told; flow matching counts to 1, DDPM to T."""
    per_step = getattr(schedule, "num_train_timesteps", 1) / getattr(other, "num_train_timesteps", 1)
    first, last = (0, other.num_train_timesteps - 1) if isinstance(other, DDPMSchedule) else (1e-3, 1)

    def level_of(level: Level) -> Level:
        there = other.level(min(max(level.t / per_step, first), last))
        return Level(level.t, there.alpha, there.sigma)

    return level_of


class _Asked:
    """The network, and the errors of its outputs."""

    def __init__(self, network: Network, num_classes: int | None, seed: int) -> None:
        self.network, self.num_classes, self.seed = network, num_classes, seed

    def output(self, x: Tensor, time: float, labels: Tensor | None) -> Tensor:
        """The network's output [B, 2] at one time (float64)."""
        times = torch.full((len(x),), time, dtype=torch.float32, device="cpu")
        with torch.no_grad():
            output = self.network(x, times, labels)
        if not isinstance(output, Tensor) or output.shape != x.shape or not bool(output.isfinite().all()):
            got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"The network must return finite points {list(x.shape)}; got {got} at t = {time:g}.")
        return to_float64(output)

    def null(self, n: int) -> Tensor | None:
        """The null label of n points, or None for a network without labels."""
        if self.num_classes is None:
            return None
        return torch.full((n,), self.num_classes, dtype=torch.int64, device="cpu")

    def error(self, cause: Cause, levels: list[Level], schedule: Schedule, labelled: bool = False) -> float:
        """E |output - output(cause)|^2 / E |target|^2, the mean over levels. With `labelled`, of each point's class."""
        draws, logs = stream(self.seed), 0.0
        for told in levels:
            level = cause.level(told)
            x_0, component = cause.data.sample(POINTS, draws)
            eps = randn(x_0.shape, draws)
            x_t = add_noise(x_0, eps, level)
            pred = ExactDenoiser(cause.data, labels=component if labelled else None)(x_t, level)
            best_eps = pred.eps if cause.paired else torch.zeros_like(pred.eps)
            best = cause.sign * target(cause.kind, pred.x_0, best_eps, level.alpha, level.sigma)
            time = cause.clock(schedule.time_at(told))
            scale = float(input_scale(cause.kind, level.alpha, level.sigma))
            output = self.output(scale * x_t, time, component if labelled else self.null(POINTS))
            off = (output - best).square().mean()
            share = off / target(cause.kind, x_0, eps, level.alpha, level.sigma).square().mean()
            logs += math.log(max(float(share), LEAST_ERROR))
        return math.exp(logs / len(levels))


def _same_at_all_times(ask: _Asked, levels: list[Level]) -> bool:
    x = randn((POINTS, 2), stream(ask.seed))
    first, last = (ask.output(x, level.t, ask.null(POINTS)) for level in (levels[0], levels[len(levels) // 2]))
    return torch.equal(first, last)


def _of_labels(
    ask: _Asked, right: Cause, levels: list[Level], schedule: Schedule, errors: dict[str, float], with_labels: float
) -> Diagnosis:
    """The faults of a network whose output without a label is right."""
    draws, mixture, count = stream(ask.seed), right.data, len(right.data.means)
    moved = wanted = 0.0
    shifted = {1: 0.0, -1: 0.0}  # how far a label moves the output towards the class after its own, and before
    for level in levels:
        x_0, _ = mixture.sample(POINTS, draws)
        x_t = add_noise(x_0, randn(x_0.shape, draws), level)
        labels = torch.randint(count, (POINTS,), generator=draws, device="cpu", dtype=torch.int64)
        scale, time = float(input_scale(right.kind, level.alpha, level.sigma)), schedule.time_at(level)

        def best(x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
            pred = ExactDenoiser(mixture, labels=labels)(x_t, level)
            return to_float64(target(right.kind, pred.x_0, pred.eps, level.alpha, level.sigma))

        uncond = best(x_t, level)
        due = best(x_t, level, labels) - uncond
        output = ask.output(scale * x_t, time, labels) - ask.output(scale * x_t, time, ask.null(POINTS))
        moved += float((output * due).sum())
        wanted += float(due.square().sum())
        for by in shifted:
            shifted[by] += float((output * (best(x_t, level, (labels + by) % count) - uncond)).sum())
    share = moved / wanted
    if max(shifted.values()) / wanted > max(0.5, share):
        by = max(shifted, key=lambda by: shifted[by])
        other = f"k {'+' if by > 0 else '-'} 1"
        text = f"Label k draws class {other}: the labels are counted from another number than in the data."
        return Diagnosis("labels shifted", text, errors, share)
    if share < NO_LABEL:
        text = "The output is the same for all labels: the network does not use them."
        return Diagnosis("label ignored", text, errors, share)
    if share > TWICE_LABEL:
        text = (
            f"A label moves the output {share:.1f} times as far as it should: a guidance scale is counted inside the "
            "network already."
        )
        return Diagnosis("guidance inside", text, errors, share)
    if with_labels > RARE_LABELS * errors["none"]:
        text = (
            f"With labels the error is {with_labels / errors['none']:.1f} times that without: most labels were dropped "
            "in training. Is the comparison with the dropout rate inverted?"
        )
        return Diagnosis("label dropout inverted", text, errors | {"with labels": with_labels}, share)
    text = f"No fault found; the error is {errors['none']:.4f} of the target's variance, and labels count {share:.0%}."
    return Diagnosis(None, text, errors, share)
