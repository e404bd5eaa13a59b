"""Turn a network's raw output into a prediction of x_0 and eps: parameterization, guidance and clipping in one adapter.

A `Denoiser` is anything that maps (x_t, level) to a `Prediction`. A sampler uses nothing else, so the same sampler runs
with a network, with Stable Diffusion, and with the exact denoisers of `exact`, which are known in closed form.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from diffusion_explained.checks import check_kind_of, float_data, named_options, number, typed_arguments
from diffusion_explained.forward import like
from diffusion_explained.guidance import check_guidance, guide, rescale_guided
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.predictions import check_kind, coefficients, input_scale, to_x0_eps
from diffusion_explained.schedules import Level, Schedule


@dataclass(frozen=True)
class Prediction:
    """A denoiser's prediction at x_t; every tensor is [B, ...], and x_t = alpha * x_0 + sigma * eps holds.

    x_0 and eps are after guidance and clipping; eps_cond and eps_uncond are the conditional and the unconditional
    prediction before them. eps_uncond is None when guidance is off.
    """

    x_0: Tensor
    eps: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor | None = None


class Denoiser(Protocol):
    """Called as denoise(x_t, level) with x_t [B, ...]; returns a `Prediction`."""

    def __call__(self, x_t: Tensor, level: Level) -> Prediction: ...


Called = TypeVar("Called", bound=Callable[..., Prediction])


def differentiable(call: Called) -> Called:
    """Decorate a denoiser's `__call__`: its prediction has gradients if x_t [B, ...] requires them, otherwise none.

    So a divergence or a guidance by gradients can differentiate a prediction, and nothing else keeps a graph.
    """

    @functools.wraps(call)
    def called(self: Any, x_t: Any, level: Level) -> Prediction:
        wanted = isinstance(x_t, Tensor) and x_t.requires_grad
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            return call(self, x_t, level)

    return called  # type: ignore[return-value]  # the same call


class Network(Protocol):
    """The interface of a network that a `NetworkDenoiser` can use: called as network(x, t, cond) -> [B, ...].

    x [B, ...] is x_t times `predictions.input_scale`; t [B] (float32) is the time of `Schedule.network_time`; cond is
    one condition per image, labels [B] or embeddings [B, ...], or None for no condition. A condition that consists of
    several tensors, as that of Stable Diffusion XL does, is a tuple of them, each [B, ...]. The output has the shape of
    x, and its prediction type is one of `predictions.KINDS`. For training, a network must also be a
    `models.NetworkModule`.

    Guidance calls it with 2B images: x twice, with the conditions of both sides. A network with the attribute
    shares_sides = True gets x [B] and t [B] once, with the conditions of 2B, and returns [2B, ...].
    """

    def __call__(self, x: Tensor, t: Tensor, cond: Any, /) -> Tensor: ...


Condition = Tensor | tuple[Tensor, ...]  # one condition per image: each tensor is [B, ...]


def tensors_of(cond: Condition) -> tuple[Tensor, ...]:
    """The tensors of a condition, each [B, ...]."""
    return cond if isinstance(cond, tuple) else (cond,)


def both_sides(uncond: Condition, cond: Condition) -> Condition:
    """The condition of the batch of 2B that guidance needs, each tensor [2B, ...]: first uncond, then cond."""
    pairs = zip(tensors_of(uncond), tensors_of(cond), strict=True)
    both = tuple(torch.cat([without.expand_as(given), given]) for without, given in pairs)
    return both if isinstance(cond, tuple) else both[0]


@typed_arguments
def clip_x_0(pred: Prediction, x_t: Tensor, level: Level, clip: float) -> Prediction:
    """Clamp x_0 to [-clip, clip] and derive eps again, so that x_t = alpha * x_0 + sigma * eps still holds.

    If eps were not derived again, a sampler would combine the clipped x_0 with the noise of a different image.
    Raises ValueError for a clip that is no positive number, and for a clean level, which has no noise.
    """
    number("clip", clip, "a positive number", 0)
    if not isinstance(level.sigma, Tensor) and level.sigma == 0:
        raise ValueError("There is no noise to derive at sigma = 0: give a level with sigma above 0.")
    x_0 = pred.x_0.clamp(-clip, clip)
    eps = (x_t - like(level.alpha, x_t) * x_0) / like(level.sigma, x_t)
    return Prediction(x_0, eps, pred.eps_cond, pred.eps_uncond)


def copied(cond: Condition | None) -> Condition | None:
    """A copy of a condition, each tensor [B, ...], which the network may change in place."""
    if cond is None:
        return None
    copies = tuple(given.clone() for given in tensors_of(cond))
    return copies if isinstance(cond, tuple) else copies[0]


def check_callable(network: Any, arguments: Sequence[str]) -> None:
    """Raise ValueError unless a network can be called with so many arguments, which have these names in the message."""
    call = f"network({', '.join(arguments)})"
    if not callable(network) or isinstance(network, type):
        raise ValueError(f"network must be a network, called as {call}; got {shortened(network)}.")
    try:
        signature = inspect.signature(network.forward if isinstance(network, nn.Module) else network)
    except ValueError:  # a function without a signature, written in C
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ValueError(
            f"network must be called as {call}, where cond may be None; this one cannot be ({error}). Put a function "
            "with these arguments around it."
        ) from error


def network_output(network: Callable[..., Any], *inputs: Any) -> Tensor:
    """The output [B, ...] of a network for sampling: without dropout, and with BatchNorm's statistics of the training.

    A module in training mode is in evaluation mode for the call only. It may change its inputs in place (as
    nn.ReLU(inplace=True) does): give copies. Raises ValueError for an output that is not a dense tensor of floats.
    """
    with evaluation_mode(network):
        return check_output(network(*inputs))


def check_output(output: Any) -> Tensor:
    """Return a network's output [B, ...]; raises ValueError for anything but a dense tensor of floats."""
    if not isinstance(output, Tensor):
        hint = " Return its .sample." if hasattr(output, "sample") else ""
        raise ValueError(f"A network must return a tensor, of the shape of x; got a {type(output).__name__}.{hint}")
    return float_data("A network's output", output)


@contextmanager
def evaluation_mode(network: Any) -> Iterator[None]:
    """Put a module into evaluation mode within the block, then each of its parts back into training mode that was."""
    training = [part for part in network.modules() if part.training] if getattr(network, "training", False) else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class NetworkDenoiser:
    """A trained network as a `Denoiser`.

    Guidance is applied to the raw outputs, which are converted afterwards (at one level the conversion is linear, so
    the order matters only for rescaling). The conditional and the unconditional pass run as one batch of 2B; with
    guidance off there is one pass of B.

    Args:
        network: a `Network`, called as network(x, t [B], cond or None) -> [B, ...], in evaluation mode
            (`network_output`).
        schedule: the schedule whose levels the denoiser is called at; it also gives the network's time input.
        kind: the network's prediction type, one of `predictions.KINDS`.
        cond: the condition, one per image: labels [B], embeddings [B, ...], or a tuple of such tensors; None is passed
            on to the network.
        uncond: the condition that stands for "no condition": the null label, another class (a negative prompt), or the
            embedding of empty text.
        guidance_scale: w of `guide`; 1 is off.
        guidance_interval: guide only where low <= sigma/alpha <= high (Kynkaanniemi et al. 2024); elsewhere w = 1.
        guidance_rescale: phi of `rescale_guided`.
        clip: clamp x_0 to [-clip, clip] and derive eps again; None is off. 1 suits images in pixel space.

    Raises ValueError for no network or schedule, for a network with other arguments, for an unknown kind, for a
    guidance_scale other than 1 without both conditions, for conditions whose shapes differ, and for settings out of
    range.
    """

    @named_options
    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        kind: str,
        *,
        cond: Condition | None = None,
        uncond: Condition | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        guidance_rescale: float = 0.0,
        clip: float | None = None,
    ) -> None:
        check_callable(network, ("x", "t", "cond"))
        check_kind_of("schedule", schedule, Schedule)
        check_kind(kind)
        cond, uncond = (tuple(one) if isinstance(one, list) else one for one in (cond, uncond))
        check_kind_of("cond", cond, Condition | None)
        check_kind_of("uncond", uncond, Condition | None)
        check_guidance(guidance_scale, guidance_interval, guidance_rescale)
        if guidance_scale != 1 and (cond is None or uncond is None):
            raise ValueError(
                f"guidance_scale={guidance_scale} needs a condition to move towards and one to move away from; "
                "give cond and uncond (labels and the null label), or leave guidance_scale at 1."
            )
        if cond is not None and uncond is not None:
            _check_both(cond, uncond)
        if clip is not None and number("clip", clip, "a positive number, or None for none") <= 0:
            raise ValueError(f"clip must be a positive number, or None for none; got {clip}.")
        self.network, self.schedule, self.kind = network, schedule, kind
        self.cond, self.uncond = cond, uncond
        self.guidance_scale, self.guidance_interval = float(guidance_scale), guidance_interval
        self.guidance_rescale, self.clip = float(guidance_rescale), clip

    @differentiable
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The prediction at x_t [B, ...] and its level.

        With guidance off, level may hold three vectors [B], one level per image. x_t may have any floating-point dtype,
        and the prediction has the same dtype; the network's input is converted to the network's dtype.
        NaN in x_t, or from the network, carries over to the prediction: a sampler refuses it after the step.
        Raises ValueError for a shape, a dtype or a device that does not fit.
        """
        float_data("x_t", x_t)
        if not isinstance(level, Level):
            raise ValueError(
                f"level must be a Level, as a schedule gives them (schedule.level(t)); got {shortened(level)}."
            )
        image_shape = getattr(self.network, "image_shape", None)
        if image_shape is not None and tuple(x_t.shape[1:]) != tuple(image_shape):
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}, but this network takes [B, *{tuple(image_shape)}].")
        for given in () if self.cond is None else tensors_of(self.cond):
            if len(given) != len(x_t):
                raise ValueError(
                    f"x_t holds {len(x_t)} images but there are {len(given)} conditions: give one per image."
                )
        weight = next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        if weight is not None and weight.device != x_t.device:
            raise ValueError(
                f"x_t is on {x_t.device} and the network on {weight.device}: move one of them with .to(device)."
            )
        if isinstance(level.t, Tensor):
            if self.guidance_scale != 1:
                raise ValueError("One level per image needs a denoiser without guidance: give guidance_scale=1.")
            time = self.schedule.network_time(level.t).to(x_t.device)
        else:
            # created on the device: copying a number to a GPU would wait for all work queued there before
            time = torch.full((), self.schedule.time_at(level), device=x_t.device, dtype=torch.float32)
        scaled = x_t * like(input_scale(self.kind, level.alpha, level.sigma), x_t) if self.kind == "edm" else x_t

        def call(x: Tensor, cond: Any) -> Tensor:
            dtype = x.dtype if weight is None else weight.dtype
            return network_output(self.network, x.to(dtype, copy=True), time.expand(len(x)).clone(), cond).to(x.dtype)

        def pair(output: Tensor) -> tuple[Tensor, Tensor]:
            return to_x0_eps(self.kind, output, x_t, level.alpha, level.sigma)

        if self.cond is None or self.uncond is None or not self.guides_at(level):
            x_0, eps = pair(call(scaled, copied(self.cond)))
            pred = Prediction(x_0, eps, eps_cond=eps)
        else:
            shared = getattr(self.network, "shares_sides", False)
            both = call(scaled if shared else torch.cat([scaled, scaled]), both_sides(self.uncond, self.cond))
            uncond, cond = both.chunk(2)
            guided = guide(cond, uncond, self.guidance_scale)
            if self.guidance_rescale > 0:
                guided = rescale_guided(guided, cond, self.guidance_rescale)
            x_0, eps = pair(guided)
            pred = Prediction(x_0, eps, eps_cond=pair(cond)[1], eps_uncond=pair(uncond)[1])
        return pred if self.clip is None else clip_x_0(pred, x_t, level, self.clip)

    def guides_at(self, level: Level) -> bool:
        """Whether guidance is on at this level."""
        if self.guidance_scale == 1:
            return False
        if self.guidance_interval is None:
            return True
        low, high = self.guidance_interval
        return low * level.alpha <= level.sigma <= high * level.alpha or (level.alpha == 0 and high == math.inf)


GUIDED = ("x_0", "eps", "flow", "v")  # what a rule may be applied to: a pair (x_0, eps) follows from it at any level


class GuidedDenoiser:
    """Two denoisers combined by a rule of guidance, as one `Denoiser`.

        output = rule(output of strong, output of weak),   both of the prediction type `kind` at x_t

    With `guidance.guide`, a conditional denoiser and an unconditional one, this is classifier-free guidance; with a
    good network and a weaker one it is autoguidance (Karras et al. 2024).

    Args:
        strong, weak: denoisers, each called as denoise(x_t, level).
        rule: called as rule(strong, weak) with two tensors [B, ...]; returns the combined one.
        kind: what the rule combines, one of `GUIDED`; linear rules give the same for all of them.

    Raises ValueError for what is no denoiser or rule, and for another kind.
    """

    def __init__(
        self, strong: Denoiser, weak: Denoiser, rule: Callable[[Tensor, Tensor], Tensor], kind: str = "x_0"
    ) -> None:
        for name, given in (("strong", strong), ("weak", weak), ("rule", rule)):
            if not callable(given):
                raise ValueError(f"{name} must be a function of two arguments; got {shortened(given)}.")
        if kind not in GUIDED:
            raise unknown_name("kind of guided prediction", kind, GUIDED)
        self.strong, self.weak, self.rule, self.kind = strong, weak, rule, kind

    @differentiable
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The combined prediction at x_t [B, ...]; eps_cond is that of strong, eps_uncond that of weak.

        At pure noise (alpha = 0) eps determines nothing, and x_0 is combined instead; in clean data nothing is left to
        denoise. Raises ValueError at a clean level, and for a rule that returns another shape.
        """
        if level.sigma == 0:
            raise ValueError("There is nothing to denoise at sigma = 0: give a level with sigma above 0.")
        kind = "x_0" if level.alpha == 0 and self.kind == "eps" else self.kind
        strong, weak = self.strong(x_t, level), self.weak(x_t, level)
        a, b = coefficients(kind, level.alpha, level.sigma)
        output = self.rule(a * strong.x_0 + b * strong.eps, a * weak.x_0 + b * weak.eps)
        x_0, eps = to_x0_eps(kind, output, x_t, level.alpha, level.sigma)
        return Prediction(x_0, eps, eps_cond=strong.eps, eps_uncond=weak.eps)


class GradientGuidedDenoiser:
    """A denoiser guided by the gradient of a log probability: of a class, or of a measurement.

        eps - scale * sigma * grad_x log p(y | x_t)          (classifier guidance: Dhariwal & Nichol 2021, Algorithm 2)

    since the score of p(x_t | y) is that of p(x_t) plus this gradient (Bayes' rule), and score = -eps / sigma.

    Args:
        denoise: called as denoise(x_t, level), differentiable in x_t if log_p uses its prediction.
        log_p: called as log_p(x_t, pred, level); returns log p(y | x_t) [B]. A classifier of noisy images uses x_t; one
            of clean images, or a measurement, can use pred.x_0 instead (diffusion posterior sampling: Chung et al.
            2023, Eq. 11), which is an approximation.
        scale: 1 is Bayes' rule, 0 is off.

    Raises ValueError for what is no denoiser or function, and for a scale that is no number.
    """

    def __init__(
        self, denoise: Denoiser, log_p: Callable[[Tensor, Prediction, Level], Tensor], scale: float = 1.0
    ) -> None:
        for name, given in (("denoise", denoise), ("log_p", log_p)):
            if not callable(given):
                raise ValueError(f"{name} must be a function; got {shortened(given)}.")
        self.denoise, self.log_p = denoise, log_p
        self.scale = number("scale", scale, "a finite number, 0 or more (1 is Bayes' rule)", 0)

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The guided prediction at x_t [B, ...]; eps_uncond is the prediction without guidance.

        At pure noise (alpha = 0) x_t says nothing about y, so there is no gradient. Raises ValueError for a log_p that
        returns anything but [B] numbers that depend on x_t.
        """
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            pred = self.denoise(x, level)
            log_p = self.log_p(x, pred, level)
            if not isinstance(log_p, Tensor) or log_p.shape != (len(x_t),) or not log_p.requires_grad:
                raise ValueError(f"log_p must return one number per image, [{len(x_t)}], that depends on x_t.")
            (gradient,) = torch.autograd.grad(log_p.sum(), x)
        x_0, eps = pred.x_0.detach(), pred.eps.detach()
        if level.alpha == 0:
            return Prediction(x_0, eps, eps_cond=eps, eps_uncond=eps)
        push = self.scale * level.sigma * gradient
        guided = eps - push
        return Prediction(x_0 + level.sigma / level.alpha * push, guided, eps_cond=guided, eps_uncond=eps)


class JumpDenoiser:
    """A network of two times (`training.shortcut`) as a `Denoiser` for one list of levels.

    At each level the network is also given the next level, and predicts the mean velocity on the way there. The sampler
    `euler` with the same levels takes exactly these steps.

    Args:
        network: called as network(x [B, ...], t [B, 2]), the times at which the step starts and ends; its prediction
            type is "flow".
        schedule: a flow schedule, which gives the network's time input.
        levels: decreasing in noise, those that the sampler visits.

    Raises ValueError, when called, for a level that is not in the list or is the last of it.
    """

    @named_options
    def __init__(
        self, network: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, levels: Sequence[Level]
    ) -> None:
        check_callable(network, ("x", "t"))
        self.network, self.schedule, self.ends = network, schedule, dict(pairwise(levels))

    @differentiable
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The prediction at x_t [B, ...] whose straight line leads to the next level."""
        if level not in self.ends:
            raise ValueError(f"No step starts at level t={level.t:g}: give the levels that the sampler visits.")
        times = [self.schedule.time_at(level), self.schedule.time_at(self.ends[level])]
        t = torch.tensor(times, device=x_t.device, dtype=torch.float32).expand(len(x_t), 2)
        output = network_output(self.network, x_t.clone(), t.clone())
        x_0, eps = to_x0_eps("flow", output, x_t, level.alpha, level.sigma)
        return Prediction(x_0, eps, eps_cond=eps)


def _check_both(cond: Condition, uncond: Condition) -> None:
    """ValueError unless the condition and its absence have the same shape, except that one may stand for all images."""
    given, without = tensors_of(cond), tensors_of(uncond)
    if len(given) != len(without):
        raise ValueError(f"cond consists of {len(given)} tensors and uncond of {len(without)}: give as many of each.")
    for c, u in zip(given, without, strict=True):
        if c.shape[1:] != u.shape[1:] or len(u) not in (1, len(c)):
            raise ValueError(
                f"uncond {list(u.shape)} must be as cond {list(c.shape)}: one per image, or one for all images."
            )
