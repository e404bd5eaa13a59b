"""What the page Break it computes: samples of a right and of a broken loop from one noise, with measures of both."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_explained.charts import histogram_chart
from diffusion_explained.data import toy
from diffusion_explained.data.toys import gaussian_modes
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.film import Film, film, mosaic, pixels
from diffusion_explained.metrics import class_accuracy, diagnose, diversity, sliced_wasserstein
from diffusion_explained.noise import stream
from diffusion_explained.plots.point_films import PlaneFilm, PlanePanel, caption, plane_film, sampled
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import DDPMSchedule
from diffusion_explained.training.faults import draw, learn
from explorer.cache import named_cache
from explorer.runs import classifier_of, model, seconds
from explorer.turns import HEAVY, Tell

MODEL, DATA = "mnist_unet_eps", "mnist"
PER_CLASS, COLUMNS, SHOWN = 4, 5, 20
TOY, EXAMPLES, WIDTH, CLASSES = "eight_gaussians", 20_000, 64, 8
POINTS, SAMPLING_STEPS, FRESH = 1000, 20, 7
LESSONS = (300, 600, 1200, 2400)  # training steps
FASTEST = 300  # steps per second that one core makes at least, for estimates


# -- a fault in sampling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loop:
    """All settings that determine a sampling of digits; fault: None for the right loop."""

    fault: str | None
    num_inference_steps: int
    guidance_scale: float
    seed: int

    def options(self) -> dict[str, object]:
        """The options of `draw`, for the page and for its program."""
        return {
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
        }

    @property
    def seconds(self) -> float:
        """About how long the right and the broken loop take on two quiet cores."""
        return 2 * seconds(MODEL, self.num_inference_steps, 10 * PER_CLASS, guided=True)


@dataclass(frozen=True)
class Drawn:
    """The states of the first SHOWN digits; all final digits [B, 1, 28, 28] in [-1, 1], and their measures."""

    states: tuple[Tensor, ...]
    x_0: Tensor
    accuracy: float
    diversity: float


def drawn(loop: Loop, tell: Tell) -> Drawn:
    """PER_CLASS digits of each class, by the loop with this fault."""

    def make(tell: Tell) -> Drawn:
        network, classifier = model(MODEL), classifier_of(DATA)
        labels = torch.arange(network.num_classes).repeat(PER_CLASS)
        with HEAVY.turn(tell) as turn:
            turn(0.0, "the right loop" if loop.fault is None else "the broken loop")
            states = draw(network, labels, fault=loop.fault, **loop.options())
            x_0 = states[-1].clamp(-1, 1)
            shown = tuple(state[:SHOWN].clone() for state in states)
            return Drawn(shown, x_0, class_accuracy(x_0, labels, classifier), diversity(x_0, labels, classifier))

    return named_cache("faults in sampling").get(loop, make, tell)


def both_drawn(loop: Loop, tell: Tell) -> tuple[Drawn, Drawn]:
    """The right digits and the broken ones, from the same noise."""
    right = drawn(replace(loop, fault=None), lambda part, doing="": tell(None if part is None else part / 2, doing))
    broken = drawn(loop, lambda part, doing="": tell(None if part is None else (1 + part) / 2, doing))
    return right, broken


def film_of_digits(right: Drawn, broken: Drawn) -> Film:
    """Both loops side by side, step by step, with the histograms of their pixels."""
    count = len(right.states) - 1
    titles = ["noise, the same for both", *(f"after step {k} of {count}" for k in range(1, count + 1))]
    captions = [
        f"{title} · standard deviation of the pixels: right {float(a.std()):.2f}, broken {float(b.std()):.2f}"
        for title, a, b in zip(titles, right.states, broken.states, strict=True)
    ]
    both = (("right", "the right loop", right), ("broken", "the loop with the fault, from the same noise", broken))
    panels = [
        (
            title,
            f"{SHOWN} digits of {words}; at the end {one.accuracy:.0%} of all are of the right class",
            [mosaic(pixels(state), COLUMNS) for state in one.states],
        )
        for title, words, one in both
    ]
    charts = [
        replace(
            histogram_chart(one.states),
            title=f"pixels, {title}",
            alt=f"the histogram of the pixels of {words}, with the density of the standard normal over it",
        )
        for title, words, one in both
    ]
    return film(panels, captions, rows=(2,), charts=charts)


def measures_of_digits(right: Drawn, broken: Drawn) -> dict[str, tuple[str, ...]]:
    """What is measured on all digits: name -> (right, broken)."""
    both = (right, broken)
    return {
        "class accuracy": tuple(f"{one.accuracy:.0%}" for one in both),
        "mean pixel": tuple(f"{float(one.x_0.mean()):.2f}" for one in both),
        "standard deviation of the pixels": tuple(f"{float(one.x_0.std()):.2f}" for one in both),
        "diversity within a class": tuple(f"{one.diversity:.2f}" for one in both),
    }


# -- a fault in training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """All settings that determine a training in the plane; fault: None for the right loop."""

    fault: str | None
    steps: int
    seed: int

    @property
    def seconds(self) -> float:
        """About how long both trainings take, at most, on one quiet core."""
        return 2 * self.steps / FASTEST


@dataclass(frozen=True)
class Learned:
    """A network's run of samples, their distance to fresh data, the share in the cluster of its label; the diagnosis.

    points: the panel of the run; captions: one line per frame; x_0: the samples [POINTS, 2].
    """

    panel: PlanePanel
    captions: tuple[str, ...]
    x_0: Tensor
    distance: float
    labelled: float
    found: str | None


def mixture() -> GaussianMixture:
    """The distribution of the plane's data."""
    means, std = gaussian_modes(TOY)
    return GaussianMixture(means, std, classes=list(range(CLASSES)))


def learned(lesson: Lesson, tell: Tell) -> Learned:
    """Train a network with this fault, sample from it with labels, and let `diagnose` look for the fault."""

    def make(tell: Tell) -> Learned:
        title = "right" if lesson.fault is None else "broken"
        with HEAVY.turn(tell) as turn:
            turn(0.0, f"the {title} network, {lesson.steps:,} steps")
            points, classes = toy(TOY, EXAMPLES)
            schedule = DDPMSchedule.linear()
            network = learn(
                points, classes, schedule, "eps", fault=lesson.fault, steps=lesson.steps, width=WIDTH, seed=lesson.seed
            )
            of_plane = Model("plane", network, schedule, "eps", tuple(map(str, range(CLASSES))), card={})
            labels = torch.arange(CLASSES).repeat(POINTS // CLASSES)
            turn(0.8, f"samples of the {title} network")
            steps: list[Step] = list(
                of_plane.steps(labels, num_inference_steps=SAMPLING_STEPS, guidance_scale=1.0, sampler="ddim", seed=0)
            )
            x_0, data = steps[-1].x_next, mixture()
            panel = sampled(title, steps, None, data, points[:POINTS])
            captions = (*(caption(step.level) for step in steps), caption(steps[-1].next_level))
            fresh, _ = data.sample(len(x_0), stream(FRESH))
            nearest = torch.cdist(x_0, data.means.to(x_0)).argmin(dim=1)
            found = diagnose(network, TOY, schedule, "eps", num_classes=CLASSES).fault
            distance = float(sliced_wasserstein(x_0, fresh))
            return Learned(panel, captions, x_0, distance, float((nearest == labels).float().mean()), found)

    return named_cache("faults in training", 64).get(lesson, make, tell)


def both_learned(lesson: Lesson, tell: Tell) -> tuple[Learned, Learned]:
    """The right network and the broken one, from the same initial weights."""
    right = learned(replace(lesson, fault=None), lambda part, doing="": tell(None if part is None else part / 2, doing))
    broken = learned(lesson, lambda part, doing="": tell(None if part is None else (1 + part) / 2, doing))
    return right, broken


def known(lesson: Lesson) -> bool:
    """Whether both networks are trained already."""
    cache = named_cache("faults in training", 64)
    return lesson in cache and replace(lesson, fault=None) in cache


# the program's expression for the last frame: the right digits above the broken ones
LAST_DIGITS = f"mosaic(pixels(torch.cat([right[-1][:{SHOWN}], broken[-1][:{SHOWN}]])), {COLUMNS})"


def film_of_points(right: Learned, broken: Learned) -> PlaneFilm:
    """The samples of both networks side by side, from the same noise."""
    return plane_film([right.panel, broken.panel], toy(TOY, POINTS)[0], right.captions)


def data_alone() -> PlaneFilm:
    """The film before the training: the data, without a movement."""
    points, _ = toy(TOY, POINTS)
    panel = PlanePanel("the data that both will learn", points.expand(2, -1, -1), ("the data",) * 2)
    return plane_film([panel], points, ["not trained yet"] * 2)


def measures_of_points(right: Learned, broken: Learned) -> dict[str, tuple[str, ...]]:
    """What is measured on both networks: name -> (right, broken)."""
    both = (right, broken)
    return {
        "distance to fresh data (sliced Wasserstein)": tuple(f"{one.distance:.3g}" for one in both),
        "in the cluster of its label": tuple(f"{one.labelled:.0%}" for one in both),
        "`diagnose` says": tuple(one.found or "no fault found" for one in both),
    }


# -- the same in Python ---------------------------------------------------------------------------------------


def program_of_loop(loop: Loop) -> str:
    """The states of both loops: right and broken."""
    options = ", ".join(f"{name}={value!r}" for name, value in loop.options().items())
    return f"""import torch

from diffusion_explained import load_pretrained
from diffusion_explained.metrics import class_accuracy, diversity
from diffusion_explained.pretrained import load_classifier
from diffusion_explained.training.faults import draw

model, classifier = load_pretrained({MODEL!r}), load_classifier({f"{DATA}_classifier"!r})
labels = torch.arange(model.num_classes).repeat({PER_CLASS})
right = draw(model, labels, {options})
broken = draw(model, labels, fault={loop.fault!r}, {options})
for states in (right, broken):
    x_0 = states[-1].clamp(-1, 1)
    print(class_accuracy(x_0, labels, classifier), diversity(x_0, labels, classifier), x_0.mean(), x_0.std())"""


def program_of_lesson(lesson: Lesson) -> str:
    """The samples of both networks: x_0, by the name of the fault."""
    return f"""import torch

from diffusion_explained.data import toy
from diffusion_explained.metrics import diagnose
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import final
from diffusion_explained.schedules import DDPMSchedule
from diffusion_explained.training.faults import learn

points, classes = toy({TOY!r}, {EXAMPLES})
schedule = DDPMSchedule.linear()
labels = torch.arange({CLASSES}).repeat({POINTS // CLASSES})
x_0 = {{}}
for fault in (None, {lesson.fault!r}):
    network = learn(
        points, classes, schedule, "eps", fault=fault, steps={lesson.steps}, width={WIDTH}, seed={lesson.seed}
    )
    model = Model("plane", network, schedule, "eps", tuple(map(str, range({CLASSES}))), card={{}})
    steps = model.steps(
        labels, num_inference_steps={SAMPLING_STEPS}, guidance_scale=1.0, sampler="ddim", seed=0
    )
    x_0[fault] = final(steps)
    print(fault, diagnose(network, {TOY!r}, schedule, "eps", num_classes={CLASSES}).fault)"""
