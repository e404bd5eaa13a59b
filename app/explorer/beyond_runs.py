"""What the page Beyond images computes of tensors: clips, sounds, shapes and molecules, drawn, noised, or continued."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.beyond.clips import continue_frame, frame_attention
from diffusion_explained.beyond.kinds import as_float
from diffusion_explained.beyond.part_films import (
    Part,
    PartFilm,
    attention_part,
    clip_part,
    cloud_part,
    molecule_part,
    sound_part,
)
from diffusion_explained.comparisons import one_shots
from diffusion_explained.film import level_caption, shown
from diffusion_explained.forward import add_noise
from diffusion_explained.models import count_flops
from diffusion_explained.noise import generators, randn
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from explorer.cache import named_cache
from explorer.runs import AT_ONCE, FLOPS, OVERHEAD, loaded, noising_caption
from explorer.turns import HEAVY, Tell, Turn

NOISE_LEVELS = 20  # of real data that is noised, beside the data itself
RESAMPLINGS = 2  # of a continued clip, per step
Draw = Callable[[str, Sequence[Tensor], Sequence[float], int], Part]  # title, states, shares of noise, label


@dataclass(frozen=True)
class Ask:
    """All settings that determine what is shown of a kind of data. task: "draw", "noise" or "continue"."""

    kind: str
    task: str
    label: int
    seed: int
    num_inference_steps: int = NOISE_LEVELS
    sampler: str = "euler"
    guidance_scale: float = 1.0

    def options(self) -> dict[str, object]:
        """The options of `Model.steps`, or of `continue_frame`, for the page and for its program."""
        options = {
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
        }
        return options | ({"resamplings": RESAMPLINGS} if self.task == "continue" else {"sampler": self.sampler})

    @property
    def seconds(self) -> float:
        """About how long it takes on two quiet cores, estimated from the network's FLOP."""
        per_step = RESAMPLINGS if self.task == "continue" else 2 if self.sampler == "heun" else 1
        sides = 1 if self.task == "noise" or self.guidance_scale == 1 else 2
        side = _flops(self.kind) / FLOPS
        looks = OVERHEAD + side if self.kind == "video" else 0.0  # one more evaluation per step shows the attention
        return self.num_inference_steps * (per_step * (OVERHEAD + sides * side) + looks)


@dataclass(frozen=True)
class Made:
    """What is shown: the film, and the states in its order, [1, ...] each; the last is the sample, or all noise."""

    film: PartFilm
    states: tuple[Tensor, ...]


def model(kind: str) -> Model:
    """The trained network of a kind of data, one for all sessions; callers only read it."""
    return loaded(f"The network of {kind}", kind, load_beyond)


@st.cache_data(show_spinner=False)
def _flops(kind: str) -> int:
    return count_flops(model(kind).network)


# -- the panel of each kind: what is drawn of a list of states --------------------------------------------------


def _clips(title: str, states: Sequence[Tensor], shares: Sequence[float], label: int) -> Part:
    return clip_part(title, states, 1 if label < 20 else 2)  # the last twenty classes have two digits


def _sounds(title: str, states: Sequence[Tensor], shares: Sequence[float], label: int) -> Part:
    return sound_part(title, states)


def _clouds(title: str, states: Sequence[Tensor], shares: Sequence[float], label: int) -> Part:
    return cloud_part(title, states, shares)


def _molecules(title: str, states: Sequence[Tensor], shares: Sequence[float], label: int) -> Part:
    return molecule_part(title, states, shares)


PANELS: dict[str, Draw] = {"video": _clips, "sound": _sounds, "shapes": _clouds, "molecules": _molecules}


# -- what is computed --------------------------------------------------------------------------------------------


def real(ask: Ask) -> Tensor:
    """A real item of the class [1, ...], which the network was not trained on: the seed chooses it."""
    return as_float(KINDS[ask.kind].data(ask.label + 1, ask.seed, "test")).x_0[ask.label :]


def made(ask: Ask, tell: Tell) -> Made:
    """The film of these settings; computed once for all visitors."""

    def make(tell: Tell) -> Made:
        of = model(ask.kind)
        with HEAVY.turn(tell) as turn:
            return _noised(of, ask, turn) if ask.task == "noise" else _drawn(of, ask, turn)

    return named_cache("beyond images").get(ask, make, tell)


def steps_of(of: Model, ask: Ask) -> Iterator[Step]:
    """The sampler's steps; to continue a clip, from the first frame of a real one."""
    options: dict[str, Any] = ask.options()
    if ask.task == "continue":
        return continue_frame(of, real(ask)[:, :, 0], [ask.label], **options)
    return of.steps([ask.label], **options)


def _drawn(of: Model, ask: Ask, turn: Turn) -> Made:
    steps, count = [], ask.num_inference_steps
    for step in steps_of(of, ask):
        steps.append(step)
        turn(0.9 * (step.i + 1) / count, f"step {step.i + 1} of {count}")
    states = (*(step.x_t for step in steps), steps[-1].x_next)
    predicted = [*(step.pred.x_0 for step in steps), steps[-1].pred.x_0]
    levels = [*(step.level for step in steps), steps[-1].next_level]
    captions = [level_caption(step.i, step.level, count) for step in steps]
    captions.append(f"after {count} step{'' if count == 1 else 's'}: the sample")
    return Made(_film(of, ask, states, predicted, levels, captions, ("noise", "data")), states)


def _noised(of: Model, ask: Ask, turn: Turn) -> Made:
    x_0 = real(ask)
    eps = randn(x_0.shape, generators(1, ask.seed))
    levels = [of.schedule.clean, *reversed(of.schedule.levels(NOISE_LEVELS)[:-1])]
    states = tuple(add_noise(x_0, eps, level) for level in levels)
    predicted = [x_0]
    for k in range(1, len(levels), AT_ONCE):
        some, x_t = levels[k : k + AT_ONCE], torch.cat(states[k : k + AT_ONCE])
        denoise = of.denoiser([ask.label] * len(some), guidance_scale=1.0)
        predicted += one_shots(denoise, of.schedule, x_t, some).x_0.split(1)
        turn(0.9 * (k + len(some)) / len(levels), f"level {k + len(some)} of {len(levels)}")
    captions = ["the data, without noise", *(noising_caption(level) for level in levels[1:])]
    return Made(_film(of, ask, states, predicted, levels, captions, ("data", "noise")), states)


def _film(
    of: Model,
    ask: Ask,
    states: Sequence[Tensor],
    predicted: Sequence[Tensor],
    levels: Sequence[Level],
    captions: Sequence[str],
    ends: tuple[str, str],
) -> PartFilm:
    """The panels: x_t, the predicted x_0, and of a clip which frames the network looks at."""
    draw = PANELS[ask.kind]
    shares = [level.sigma / (level.alpha + level.sigma) for level in levels]
    x_t = [shown(state, level) for state, level in zip(states, levels, strict=True)]
    parts = [draw("noisy xₜ", x_t, shares, ask.label), draw("predicted x₀", predicted, [0.0] * len(levels), ask.label)]
    if ask.kind == "video":
        maps = [frame_attention(of, state, level, [ask.label]) for state, level in zip(states, levels, strict=True)]
        parts.append(attention_part("attention over time", maps))
    return PartFilm(tuple(parts), tuple(captions), ends)


# -- the same in Python ------------------------------------------------------------------------------------------


def program(ask: Ask) -> str:
    """The states of the page: x_0 of a drawing, or x_t at all levels."""
    name, options = KINDS[ask.kind].class_names[ask.label], ", ".join(f"{k}={v!r}" for k, v in ask.options().items())
    data = f'kind.data({ask.label + 1}, seed={ask.seed}, split="test")'
    if ask.task == "noise":
        return f"""import torch

from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.beyond.kinds import as_float
from diffusion_explained.comparisons import one_shots
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn

kind, model = KINDS[{ask.kind!r}], load_beyond({ask.kind!r})
x_0 = as_float({data}).x_0[-1:]  # {name}, not seen in training
eps = randn(x_0.shape, generators(1, {ask.seed}))
levels = [model.schedule.clean, *reversed(model.schedule.levels({NOISE_LEVELS})[:-1])]  # from data to noise
x_t = torch.cat([add_noise(x_0, eps, level) for level in levels])

denoise = model.denoiser([{ask.label}] * {NOISE_LEVELS}, guidance_scale=1.0)
predictions = one_shots(denoise, model.schedule, x_t[1:], levels[1:])"""
    suffix = next(iter(KINDS[ask.kind].writers))
    writing = f"""
x_0 = final(steps)

open({ask.kind + suffix!r}, "wb").write(kind.writers[{suffix!r}](x_0, [{name!r}]))"""
    if ask.task == "continue":
        return f"""from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.beyond.clips import continue_frame
from diffusion_explained.beyond.kinds import as_float
from diffusion_explained.samplers import final

kind, model = KINDS[{ask.kind!r}], load_beyond({ask.kind!r})
first = as_float({data}).x_0[-1:, :, 0]  # a frame not seen in training
steps = list(continue_frame(model, first, [{ask.label}], {options}))  # {name}{writing}"""
    return f"""from diffusion_explained.beyond import KINDS, load_beyond
from diffusion_explained.samplers import final

kind, model = KINDS[{ask.kind!r}], load_beyond({ask.kind!r})
steps = list(model.steps([{ask.label}], {options}))  # {name}{writing}"""
