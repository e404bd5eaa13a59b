"""Branch at a step: from the kept run, another class, scale, sampler or noise from one step on, beside the run itself.

Only the steps from there on are computed: the run keeps its states.
"""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from torch import Tensor

from diffusion_explained.comparisons import branch, rms_distance
from diffusion_explained.film import Film, branch_film
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn
from explorer import controls, names, part_labels
from explorer.cache import named_cache
from explorer.choices import Choice
from explorer.runs import Run, Settings, class_names, columns_of, denoiser, kept_steps, large, model, spacing_of
from explorer.turns import HEAVY, Tell

WHAT = {"class": "the class", "w": "the guidance scale", "sampler": "the sampler", "noise": "the noise"}
OTHER_CLASS = 8  # the digit 8, and the ship


@dataclass(frozen=True)
class Branch:
    """A branch of a run: the index of its first step, its settings, what it changes, and that in words.

    With "noise", the noise in the state is replaced by that of the settings' seed.
    """

    i: int
    settings: Settings
    what: str
    words: str


@dataclass(frozen=True)
class Branched:
    """A finished branch: the film of it and its run, its final images [B, C, H, W], its network evaluations.

    apart: the root mean square difference of both ends, in pixel values.
    """

    film: Film
    x_0: Tensor
    evaluations: int
    apart: float


def begin(settings: Settings, frame: int) -> None:
    """Begin a branch at this frame of the run's film; at the end, where nothing follows, in the first third."""
    kept = kept_steps(settings)
    st.session_state.fork = True
    st.session_state.fork_step = kept[frame if frame < len(kept) else len(kept) // 3] + 1


def choose(where: Any, choice: Choice, settings: Settings, *, guided: bool) -> Branch | None:
    """Show the controls of a branch; None while there is none. guided: whether a guidance scale can be chosen."""
    first, second, third, fourth = where.columns([0.8, 1.4, 1, 1.4], gap="medium", vertical_alignment="center")
    if not controls.switch(first, part_labels.Branches.branch, key="fork", help=part_labels.Branches.branch_help):
        second.markdown(part_labels.Branches.one_thing)
        return None
    kept, classes = [i + 1 for i in kept_steps(settings)], class_names(choice.data)
    step = controls.steps(second, part_labels.Branches.step, kept, kept[len(kept) // 3], key="fork_step")
    allowed = [what for what in WHAT if guided or what != "w"]
    what = controls.choice(third, part_labels.Branches.change, allowed, "class", key="fork_what", format_func=WHAT.get)
    if what == "class":
        label = controls.choice(fourth, part_labels.Branches.to, classes, classes[OTHER_CLASS], key="fork_class")
        other = replace(settings, labels=(classes.index(label),) * len(settings.labels))
        words = f"class {label}"
    elif what == "w":
        w = controls.slider(fourth, part_labels.Branches.to_w, 0.0, 10.0, 6.0, 0.5, key="fork_w")
        other, words = replace(settings, guidance_scale=w), f"w = {w:g}"
    elif what == "sampler":
        sampler = controls.choice(
            fourth,
            part_labels.Branches.to,
            list(names.SAMPLERS),
            "ddpm",
            key="fork_sampler",
            format_func=names.SAMPLERS.get,
        )
        other, words = replace(settings, sampler=sampler), names.SAMPLERS[sampler]
    else:
        seed = controls.number(fourth, part_labels.Branches.seed, 0, 99999, 1, key="fork_seed")
        other, words = replace(settings, seed=seed), "other noise"
    return Branch(step - 1, other, what, f"{words} from step {step} on")


def branched(run: Run, settings: Settings, of: Branch, tell: Tell) -> Branched:
    """The branch of a kept run."""

    def make(tell: Tell) -> Branched:
        with HEAVY.turn(tell) as turn:
            count, denoise = settings.num_inference_steps, denoiser(of.settings)
            levels = model(settings.model).levels(count, spacing=spacing_of(settings.spacing))
            before = next(step for step in run.steps if step.i == of.i)
            x_t = before.x_t
            if of.what == "noise":
                x_t = add_noise(before.pred.x_0, randn(x_t.shape, generators(len(x_t), of.settings.seed)), before.level)
            frames, kept = {step.i for step in run.steps}, []
            for step in branch(denoise, x_t, levels, of.i, **sampling_options(of.settings)):
                if step.i in frames:
                    kept.append(step)
                turn((step.i + 1 - of.i) / (count - of.i), f"step {step.i + 1} of {count}")
            film = branch_film(
                run.steps, kept, columns_of(settings), sides=("the run", of.words), count=count, **large(settings)
            )
            return Branched(film, kept[-1].x_next, denoise.evaluations, rms_distance(kept[-1].x_next, run.x_0))

    return named_cache("branches").get((settings, of), make, tell)


def sampling_options(settings: Settings) -> dict[str, object]:
    """The options of `comparisons.branch`, for the page and for its program."""
    return {name: value for name, value in settings.step_options().items() if name != "spacing"}


def words_of(of: Branch, found: Branched) -> str:
    """What the branch shares with its run, what it cost, and how far apart both end."""
    before = f"the first {of.i} steps are the run's" if of.i > 1 else "the first step is the run's"
    shared = f", {before}" if of.i else ""
    evaluations = f"{found.evaluations} network evaluation{'' if found.evaluations == 1 else 's'}"
    words = f"The branch: {evaluations}{shared}. Both ends differ by {found.apart:.2f} per pixel (black to white is 2)."
    if of.what == "noise":
        words += f" At step {of.i + 1} the predicted image stays, and the noise around it is new."
    if of.settings.sampler == "dpm_solver_pp_2m":
        words += " DPM-Solver++ (2M) has no earlier prediction there, so its first step is of first order."
    return words
