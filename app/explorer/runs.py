"""What the pages compute; each result is kept. Every number comes from the package."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.charts import Chart, Curve, Triangle, histogram_chart, level_chart
from diffusion_explained.comparisons import Counted, Finish, Timing, one_shots, race, time_evaluation
from diffusion_explained.data.hub_datasets import DATASETS
from diffusion_explained.film import EPS_RANGE, Film, Lead, evenly_spaced, film, film_of, mosaic, pixels
from diffusion_explained.forward import add_noise
from diffusion_explained.guidance import sides
from diffusion_explained.models import Classifier, count_flops
from diffusion_explained.noise import generators, randn
from diffusion_explained.pretrained import Model, load_classifier, load_pretrained
from diffusion_explained.samplers import Step, final
from diffusion_explained.schedules import SCHEDULES, DDPMSchedule, Level, Schedule
from explorer import page, taught
from explorer.cache import named_cache, quiet
from explorer.choices import data_of, pace_of
from explorer.pictures import pictures
from explorer.turns import HEAVY, LIGHT, Tell, Turn, share_the_cores

N = TypeVar("N")
Spacing = str | tuple[float, ...] | None  # by name; the handles of the visitor's own schedule; or the model's own
AT_ONCE = 10  # levels of a noised image in one batch of the network
MOST_FRAMES = 60  # the most steps of a long run that are kept for its film
CLEAREST = {"mnist": 3, "cifar10": 7}  # the class that is shown large at first: three, and horse
PATHS = tuple(name for name in SCHEDULES if name != "edm")  # whose x_t keeps the size of an image


@st.cache_resource(max_entries=20, show_spinner="Loading the network")
def _loaded(name: str, _load: Callable[[str], N]) -> N:
    share_the_cores()
    network = _load(name)
    settle()
    return network


def loaded(what: str, name: str, load: Callable[[str], N]) -> N:
    """load(name), once for all sessions; callers only read it. what: what is missing if its file cannot be read."""
    with page.needed(what):
        return _loaded(name, load)


def settle() -> None:
    """Exclude everything that is loaded now from later garbage collections; called after each loading."""
    gc.collect()
    gc.freeze()


def model(name: str) -> Model:
    """A trained model, one for all sessions; callers only read it."""
    lesson = taught.lesson_of(name)
    if lesson is not None:
        learned = taught.finished(lesson)
        if learned is None:
            st.info(
                "This network is no longer kept here: train it again on the page Training.",
                icon=":material/model_training:",
            )
            page.end()
        return learned.model
    return loaded(f"The network {name}", name, load_pretrained)


def classifier_of(data: str) -> Classifier:
    """The classifier that measures a data set's samples; callers only read it."""
    return loaded(f"The classifier of {data}", f"{data}_classifier", load_classifier)


def rectified(name: str) -> bool:
    """Whether guidance was trained into a model, so that it is sampled without guidance."""
    return model(name).default_guidance_scale == 1


def class_names(data: str) -> tuple[str, ...]:
    """The names of a data set's classes: the digits, or airplane to truck."""
    return DATASETS[data].class_names


def schedule_of(name: str, handles: tuple[float, ...] = ()) -> Schedule:
    """The schedule that the pages call by this name, with its default numbers; with handles the visitor's own."""
    return DDPMSchedule.of_log_snr(handles) if handles else SCHEDULES[name]()


def spacing_of(spacing: Spacing) -> str | Schedule | None:
    """The spacing of a run's levels as the engine takes it."""
    return DDPMSchedule.of_log_snr(spacing) if isinstance(spacing, tuple) else spacing


# -- how long a run takes ------------------------------------------------------------------------------------


FLOPS, OVERHEAD = 80e9, 0.008  # FLOP per second of two quiet cores; the least seconds per evaluation


@st.cache_data(show_spinner=False)
def _flops(model_name: str) -> int:
    return count_flops(model(model_name).network)


def seconds(model_name: str, evaluations: int, images: int, *, guided: bool = False) -> float:
    """About how many seconds the evaluations of a network take on two quiet cores, estimated from their FLOP."""
    return evaluations * (OVERHEAD + images * (2 if guided else 1) * _flops(model_name) / FLOPS)


def seconds_of(settings: "Settings") -> float:
    """About how many seconds a sampling run takes on two quiet cores."""
    per_step = 2 if settings.sampler == "heun" else 1
    evaluations = settings.num_inference_steps * per_step
    return seconds(settings.model, evaluations, len(settings.labels), guided=settings.guidance_scale != 1)


# -- forward ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noising:
    """An image under increasing noise: its levels, data first, and the film with the network's predictions."""

    levels: tuple[Level, ...]
    film: Film
    x_t: Tensor  # one per level, [n, C, H, W]


def noising(
    key: tuple[object, ...], x_0: Tensor, label: int | None, schedule_name: str, handles: tuple[float, ...],
    model_name: str, seed: int, tell: Tell,
) -> Noising:  # fmt: skip
    """x_0 with the same eps at 51 levels, and the network's prediction at each; key identifies x_0."""

    def make(tell: Tell) -> Noising:
        with LIGHT.turn(tell) as turn:
            return noised(turn)

    def noised(turn: Turn) -> Noising:
        schedule, network = schedule_of(schedule_name, handles), model(model_name)
        levels = [schedule.clean, *reversed(schedule.levels(50)[:-1])]
        eps = randn(x_0.shape, generators(1, seed))
        noisy = [add_noise(x_0, eps, level) for level in levels]
        # nothing to predict at the first level, which has no noise
        predicted_x_0, predicted_eps = [x_0], [torch.zeros_like(eps)]
        for k in range(1, len(levels), AT_ONCE):
            some, x_t = levels[k : k + AT_ONCE], torch.cat(noisy[k : k + AT_ONCE])
            denoise = network.denoiser(None if label is None else [label] * len(some), guidance_scale=1.0)
            pred = one_shots(denoise, network.schedule, x_t, some)
            predicted_x_0 += pred.x_0.split(1)
            predicted_eps += pred.eps.split(1)
            turn((k + len(some)) / len(levels), f"level {k + len(some)} of {len(levels)}")

        def sheets(images: Sequence[Tensor], limit: float | None = None) -> list:
            return [mosaic(pixels(image, limit)) for image in images]

        truth, noise = [x_0] * len(levels), [eps] * len(levels)
        panels = [
            ("noisy image xₜ", "the image with its noise at this time", sheets(noisy)),
            ("true x₀", "the clean image", sheets(truth)),
            ("predicted x₀", "the clean image that the network predicts in one evaluation", sheets(predicted_x_0)),
            ("true noise ε", "the noise that was added", sheets(noise, EPS_RANGE)),
            (
                "predicted noise ε",
                "the noise that the network predicts in one evaluation",
                sheets(predicted_eps, EPS_RANGE),
            ),
        ]
        charts = [
            histogram_chart(noisy),
            level_chart("log SNR", "log signal-to-noise ratio over time", levels, [level.log_snr for level in levels]),
            level_chart("ᾱ = α²", "alphas_cumprod over time", levels, [level.alpha**2 for level in levels]),
        ]
        captions = [noising_caption(level) for level in levels]
        lead = Lead("panels", ("data", "noise"), *sheets(noisy)[0].shape[:2])
        return Noising(tuple(levels), film(panels, captions, rows=(5,), charts=charts, lead=lead), torch.cat(noisy))

    return named_cache("noising").get((*key, label, schedule_name, handles, model_name, seed), make, tell)


def noising_caption(level: Level) -> str:
    """A level of the forward process in one line."""
    if level.sigma == 0:
        return "clean image · α = 1 · σ = 0 · ᾱ = 1 · SNR = ∞"
    t = f"{level.t:.0f}" if level.t > 1 or level.t == 0 else f"{level.t:.2f}"
    return f"t = {t} · α = {level.alpha:.3f} · σ = {level.sigma:.3f} · ᾱ = {level.alpha**2:.4f} · SNR = {level.snr:.3g}"


# -- reverse ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """All settings that determine a sampling run."""

    model: str
    sampler: str
    num_inference_steps: int
    labels: tuple[int, ...]
    guidance_scale: float
    seed: int
    eta: float = 0.0
    negative: int | None = None
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    clip: bool = True
    spacing: Spacing = None

    def denoiser_options(self) -> dict[str, object]:
        """All options of `Model.denoiser`, for the page and for its program."""
        return {
            "guidance_scale": self.guidance_scale,
            "negative_labels": None if self.negative is None else [self.negative] * len(self.labels),
            "guidance_rescale": self.guidance_rescale,
            "guidance_interval": self.guidance_interval,
            "clip": 1.0 if self.clip else None,
        }

    def step_options(self) -> dict[str, object]:
        """The options of `Model.steps`, except for the number of steps."""
        options = {"sampler": self.sampler, "spacing": spacing_of(self.spacing), "seed": self.seed}
        return options | ({"eta": self.eta} if self.sampler == "ddim" else {})


@dataclass(frozen=True)
class Run:
    """A finished run: its film, its final images [B, C, H, W], its network evaluations, and the steps of the film."""

    film: Film
    x_0: Tensor
    evaluations: int
    steps: tuple[Step, ...] = ()


def denoiser(settings: Settings) -> Counted:
    """The denoiser of these settings, which counts its evaluations."""
    return Counted(model(settings.model).denoiser(list(settings.labels), **settings.denoiser_options()))


def steps_of(settings: Settings, denoise: Counted) -> Iterator[Step]:
    """The steps of the sampler of these settings, as a generator."""
    of = model(settings.model)
    return of.steps(denoise, len(settings.labels), settings.num_inference_steps, **settings.step_options())


def run(settings: Settings, tell: Tell, *, overview: bool = False) -> Run:
    """A sampling run, whose film has at most MOST_FRAMES steps; an overview shows x_t and x_0 only."""

    def make(tell: Tell) -> Run:
        with (LIGHT if overview else HEAVY).turn(tell) as turn:
            return ran(turn)

    def ran(turn: Turn) -> Run:
        denoise, count, kept = denoiser(settings), settings.num_inference_steps, []
        frames = set(kept_steps(settings))
        for step in steps_of(settings, denoise):
            if step.i in frames:
                kept.append(step)
            turn((step.i + 1) / count, f"step {step.i + 1} of {count}")
        if overview:
            shown = film_of(kept, 5, count=count, panels=2, **large(settings))
        else:
            shown = film_of(kept, columns_of(settings), count=count, **large(settings))
        return Run(shown, kept[-1].x_next, denoise.evaluations, () if overview else tuple(kept))

    return named_cache("runs").get((settings, overview), make, tell)


def kept_steps(settings: Settings) -> list[int]:
    """The steps of a run that its film shows, and that a branch can begin at."""
    return evenly_spaced(settings.num_inference_steps, MOST_FRAMES)


def columns_of(settings: Settings) -> int:
    """The number of columns in which the images of a run are shown."""
    return 5 if len(settings.labels) == 10 else 4


def states(settings: Settings) -> dict[str, Tensor]:
    """The tensors of a run, computed anew: x_t [n + 1, B, C, H, W], and the predictions x_0 and eps [n, B, C, H, W]."""
    with HEAVY.turn(quiet) as turn:
        steps = []
        for step in steps_of(settings, denoiser(settings)):
            steps.append(step)
            turn((step.i + 1) / settings.num_inference_steps)
    x_t = [*(step.x_t for step in steps), steps[-1].x_next]
    predicted = {"predicted x_0": [step.pred.x_0 for step in steps], "predicted eps": [step.pred.eps for step in steps]}
    return {name: torch.stack(all_of_them) for name, all_of_them in ({"x_t": x_t} | predicted).items()}


def large(settings: Settings) -> dict[str, object]:
    """What `film_of` shows large: the names of the run's images, and which one at first."""
    data, labels = data_of(settings.model), settings.labels
    if len(set(labels)) == 1:
        return {"large": [f"number {k + 1}" for k in range(len(labels))]}
    return {"large": [class_names(data)[label] for label in labels], "pick": labels.index(CLEAREST[data])}


# -- guidance -----------------------------------------------------------------------------------------------


BOTH_SIDES = 2.0  # a scale at which a denoiser evaluates the network with the class and without
SCALES = {  # the scales of the sweep, by the pace of the network
    "digits": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
    "pictures": (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0),
    "slow": (0.0, 1.0, 2.0, 5.0),
}


@dataclass(frozen=True)
class Guided:
    """The images and measures of one guidance scale, from the common noise.

    sides: `guidance.sides` of the first image of each class, at the middle step of the run.
    """

    guidance_scale: float
    x_0: Tensor
    accuracy: float
    diversity: float
    sides: tuple[tuple[float, float, float], ...]


def real_diversity(data: str, per_class: int, tell: Tell) -> float:
    """The diversity of per_class real images of each class."""
    from diffusion_explained.metrics import diversity

    def make(tell: Tell) -> float:
        real = pictures(data)
        indices = torch.cat([(real.labels == label).nonzero().flatten()[:per_class] for label in range(10)])
        classifier = classifier_of(data)
        with HEAVY.turn(tell):
            return diversity(*real.batch(indices), classifier)

    return named_cache("real diversity").get((data, per_class), make, tell)


def guided(
    model_name: str,
    guidance_scale: float,
    per_class: int,
    num_inference_steps: int,
    spacing: str | None,
    seed: int,
    tell: Tell,
) -> Guided:
    """per_class images of every class at one scale; image i starts from the same noise at every scale."""
    from diffusion_explained.metrics import class_accuracy, diversity

    def make(tell: Tell) -> Guided:
        network, classifier = model(model_name), classifier_of(data_of(model_name))
        labels = torch.arange(network.num_classes).repeat(per_class)
        denoise = network.denoiser(labels, guidance_scale)
        classes = network.num_classes
        both = network.denoiser(labels[:classes], BOTH_SIDES)
        triangles: list[Tensor] = []
        with HEAVY.turn(tell) as turn:

            def with_progress() -> Iterator[Step]:
                options = {"sampler": "euler", "spacing": spacing, "seed": seed}
                for step in network.steps(denoise, len(labels), num_inference_steps, **options):
                    turn(step.i / num_inference_steps, f"w = {guidance_scale:g}")
                    if step.i == num_inference_steps // 2:
                        pred = step.pred
                        if pred.eps_uncond is None:  # this scale needs one of the two only
                            pred = both(step.x_t[:classes], step.level)
                        triangles.append(sides(pred.eps_cond[:classes], pred.eps_uncond[:classes]))
                    yield step

            x_0 = final(with_progress()).clamp(-1, 1)
            accuracy = class_accuracy(x_0, labels, classifier)
            (triangle,) = triangles
            measured = tuple(tuple(round(side, 5) for side in one) for one in triangle.tolist())
            return Guided(guidance_scale, x_0, accuracy, diversity(x_0, labels, classifier), measured)

    key = (model_name, guidance_scale, per_class, num_inference_steps, spacing, seed)
    return named_cache("guidance", 200).get(key, make, tell)


def sweep_film(data: str, results: Sequence[Guided], real: float | None) -> Film:
    """The film of a sweep, one frame per scale: the first image of each class, the triangle, and the measures."""
    names, frames = class_names(data), [mosaic(pixels(one.x_0[:10]), 5) for one in results]
    height, width = results[0].x_0.shape[-2:]
    scales = tuple(one.guidance_scale for one in results)
    spread, right = [one.diversity for one in results], [one.accuracy for one in results]
    edges = [*spread, *([] if real is None else [real])]
    margin = 0.1 * (max(edges) - min(edges)) or 0.5
    points = tuple(zip(spread, right, strict=True))
    curves = [Curve(tuple(spread), tuple(right), "data")]
    if real is not None:
        curves.append(Curve((real, real), (1.05, 0.0), "muted", "real images"))
    charts = (
        Triangle(
            "The two predictions, and where guidance goes",
            "the tips of three arrows from one origin, drawn to measure at the middle step",
            scales,
            tuple(one.sides for one in results),
        ),
        Chart(
            "Class accuracy against diversity",
            "one point per guidance scale",
            "diversity: mean distance between images of one class",
            (min(edges) - margin, max(edges) + margin),
            (0.0, 1.05),
            tuple(curves),
            markers=points,
        ),
    )
    captions = [
        f"w = {one.guidance_scale:g} · {one.accuracy:.0%} of the right class · diversity {one.diversity:.2f}"
        for one in results
    ]
    lead = Lead("charts", None, height, width, 5, 2, names, CLEAREST[data])
    return film([("from the same noise", "an image of the class", frames)], captions, charts=charts, lead=lead)


# -- samplers -----------------------------------------------------------------------------------------------


REFERENCE_STEPS = {"digits": 128, "pictures": 64, "slow": 32}
RACERS = {"digits": (2, 3, 5, 8), "pictures": (8, 7), "slow": (8, 7)}  # the classes of a race: ship and horse


def race_settings(model_name: str, guidance_scale: float, seed: int) -> Settings:
    """The settings that all samplers of a race share. Clipping x_0 changes the ODE, so it is on only where needed."""
    pace = pace_of(model_name)
    clip = model(model_name).default_clip is not None
    return Settings(model_name, "heun", REFERENCE_STEPS[pace], RACERS[pace], guidance_scale, seed, clip=clip)


def reference(settings: Settings, tell: Tell) -> Tensor:
    """The end of a fine solver: Heun with the settings' number of steps."""
    count = settings.num_inference_steps

    def make(tell: Tell) -> Tensor:
        with HEAVY.turn(tell) as turn:

            def with_progress() -> Iterator[Step]:
                for step in steps_of(settings, denoiser(settings)):
                    turn((step.i + 1) / count, f"step {step.i + 1} of {count}")
                    yield step

            return final(with_progress())

    return named_cache("references").get(settings, make, tell)


def finish(settings: Settings, sampler: str, steps: int, spacing: Spacing, goal: Tensor, tell: Tell) -> Finish:
    """One sampler with one number of steps, from the noise of these settings."""

    def make(tell: Tell) -> Finish:
        of = model(settings.model)
        with HEAVY.turn(tell):
            how = {"seed": settings.seed, "spacing": spacing_of(spacing)}
            return next(race(of, denoiser(settings), goal, [sampler], [steps], **how))

    return named_cache("finishes", 500).get((settings, sampler, steps, spacing), make, tell)


def timed(settings: Settings, tell: Tell) -> Timing:
    """The time of one evaluation of a race's network here; kept unless other work may have disturbed it."""

    def make(tell: Tell) -> Timing:
        of, denoise = model(settings.model), denoiser(settings)
        with HEAVY.turn(tell) as turn:
            x_t = of.noise(len(settings.labels), seed=0)
            timing = time_evaluation(denoise, x_t, of.schedule.levels(2)[1])
            return timing if turn.alone and not LIGHT.busy else replace(timing, disturbed=True)

    key = (settings.model, len(settings.labels), settings.guidance_scale != 1)
    return named_cache("timings").get(key, make, tell, keep=lambda timing: not timing.disturbed)
