"""The films of the page The plane, one function per view, with a sentence about each and its program."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from diffusion_explained.exact import tilted
from diffusion_explained.metrics import sliced_wasserstein
from diffusion_explained.noise import randn, stream
from diffusion_explained.plots.point_films import PlaneFilm
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Step
from diffusion_explained.training.reflow import straightness
from explorer import names
from explorer import plane_programs as programs
from explorer.cache import named_cache
from explorer.plane import (
    Movement,
    exact_panel,
    film_of_panels,
    independent_pairs,
    learned_panel,
    pairs_panel,
)
from explorer.plane_training import (
    TRANSPORT,
    Lesson,
    finished,
    independent,
    rectified_pairs,
    transport_pairs,
    untrained,
)
from explorer.turns import LIGHT, Tell, Turn

SMOOTH = "euler"  # the solver of the ordinary differential equation beside a random sampler
FRESH = 7  # the seed of the data that samples are compared with


@dataclass(frozen=True)
class Shown:
    """A film, and a sentence with its numbers."""

    film: PlaneFilm
    words: str


def of_view(view: str, movement: Movement, tell: Tell) -> Shown:
    """The film of a view that needs no trained network."""
    makers: dict[str, Callable[[Movement, Turn], Shown]] = {
        "flow": _flow,
        "paths": _paths,
        "random": _random,
        "guidance": _guidance,
    }

    def make(tell: Tell) -> Shown:
        with LIGHT.turn(tell) as turn:
            return makers[view](movement, turn)

    return named_cache("planes", 60, 160).get((view, movement), make, tell)


def of_lesson(view: str, movement: Movement, lesson: Lesson, network: tuple[Model | None, int], tell: Tell) -> Shown:
    """The film of a view with a network, which has learned for so many steps."""
    model, step = network

    def make(tell: Tell) -> Shown:
        with LIGHT.turn(tell) as turn:
            return _learned(view, movement, lesson, model or untrained(lesson), step, turn)

    return named_cache("planes", 60, 160).get((view, movement, lesson, step), make, tell)


def _flow(movement: Movement, turn: Turn) -> Shown:
    panel, steps = exact_panel(movement, f"exact denoiser, {names.SAMPLERS[movement.sampler]}", turn)
    return Shown(film_of_panels(movement, [panel], steps), _facts(movement, steps))


def _paths(movement: Movement, turn: Turn) -> Shown:
    panel, steps = exact_panel(movement, "the flow: their mean", turn)
    pairs = pairs_panel(movement, "pairs, as training draws them", independent_pairs(movement), steps)
    return Shown(film_of_panels(movement, [pairs, panel], steps), _straight(movement, steps))


def _random(movement: Movement, turn: Turn) -> Shown:
    random, steps = exact_panel(movement, f"random: {names.SAMPLERS[movement.sampler]}", turn)
    smooth, smooth_steps = exact_panel(
        replace(movement, sampler=SMOOTH), f"smooth: {names.SAMPLERS[SMOOTH]}, the ODE", turn
    )
    words = (
        f"{movement.points:,} points, {movement.steps} steps each. Distance to fresh data: random "
        f"{_distance(movement, steps):.3f}, smooth {_distance(movement, smooth_steps):.3f}; between the two "
        f"{sliced_wasserstein(steps[-1].x_next, smooth_steps[-1].x_next):.3f} (sliced Wasserstein distance)."
    )
    return Shown(film_of_panels(movement, [random, smooth], steps), words)


def _guidance(movement: Movement, turn: Turn) -> Shown:
    target = tilted(movement.data.mixture, movement.label, movement.guidance_scale)
    guided, steps = exact_panel(movement, f"guided sampling, w = {movement.guidance_scale:g}", turn, target)
    x_0, _ = target.sample(movement.points, stream(FRESH))
    eps = randn(x_0.shape, stream(movement.seed))
    true = pairs_panel(movement, "the tilted density", (x_0, eps), steps, target)
    away = sliced_wasserstein(steps[-1].x_next, x_0)
    words = (
        f"{movement.points:,} points of class {movement.label}. The guided points end {away:.3f} away from the tilted "
        f"density (sliced Wasserstein distance); two draws of it are "
        f"{sliced_wasserstein(target.sample(movement.points, stream(FRESH + 1))[0], x_0):.3f} apart."
    )
    return Shown(film_of_panels(movement, [true, guided], steps), words)


def _learned(view: str, movement: Movement, lesson: Lesson, model: Model, step: int, turn: Turn) -> Shown:
    title = f"network after {step:,} steps" if step else "untrained network"
    panel, steps = learned_panel(movement, model, title, turn)
    if view == "learned":
        exact, exact_steps = exact_panel(movement, "exact denoiser", turn)
        words = f"{_facts(movement, steps)} The exact denoiser's points: {_distance(movement, exact_steps):.3f}."
        return Shown(film_of_panels(movement, [exact, panel], steps), words)
    pairs = _pairs(lesson)
    name = "pairs by optimal transport" if lesson.pairs == TRANSPORT else "pairs of the first flow"
    if pairs is None:
        left, pairs = "pairs, before the first flow", independent_pairs(movement)
    else:
        left, pairs = name, (pairs[0][: movement.points], pairs[1][: movement.points])
    shown = pairs_panel(movement, left, pairs, steps)
    return Shown(film_of_panels(movement, [shown, panel], steps), _straight(movement, steps))


def _pairs(lesson: Lesson) -> tuple[Tensor, Tensor] | None:
    """The pairs that the lesson is trained on; None before the first flow of a rectification is trained."""
    if lesson.pairs == TRANSPORT:
        return transport_pairs(lesson)
    teacher = finished(independent(lesson))
    return None if teacher is None else rectified_pairs(lesson, teacher)


def _fresh(movement: Movement, draw: int = 0) -> Tensor:
    """A draw of the data, as many points as move."""
    return movement.data.mixture.sample(movement.points, stream(FRESH + draw))[0]


def _distance(movement: Movement, steps: list[Step]) -> float:
    return sliced_wasserstein(steps[-1].x_next, _fresh(movement))


def _facts(movement: Movement, steps: list[Step]) -> str:
    apart = sliced_wasserstein(_fresh(movement, 1), _fresh(movement))
    return (
        f"{movement.points:,} points in {movement.steps} step{'' if movement.steps == 1 else 's'}. They end "
        f"{_distance(movement, steps):.3f} away from fresh data (sliced Wasserstein distance); two draws of the data "
        f"are {apart:.3f} apart."
    )


def _straight(movement: Movement, steps: list[Step]) -> str:
    if movement.schedule != "flow" or movement.sampler != "euler":
        return f"{_facts(movement, steps)} With Euler and flow matching, the page also measures how straight paths are."
    return (
        f"{_facts(movement, steps)} Straightness S = {straightness(steps):.3f}: 0 is straight lines at constant speed."
    )


def program(view: str, movement: Movement, lesson: Lesson | None) -> str:
    """The program of a view: the final points x_0 of the run, and its pairs."""
    parts = [programs.data(movement.data)]
    if lesson is not None:
        parts.append(programs.training(lesson))
    parts += [programs.start(movement)]
    if lesson is not None:
        parts.append(programs.sampling(movement, programs.learned(movement)))
    else:
        parts.append(programs.sampling(movement, programs.exact(movement)))
    if view == "learned":
        parts.append(
            f"generator = stream({movement.seed})\nrandn(x_T.shape, generator)\n"
            + programs.sampling(movement, programs.exact(movement), "exact_steps")
        )
    elif view == "paths":
        parts.append(programs.pairs(movement, lesson or Lesson(movement.data)))
    elif view == "random":
        parts.append(programs.sampling(replace(movement, sampler=SMOOTH), "", "smooth_steps"))
    elif view == "guidance":
        parts.append(
            f"target = tilted(mixture, {movement.label}, {movement.guidance_scale})\n"
            f"x_data, _ = target.sample({movement.points}, stream({FRESH}))\n"
            f"eps = randn(x_data.shape, stream({movement.seed}))\n"
            "x_t = torch.stack([add_noise(x_data, eps, level) for level in levels])"
        )
    return programs.with_imports(*parts)
