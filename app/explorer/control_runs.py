"""The runs of the page Control: one without control and one with it, from the same noise."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.film import Film
from diffusion_explained.samplers import Step
from explorer import stable
from explorer.cache import named_cache
from explorer.control_kinds import Given
from explorer.stable import Loaded
from explorer.turns import HEAVY, Tell, held

NETWORK = "micro"  # the name of the ControlNet that ships


@dataclass(frozen=True)
class BothRuns:
    """The settings of two runs, one of them with something more that acts at this scale."""

    prompt: str
    scale: float
    num_inference_steps: int
    guidance_scale: float
    seed: int

    def options(self) -> dict[str, Any]:
        """The options of `StableDiffusion.steps` that both runs share."""
        names = ("num_inference_steps", "guidance_scale", "seed")
        return {name: getattr(self, name) for name in names}

    def printed(self) -> str:
        """These options as lines of a program."""
        return "".join(f"    {key}={value!r},\n" for key, value in self.options().items())


@dataclass(frozen=True)
class Ask(BothRuns):
    """With a control picture: interval is the share of the steps with control."""

    interval: tuple[float, float] = (0.0, 1.0)

    def control_options(self) -> dict[str, Any]:
        """Those of the run with control, without the picture."""
        return {"control_scale": self.scale, "control_interval": self.interval}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Both pictures, [1, 3, H, W] each, and the film of their steps and of what the second run did."""

    plain: Tensor
    controlled: Tensor
    film: Film
    label: str
    model: str


def _with_control(name: str, here: Loaded) -> Any:
    """The model with the ControlNet, loaded once for each loading of the model."""
    from diffusion_explained.stable_diffusion import load_control

    return named_cache("controlled models", 1).get((name, id(here)), lambda _: load_control(here.model, NETWORK))


def draw_both(
    here: Loaded,
    model: Any,
    ask: BothRuns,
    second: Callable[[Any, Any], Iterator[Step]],
    record: Callable[[Any], AbstractContextManager[Any]],
    show: Callable[..., Film],
    tell: Tell,
) -> Drawn:
    """Draw both pictures: by the prompt alone, and as the second run does.

    model: that of `here`, with what the second run asks for; record: keeps what happens in it at each step, as
    `record_residuals`; second: its steps, from the encoded prompt and from what records; show: the film of both, as
    `control_film`.
    Raises the engine's ValueErrors and OSErrors.
    """
    from diffusion_explained.stable_diffusion.image_films import decoded

    count, plain, controlled = 2 * ask.num_inference_steps, [], []
    with held(here.turn, tell, stable.BUSY), HEAVY.turn(tell) as turn:

        def keep(steps: list[Step], step: Step) -> None:
            steps.append(step)
            done = len(plain) + len(controlled)
            turn(done / count, f"step {done} of {count}, both runs")

        text = model.encode_text(ask.prompt)
        for step in model.steps(text, **ask.options()):
            keep(plain, step)
        with record(model) as added:
            for step in second(text, added):
                added.after(step)
                keep(controlled, step)
        pictures = [
            torch.cat([decoded(model, steps, 0), model.decode(steps[-1].x_next).cpu()]) for steps in (plain, controlled)
        ]
        film = show(*pictures, controlled, added)
    return Drawn(pictures[0][-1:], pictures[1][-1:], film, model.label, model.name)


def with_options(model: Any, ask: BothRuns, more: dict[str, Any]) -> Callable[[Any, Any], Iterator[Step]]:
    """A second run that differs from the first by these options of `model.steps`."""
    return lambda text, _: model.steps(text, **ask.options(), **more)


def draw(name: str, ask: Ask, given: Given, tell: Tell) -> Drawn:
    """Draw without control and with it. Raises the engine's ValueErrors and OSErrors."""

    def make(tell: Tell) -> Drawn:
        from diffusion_explained.stable_diffusion.control_residuals import control_film, record_residuals

        here = stable.load(stable.models(), name, tell)
        model, more = _with_control(name, here), ask.control_options() | {"control": given.picture}
        second = with_options(model, ask, more)
        return draw_both(here, model, ask, second, record_residuals, control_film, tell)

    return named_cache("controlled").get((name, ask, given.key), make, tell)


def program(name: str, ask: Ask, given: Given) -> str:
    """Both runs in Python: plain and steps, their pictures, and what the ControlNet added."""
    more = "".join(f"\n    {key}={value!r}," for key, value in ask.control_options().items())
    return f"""{given.program}

from diffusion_explained.stable_diffusion import load, load_control
from diffusion_explained.stable_diffusion.control_residuals import record_residuals

model = load_control(load({name!r}), {NETWORK!r})
settings = dict(
{ask.printed()})
plain = list(model.steps({ask.prompt!r}, **settings))
steps = []
with record_residuals(model) as residuals:
    for step in model.steps(
        {ask.prompt!r},
        control=control,{more.replace(chr(10) + "    ", chr(10) + "        ")}
        **settings,
    ):
        residuals.after(step)
        steps.append(step)
pictures = [model.decode(run[-1].x_next) for run in (plain, steps)]
shares = residuals.shares()  # [steps, places]: what is added, relative to what was there"""
