"""A network that learns digits on the page Training: its lesson, what is seen of it on the way, and its film."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.comparisons import one_shots
from diffusion_explained.data import bundled_mnist, to_float
from diffusion_explained.film import Film, film, mosaic, pixels
from diffusion_explained.forward import add_noise
from diffusion_explained.models import UNet, UNetConfig
from diffusion_explained.noise import generators, randn, seeded
from diffusion_explained.pretrained import Model, save_pretrained
from diffusion_explained.schedules import SCHEDULES, FlowSchedule
from diffusion_explained.training import Record, TrainConfig, train
from explorer.cache import named_cache
from explorer.lesson_jobs import looks
from explorer.taught import BATCH, Lesson, finished_lessons
from explorer.turns import HEAVY, LIGHT, Tell

LEARNING_RATE = 2e-3
LESSON_STEPS = (200, 500, 1000, 2000)
SHOWN = (3, 5, 8)  # the digits of which predictions are shown; the network does not learn from these three images
SIGMAS = (0.9, 0.7, 0.5, 0.3, 0.1)  # of the flow's path; on another path, the levels of the same ratios
LOOKS = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # parts of the lesson
DRAWING_STEPS, GUIDANCE, COLUMNS = 10, 2.0, 5


def records(lesson: Lesson) -> tuple[UNet, Iterator[Record]]:
    """The network, and the records of its training, which trains it in place."""
    digits, network = bundled_mnist(), seeded(lesson.seed, lambda: UNet(UNetConfig()))
    learned = torch.ones(len(digits.labels), dtype=torch.bool)
    learned[held_out(digits.labels)] = False
    config = TrainConfig(
        images=BATCH * lesson.steps, batch_size=BATCH, learning_rate=LEARNING_RATE, precision="float32",
        seed=lesson.seed,
    )  # fmt: skip
    return network, train(
        network, digits.images[learned], digits.labels[learned], SCHEDULES[lesson.path](), lesson.kind, config,
        record_every=every(lesson),
    )  # fmt: skip


def every(lesson: Lesson) -> int:
    """The number of steps between records."""
    return max(1, lesson.steps // 100)


def held_out(labels: Tensor) -> list[int]:
    """The first image of each digit of SHOWN."""
    return [int((labels == digit).nonzero()[0]) for digit in SHOWN]


@dataclass(frozen=True)
class Seen:
    """What a network draws and predicts after `step` steps.

    drawn: one digit per class [10, 1, 28, 28]; predicted: x_0 of the held-out digits [3, 5, 1, 28, 28], one per level.
    """

    step: int
    drawn: Tensor
    predicted: Tensor


def held_out_under_noise() -> tuple[Tensor, Tensor]:
    """The held-out digits x_0 [3, 1, 1, 28, 28], and x_t [3, 5, 1, 28, 28] at the levels of SIGMAS of the flow."""
    digits, schedule = bundled_mnist(), FlowSchedule()
    x_0 = to_float(digits.images[held_out(digits.labels)])[:, None]
    eps = randn(x_0.shape, generators(len(SHOWN), 0))
    return x_0, torch.cat([add_noise(x_0, eps, schedule.level(sigma)) for sigma in SIGMAS], dim=1)


def look(model: Model, step: int) -> Seen:
    """Draw one digit per class from the same noise, and predict the held-out digits from their noisy states."""
    labels = list(range(model.num_classes))
    drawn = model.sample(labels, num_inference_steps=DRAWING_STEPS, guidance_scale=GUIDANCE, seed=0)
    _, x_t = held_out_under_noise()
    levels = [FlowSchedule().level(sigma) for sigma in SIGMAS] * len(SHOWN)
    denoise = model.denoiser([digit for digit in SHOWN for _ in SIGMAS], guidance_scale=1.0)
    return Seen(step, drawn, one_shots(denoise, model.schedule, x_t.flatten(0, 1), levels).x_0.view_as(x_t))


@dataclass(frozen=True)
class Learned:
    """A lesson as far as it was learned.

    averaged, last: what the moving average of the weights, and the weights themselves, show after each of `looks`;
    losses: (step, loss); model: samples with the average, after the last step of the lesson; None before.
    """

    lesson: Lesson
    losses: tuple[tuple[int, float], ...]
    averaged: tuple[Seen, ...]
    last: tuple[Seen, ...]
    model: Model | None


class Learning:
    """A lesson in progress, which a visitor may pause: its records go on where they were, to the same weights."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson, self.step = lesson, 0
        self._losses: list[tuple[int, float]] = []
        self._seen: list[tuple[Seen, Seen]] = []  # with the average of the weights, and with the weights
        self._network, self._records = records(lesson)

    @property
    def looks(self) -> int:
        """How often the network was looked at."""
        return len(self._seen)

    def learned(self, model: Model | None = None) -> Learned:
        """What was learned so far; there was a look before."""
        averaged, last = zip(*self._seen, strict=True)
        return Learned(self.lesson, tuple(self._losses), averaged, last, model)

    def begin(self) -> None:
        """Look at the network before its first step."""
        if not self._seen:
            before = look(self._as_model(self._network), 0)
            self._seen.append((before, before))

    def work(self, tell: Tell) -> Learned:
        """Train until the end, or until `tell` raises: the job."""
        at, model = looks(self.lesson.steps, LOOKS), None
        with HEAVY.turn(tell) as turn:
            self.begin()
            for record in self._records:
                self.step = record.step
                self._losses.append((record.step, record.loss))
                model = record.model
                if record.step in at:
                    both = (self._as_model(network) for network in (model.network, self._network))
                    averaged, last = (look(one, record.step) for one in both)
                    self._seen.append((averaged, last))
                turn(
                    record.step / record.num_steps,
                    f"step {record.step:,} of {record.num_steps:,}, {record.images_per_second:.0f} images per second",
                )
        assert model is not None  # the last step has a record
        return finished_lessons().get(self.lesson, lambda _: self.learned(self._as_model(model.network)))

    def _as_model(self, network: UNet) -> Model:
        """A copy of the network as it is now, for samples."""
        copied = copy.deepcopy(network).eval().requires_grad_(False)
        schedule, kind = SCHEDULES[self.lesson.path](), self.lesson.kind
        names = tuple(map(str, range(10)))
        return Model(self.lesson.name, copied, schedule, kind, names, card={}, default_clip=self.lesson.clip)


def untrained(lesson: Lesson, tell: Tell) -> Learned:
    """The lesson before its first step."""

    def make(tell: Tell) -> Learned:
        learning = Learning(lesson)
        with LIGHT.turn(tell):
            learning.begin()
        return learning.learned()

    return named_cache("digit lessons, not begun", 16).get(lesson, make, tell)


def weight_file(model: Model) -> bytes:
    """The trained network as a file that `load_pretrained` reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "taught.safetensors"
        save_pretrained(path, model)
        return path.read_bytes()


def film_of(learned: Learned, digit: int, *, average: bool) -> Film:
    """The film of a lesson: one frame for each look at its network.

    average: of the moving average of the weights; otherwise of the last weights.
    """
    seen, shown = learned.averaged if average else learned.last, SHOWN.index(digit)
    x_0, x_t = (held[shown] for held in held_out_under_noise())
    weights = "the average of the weights" if average else "the last weights"
    errors = [tuple((one.predicted[shown] - x_0).square().mean((1, 2, 3)).sqrt().tolist()) for one in seen]
    losses = {step: loss for step, loss in learned.losses if step <= seen[-1].step}
    panels = [
        (
            "what it draws",
            f"one digit per class, drawn from the same noise with {weights}",
            [mosaic(pixels(one.drawn), COLUMNS) for one in seen],
        ),
        (
            f"a {digit} in noise, and what it predicts",
            f"above, a digit that it has not learned from, in less and less noise; below, the x_0 that it predicts "
            f"from it in one evaluation, with {weights}",
            [mosaic(pixels(torch.cat([x_t, one.predicted[shown]])), COLUMNS) for one in seen],
        ),
    ]
    charts = [loss_chart(losses, seen, learned.lesson.steps), error_chart(errors)]
    return film(panels, [_caption(one, losses) for one in seen], rows=(2,), charts=charts)


def drawn_by(model: str) -> str:
    """The program's expression for the last picture of what the network draws."""
    options = f"num_inference_steps={DRAWING_STEPS}, guidance_scale={GUIDANCE}, seed=0"
    return f"mosaic(pixels({model}.sample(list(range(10)), {options})), {COLUMNS})"


def tensors(learned: Learned) -> dict[str, Tensor]:
    """What both networks, with the average of the weights and with the last ones, show after each look."""
    both = {"average": learned.averaged, "last": learned.last}
    steps = torch.tensor([one.step for one in learned.averaged])
    seen = {
        f"{what}, {weights} weights": torch.stack([getattr(one, what) for one in looked])
        for weights, looked in both.items()
        for what in ("drawn", "predicted")
    }
    return {"training step": steps, "loss": torch.tensor(learned.losses), **seen}


def _caption(seen: Seen, losses: dict[int, float]) -> str:
    so_far = f"loss {losses[seen.step]:.3f}" if seen.step else "before the first step"
    return f"step {seen.step:,} · {seen.step * BATCH:,} images seen · {so_far}"


def loss_chart(losses: dict[int, float], seen: Sequence[Seen], steps: int) -> Chart:
    """The loss so far, by training step, with a marker at each look."""
    first = next(iter(losses.values()), 1.0)
    markers = tuple((float(one.step), losses.get(one.step, first)) for one in seen)
    curves = (Curve(tuple(map(float, losses)), tuple(losses.values()), "noise"),) if losses else ()
    words = f"from {first:.2f} to {losses[seen[-1].step]:.2f} after {seen[-1].step:,} steps" if losses else "not begun"
    return Chart(
        "loss", f"the training loss, {words}", "training step", (0.0, float(steps)), (0.0, 1.1 * first), curves,
        markers=markers,
    )  # fmt: skip


def error_chart(errors: list[tuple[float, ...]]) -> Chart:
    """The error of the predicted x_0 at each noise level, as bars that follow the slider."""
    most = 1.05 * max(max(one) for one in errors)
    bars = tuple(one[::-1] for one in errors)  # from little noise to much
    return Chart(
        "error of the predicted x₀", "the root mean square error at five noise levels", "noise level σ", (0.0, 1.0),
        (0.0, most), bars=bars,
    )  # fmt: skip


def program_of(lesson: Lesson) -> str:
    """The training of a lesson: model, with the average of the weights, and losses."""
    schedule = SCHEDULES[lesson.path].__qualname__
    return f"""import torch

from diffusion_explained.data import bundled_mnist
from diffusion_explained.models import UNet, UNetConfig
from diffusion_explained.noise import seeded
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import {schedule.split(".")[0]}
from diffusion_explained.training import TrainConfig, train

digits = bundled_mnist()
learned = torch.ones(len(digits.labels), dtype=torch.bool)
for digit in {SHOWN!r}:  # one image of each of these digits is kept for looking at predictions
    learned[(digits.labels == digit).nonzero()[0]] = False
network, schedule = seeded({lesson.seed}, lambda: UNet(UNetConfig())), {schedule}()
config = TrainConfig(
    images={BATCH * lesson.steps}, batch_size={BATCH}, learning_rate={LEARNING_RATE}, precision="float32",
    seed={lesson.seed},
)
losses = []
for record in train(
    network, digits.images[learned], digits.labels[learned], schedule, {lesson.kind!r}, config,
    record_every={every(lesson)},
):
    losses.append((record.step, record.loss))
averaged = record.model.network.eval().requires_grad_(False)
model = Model(
    {lesson.name!r}, averaged, schedule, {lesson.kind!r}, tuple(map(str, range(10))), card={{}},
    default_clip={lesson.clip},
)"""
