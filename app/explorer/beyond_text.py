"""What the page Beyond images computes of texts: written from nothing, filled in, or lost letter by letter."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from diffusion_explained.beyond.part_films import PartFilm, letters_part
from diffusion_explained.discrete import CLEAN, Level, TextModel, draw, load_text
from diffusion_explained.noise import generators
from explorer.cache import named_cache
from explorer.runs import loaded
from explorer.turns import HEAVY, Tell, Turn

NOISE_LEVELS = 20
SECONDS_PER_STEP = 0.02  # on two quiet cores


@dataclass(frozen=True)
class TextAsk:
    """All settings that determine what is shown of a text.

    task: "draw", "fill" or "noise"; chain: "masked" or "uniform".
    text: what is known of the text, or the text to lose; empty for "draw".
    """

    task: str
    chain: str
    text: str
    seed: int
    num_inference_steps: int = NOISE_LEVELS
    sampler: str = "ancestral"

    @property
    def model(self) -> str:
        """The name of the text model."""
        return f"text_{self.chain}"

    @property
    def seconds(self) -> float:
        """About how long it takes on two quiet cores."""
        return self.num_inference_steps * SECONDS_PER_STEP


@dataclass(frozen=True)
class Written:
    """What is shown: the film, the texts in its order, [1, N] each, and the last of them as a string."""

    film: PartFilm
    states: tuple[Tensor, ...]
    text: str


def model(name: str) -> TextModel:
    """A trained text model, one for all sessions; callers only read it."""
    return loaded(f"The network {name}", name, load_text)


def written(ask: TextAsk, tell: Tell) -> Written:
    """The film of these settings. Raises ValueError for a text that the model cannot read."""

    def make(tell: Tell) -> Written:
        of = model(ask.model)
        with HEAVY.turn(tell) as turn:
            return _lost(of, ask, turn) if ask.task == "noise" else _drawn(of, ask, turn)

    return named_cache("texts").get(ask, make, tell)


def _drawn(of: TextModel, ask: TextAsk, turn: Turn) -> Written:
    steps, count = [], ask.num_inference_steps
    for step in of.steps(ask.text, count, seed=ask.seed, sampler=ask.sampler):
        steps.append(step)
        turn((step.i + 1) / count, f"step {step.i + 1} of {count}")
    states = (*(step.x_t for step in steps), steps[-1].x_next)
    predictions = [*(step.p_0 for step in steps), steps[-1].p_0]
    levels = [*(step.level for step in steps), steps[-1].next_level]
    places = [*(f"step {k} of {count}" for k in range(1, count + 1)), f"after {count} step{'' if count == 1 else 's'}"]
    given = (states[0] != of.chain.kinds)[0] if of.chain.masked else None
    return _film(of, ask, states, predictions, levels, places, ("noise", "data"), given)


def _lost(of: TextModel, ask: TextAsk, turn: Turn) -> Written:
    if not ask.text:
        raise ValueError("There is no letter to lose: type a text.")
    if "_" in ask.text:
        raise ValueError("A text that is to be lost has no blanks: leave out the _.")
    levels, streams = [CLEAN, *reversed(of.chain.levels(NOISE_LEVELS)[:-1])], generators(1, ask.seed)
    states = [of.alphabet.encode(ask.text)[None]]
    for level, noisier in pairwise(levels):
        states.append(draw(of.chain.transition(level, noisier)[states[-1]], streams))
    predictions = []
    for k, (x_t, level) in enumerate(zip(states, levels, strict=True)):
        predictions.append(of.chain.known(of.predict(x_t, level), x_t))
        turn((k + 1) / len(levels), f"level {k + 1} of {len(levels)}")
    places = ["the text, whole", *(f"t = {level.t:g}" for level in levels[1:])]
    return _film(of, ask, tuple(states), predictions, levels, places, ("data", "noise"), None)


def _film(
    of: TextModel,
    ask: TextAsk,
    states: tuple[Tensor, ...],
    predictions: Sequence[Tensor],
    levels: Sequence[Level],
    places: Sequence[str],
    ends: tuple[str, str],
    given: Tensor | None,
) -> Written:
    """Two panels: the text, and the most probable letter at each position."""
    captions = []
    for x_t, before, level, place in zip(states, (states[0], *states[:-1]), levels, places, strict=True):
        left = int((x_t == of.chain.kinds).sum())
        what = f"{left} letters hidden" if of.chain.masked else f"{int((x_t != before).sum())} letters changed"
        captions.append(f"{place} · each letter is kept with probability {level.keep:.2f} · {what}")
    sure, letters = zip(*(p_0.max(-1) for p_0 in predictions), strict=True)
    parts = (
        letters_part("the text xₜ", states, of.alphabet, given),
        letters_part("predicted x₀: the most probable letters", letters, of.alphabet, sure=sure),
    )
    return Written(PartFilm(parts, tuple(captions), ends), states, of.alphabet.decode(states[-1])[0])


def program(ask: TextAsk) -> str:
    """The texts of the page: x_t [steps + 1, N], and what is written at the end."""
    if ask.task == "noise":
        return f"""from itertools import pairwise

import torch

from diffusion_explained.discrete import CLEAN, draw, load_text
from diffusion_explained.noise import generators

model, streams = load_text({ask.model!r}), generators(1, {ask.seed})
levels = [CLEAN, *reversed(model.chain.levels({NOISE_LEVELS})[:-1])]  # from data to noise
states = [model.alphabet.encode({ask.text!r})[None]]
for level, noisier in pairwise(levels):
    states.append(draw(model.chain.transition(level, noisier)[states[-1]], streams))
x_t = torch.cat(states)
p_0 = [model.chain.known(model.predict(one, level), one) for one, level in zip(states, levels)]"""
    options = f"seed={ask.seed}, sampler={ask.sampler!r}"
    return f"""import torch

from diffusion_explained.discrete import load_text

model = load_text({ask.model!r})
steps = list(model.steps({ask.text!r}, {ask.num_inference_steps}, {options}))  # _ is a letter to write
x_t = torch.cat([*(step.x_t for step in steps), steps[-1].x_next])
print(model.alphabet.decode(x_t[-1:])[0])"""
