"""A run of a small model of ours beside one of Stable Diffusion: one film of both, and what each costs."""

import math
from dataclasses import dataclass, replace

from diffusion_explained.film import Film
from diffusion_explained.stable_diffusion import Trace
from diffusion_explained.stable_diffusion.trace_films import short_name, side_by_side
from explorer import page, stable
from explorer.cache import Cache, named_cache
from explorer.choices import words_of
from explorer.runs import Settings, denoiser, model, steps_of, timed
from explorer.turns import HEAVY, Tell


@dataclass(frozen=True)
class Compared:
    """Two runs at the same steps: their film, the rows of their table, and the settings that made them (`asked`)."""

    film: Film
    rows: tuple[tuple[str, str, str], ...]
    trace: Trace
    asked: tuple[object, ...]

    @property
    def head(self) -> tuple[str, str, str]:
        """The head of the table."""
        return "compared", "ours", short_name(self.trace)


def compare_live(kept: Cache, name: str, ask: stable.Ask, settings: Settings, tell: Tell) -> Compared:
    """Run both models here, Stable Diffusion first."""
    start = stable.RunStart()
    trace = stable.draw(kept, name, ask, start, tell).trace
    return compare(trace, settings, stable.asked(name, ask, start), tell)


def compare(trace: Trace, settings: Settings, asked: tuple[object, ...], tell: Tell) -> Compared:
    """Run our model here, with the sampler and steps of the trace."""
    with HEAVY.turn(tell) as turn:
        counted, steps = denoiser(settings), []
        for step in steps_of(settings, counted):
            steps.append(step)
            turn(1.0, f"step {step.i + 1} of {settings.num_inference_steps} of ours")
    seconds = timed(settings, tell).seconds * counted.evaluations / len(steps)
    film = side_by_side(steps, trace, title(settings.model))
    return Compared(film, table(settings.model, seconds, trace), trace, (*asked, settings))


def first_comparison(settings: Settings, tell: Tell) -> Compared:
    """Run our model here beside the run of micro that ships with the explorer: what is shown before any other run."""
    trace = stable.first_run().trace
    said = trace.settings
    held = replace(settings, sampler=said["sampler"], num_inference_steps=said["num_inference_steps"], spacing=None)
    return named_cache("first compared").get(held, lambda tell: compare(trace, held, (), tell), tell)


def title(name: str) -> str:
    """A short title of one of our networks."""
    return f"{'MNIST' if name.startswith('mnist') else 'CIFAR-10'} {words_of(name).split(' · ')[0]}"


def _positions(trace: Trace) -> int:
    """The number of positions of a trace's text; where its pipeline shows no tokens, by the shape of its encoding."""
    tokens = trace.tokens[0]
    return len(tokens[0]["ids"]) if tokens else trace.settings["text_shape"][0]


def table(name: str, seconds: float, trace: Trace) -> tuple[tuple[str, str, str], ...]:
    """What both models work on, and what it costs: rows of (quantity, ours, the trace's)."""
    ours, said = model(name), trace.settings
    ours_parameters = sum(p.numel() for p in ours.network.parameters())
    channels, side, _ = ours.image_shape
    depth, height, width = said["latent_shape"]
    picture, latent = 3 * said["height"] * said["width"], depth * height * width
    own = f"{side} × {side} × {channels} = {math.prod(ours.image_shape):,} values"
    largest_first = sorted(said["parameters"].items(), key=lambda part: -part[1])
    parts = ", ".join(f"{part.replace('_', ' ')} {count / 1e6:,.3g} M" for part, count in largest_first)
    per_step, taken = said["seconds"], said["num_inference_steps"]
    when = " when it was recorded" if trace.label == "recorded" else ""
    return (
        ("the picture", own, f"{said['height']} × {said['width']} × 3 = {picture:,} values"),
        (
            "what each step works on",
            f"the same {math.prod(ours.image_shape):,}",
            f"{height} × {width} × {depth} = {latent:,} values, {picture / latent:.0f} times fewer",
        ),
        ("the condition", f"one of {ours.num_classes} classes", f"{_positions(trace)} tokens of text"),
        ("parameters", f"{ours_parameters / 1e6:,.3g} M", parts),
        (
            "one step",
            f"{page.duration(seconds)} on {ours.device}",
            f"{page.duration(per_step['steps'] / taken)} on {said['device']}{when}",
        ),
        ("from latent to picture", "nothing to do", page.duration(per_step["decode"])),
    )
