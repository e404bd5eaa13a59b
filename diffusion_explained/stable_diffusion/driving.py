"""Drive a pipeline of diffusers: its network and its own code around it, one evaluation at a time.

A pipeline of diffusers encodes the prompt, draws noise, and then repeats

    output = network(latents, t, ...)                      and the same without the prompt, for guidance
    latents = scheduler.step(guide(output), t, latents)

Here the pipeline runs with a scheduler of ours, whose `step` decides what the latents are next and takes the pipeline's
output, and with a `Tap` in the place of the network. So one call of the pipeline evaluates the denoiser once, at any
latents and any time, in this order:

    the network is not called                  `step` replaces the pipeline's noise by x_t
    the network is called                      `step` takes the output after guidance
    the tap repeats the side with the prompt   `step` takes what the pipeline makes of that side alone
    the tap repeats the other side             likewise, and the call ends

What the pipeline does to an output (a sign, a scale, half of the channels) is done by the pipeline itself, so nothing
of it is written here a second time. The pipeline that is driven is a shallow copy: the given pipeline is never changed.
No thread and no hook remains after a call.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_explained.devices import torch_defaults
from diffusion_explained.noise import stream

PROGRESS = {"disable": True}


class Reached(BaseException):
    """Ends a pipeline's call where all that was asked for is known; no `except Exception` on the way holds it up."""


class Outputs(NamedTuple):
    """A pipeline's output after guidance, for the prompt alone, and for the other side (None where guidance is off)."""

    guided: Tensor
    cond: Tensor
    uncond: Tensor | None


class Tap:
    """Stands in a pipeline for its network: calls it and keeps its outputs, repeats them, or returns zeros."""

    def __init__(self, network: Any, call: Callable[..., Any]) -> None:
        self.network, self.call = network, call
        self.mode, self.repeated = "zeros", 0
        self.made: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, *inputs: Any, **named: Any) -> tuple[Any]:
        """The network's output, in a tuple, as diffusers' networks return it with return_dict=False."""
        if self.mode == "zeros":
            first = inputs[0] if inputs else named["hidden_states"]
            return ([torch.zeros_like(x) for x in first] if isinstance(first, list) else torch.zeros_like(first),)
        if self.mode == "call":
            output = self.call(*inputs, **named)[0]
            # copies: a compiled network may write its next output into the same memory
            self.made.append([x.clone() for x in output] if isinstance(output, list) else output.clone())
            return (output,)
        self.repeated += 1
        return (self.made[self.repeated - 1],)

    def sides(self, count: int) -> list[Any]:
        """The network's outputs for `count` images, one per side of guidance, in the order in which they were made."""
        if len(self.made) == 1 and len(self.made[0]) == 2 * count:
            return [self.made[0][:count], self.made[0][count:]]
        return list(self.made)

    def repeat(self, side: Any) -> None:
        """Return one side from now on, wherever the network would be called for either."""
        both = len(self.made) == 1
        joined = [*side, *side] if isinstance(side, list) else torch.cat([side, side])
        self.mode, self.repeated = "repeat", 0
        self.made = [joined] if both else [side, side]


class Course:
    """What a scheduler of ours does at each call of a pipeline, and what it learns.

    times: the pipeline's timesteps; step: called as step(output, latents), returns the next latents.
    """

    def __init__(self, times: Sequence[float], step: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.times, self.step = times, step

    def begin(self, device: Any, own: Any, given: Mapping[str, Any]) -> Tensor:
        """The timesteps [n] of this call, made on the device: copying them to a GPU would wait for its queued work."""
        if len(set(self.times)) == 1:
            return torch.full((len(self.times),), self.times[0], dtype=torch.float32, device=device)
        return torch.tensor(self.times, dtype=torch.float32, device=device)


class Spacing(Course):
    """Reads the levels that the pipeline's own scheduler visits when the pipeline calls it, and ends the call."""

    def __init__(self) -> None:
        super().__init__((), lambda output, latents: latents)
        self.sigmas: list[float] = []
        self.timesteps: list[float] = []

    def begin(self, device: Any, own: Any, given: Mapping[str, Any]) -> Tensor:
        """Set the timesteps of the pipeline's own scheduler, keep its levels, and end the call."""
        own.set_timesteps(**{key: value for key, value in given.items() if value is not None}, device="cpu")
        self.sigmas, self.timesteps = own.sigmas.tolist(), own.timesteps.tolist()
        raise Reached


@cache
def _class_on_course(own: Any) -> type:
    """A subclass of a scheduler class of diffusers that follows a `Course`."""

    class OnCourse(own):
        """The scheduler class, with the calls that a pipeline makes answered by `course`."""

        init_noise_sigma = 1.0  # our levels have unit variance, or the flow's x_T = eps
        order = 1

        def set_timesteps(
            self,
            num_inference_steps: int | None = None,
            device: Any = None,
            timesteps: Any = None,
            sigmas: Any = None,
            mu: float | None = None,
        ) -> None:
            """Begin a call of the pipeline; the arguments are those of every scheduler class of diffusers together."""
            given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas, "mu": mu}
            self.timesteps = self.course.begin(device, self.own, given)
            self.num_inference_steps = len(self.timesteps)

        def set_begin_index(self, begin_index: int = 0) -> None:
            """Nothing: the course counts no steps."""

        def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
            """The latents: those of our samplers have the scale of the network's input."""
            return sample

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> tuple[Tensor]:
            """The next latents, in a tuple."""
            return (self.course.step(model_output, sample),)

    return OnCourse


def _on_course(own: Any, course: Course) -> Any:
    found = copy.copy(own)
    own_class: Any = type(own)
    found.__class__ = _class_on_course(own_class)
    vars(found).update(course=course, own=copy.deepcopy(own), init_noise_sigma=1.0)
    return found


@cache
def _class_at_device(own: Any) -> type:
    """A subclass of a pipeline class that knows its device: each call would search all of its modules for it.

    At the size of FLUX.1 that takes milliseconds, while a GPU waits.
    """

    class AtDevice(own):
        """The pipeline class, on the device `known_device`."""

        known_device: torch.device

        @property
        def _execution_device(self) -> torch.device:
            return self.known_device

    return AtDevice


@dataclass(frozen=True)
class Driver:
    """A pipeline of diffusers with the name of its network, and the arguments of each call besides those of a run.

    device: the one on which the pipeline computes; call: the function that runs the network, compiled or not.
    arguments: of every call; off: those that switch guidance off, for calls that do not call the network.
    kept: the encoded texts of the last prompt, so that each further call of the pipeline encodes nothing.
    """

    pipe: Any
    network: str
    device: torch.device
    call: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def takes(self, argument: str) -> bool:
        """Whether the pipeline's call has an argument of this name."""
        return argument in inspect.signature(self.pipe.__call__).parameters

    def default(self, argument: str) -> Any:
        """The default value of an argument of the pipeline's call."""
        return inspect.signature(self.pipe.__call__).parameters[argument].default

    @torch_defaults()
    @torch.no_grad()
    def run(self, course: Course, tap: Tap, texts: dict[str, Any] | None, **given: Any) -> Any:
        """Call the pipeline with a scheduler on this course; its result, or None where the course ended the call.

        texts: the encoded texts of earlier calls, by the arguments of encode_prompt; None: any text does, because the
        network is not called.
        """
        driven = copy.copy(self.pipe)
        own: Any = type(self.pipe)
        driven.__class__ = _class_at_device(own)
        vars(driven)[self.network] = tap
        vars(driven).update(
            known_device=self.device,
            scheduler=_on_course(self.pipe.scheduler, course),
            encode_prompt=lambda *inputs, **named: self._encoded(texts, inputs, named),
            maybe_free_model_hooks=lambda: None,  # they belong to the given pipeline
            _progress_bar_config=PROGRESS,
        )
        try:
            return driven(**{"num_inference_steps": 4, **self.arguments, **given})
        except Reached:
            return None

    def tap(self) -> Tap:
        """A tap of the pipeline's network, at first without calling it."""
        return Tap(getattr(self.pipe, self.network), self.call)

    def _quietly(self, course: Course, **given: Any) -> Any:
        """Call the pipeline for one image of any text, without calling its network."""
        noise = _unused_noise(self.device)
        return self.run(course, self.tap(), None, prompt="", generator=noise, **self.off, **given)

    def _encoded(self, texts: dict[str, Any] | None, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if texts is None and self.kept:
            return self.kept["any"]
        key = repr((inputs, sorted(named.items(), key=lambda item: item[0])))
        found = texts.get(key) if texts is not None else None
        if found is None:
            found = self.pipe.encode_prompt(*inputs, **named)
            if texts is not None:
                texts[key] = found
            self.kept["any"] = found
        return found

    # -- what is asked of a pipeline --------------------------------------------------------------------

    def encode(self, **given: Any) -> dict[str, Any]:
        """Encode the prompts of a call, without calling the network; the encoded texts."""
        texts: dict[str, Any] = {}
        self.run(Spacing(), self.tap(), texts, **given)
        return texts

    def levels(self, num_inference_steps: int, **given: Any) -> Spacing:
        """The noise levels, and the network's times, that the pipeline visits in so many steps."""
        spacing = Spacing()
        self._quietly(spacing, num_inference_steps=num_inference_steps, **given)
        return spacing

    def noise(self, **given: Any) -> Tensor:
        """The latents [1, ...] with which the pipeline begins, as it stores them."""
        found: list[Tensor] = []

        def take(output: Tensor, latents: Tensor) -> Tensor:
            found.append(latents)
            raise Reached

        self._quietly(Course((999.0,), take), **given)
        return found[0]

    def decode(self, latents: Tensor, **given: Any) -> Tensor:
        """The picture of final latents [1, ...], in [0, 1], by the pipeline's own decoding."""
        course = Course((0.0,), lambda output, at: latents.to(at))
        result = self._quietly(course, output_type="pt", **given)
        self.pipe.maybe_free_model_hooks()
        return result[0]

    def evaluate(self, x_t: Tensor, t: float, texts: dict[str, Any], *, cond_first: bool, **given: Any) -> Outputs:
        """The pipeline's outputs at latents x_t [B, ...] and the network's time t."""
        tap = self.tap()
        sides: list[Any] = []
        outputs: list[Tensor] = []

        def step(output: Tensor, latents: Tensor) -> Tensor:
            if tap.mode == "zeros":
                tap.mode = "call"
                return x_t.to(latents)
            outputs.append(output.to(torch.float32, copy=True))
            if tap.mode == "call":
                sides.extend(tap.sides(len(x_t)))
                if len(sides) == 2 and not cond_first:
                    sides.reverse()
            if len(outputs) > len(sides) or len(sides) == 1:
                raise Reached
            tap.repeat(sides[len(outputs) - 1])
            return latents

        noise = [_unused_noise(self.device) for _ in x_t]
        self.run(Course((t,) * 4, step), tap, texts, generator=noise, **given)
        if len(sides) == 1:
            return Outputs(outputs[0], outputs[0], None)
        return Outputs(*outputs)


def _unused_noise(device: torch.device) -> torch.Generator:
    """A stream of its own for noise that is not used, so that torch's global stream stays where it is.

    It is drawn on the device: there it takes a moment, and on the CPU several milliseconds per step.
    """
    return stream(0, device)
