"""A small network that learns in the page The plane: its lesson, its job, and what the page shows of it meanwhile."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.exact import least_loss
from diffusion_explained.models import MLP, MLPConfig
from diffusion_explained.noise import randn, seeded, stream
from diffusion_explained.plots.point_films import sampled
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.training import Record, TrainConfig, train
from diffusion_explained.training.coupling import coupled
from diffusion_explained.training.reflow import PairsConfig, draw_pairs
from explorer.cache import Cache, named_cache
from explorer.plane import Drawing, Movement, faster, steps_of
from explorer.turns import HEAVY, Tell, Turn

WIDTH, BATCH, LEARNING_RATE = 48, 256, 3e-3
EXAMPLES, PAIRS = 20_000, 8_192  # training points; with the noise of each fixed, fewer
EVERY = 20  # steps between records
LOOK = 0.5  # seconds between previews
LESSON_STEPS = (250, 500, 1000, 2000, 4000, 8000)
INDEPENDENT, TRANSPORT, RECTIFIED = "independent", "transport", "rectified"
PACES = {"fast": 0.0, "slow": 100.0}  # the most steps per second; 0 for as many as the machine makes
FASTEST = 300  # steps per second that one core makes at least, for estimates


@dataclass(frozen=True)
class Lesson:
    """All settings that determine a network's training.

    pairs: how noise is paired with data: independently, by optimal transport in minibatches, or by a first flow's own
        paths (rectification). classes: whether the network learns the data's classes, for guidance.
    """

    data: Drawing
    steps: int = 2000
    seed: int = 0
    pairs: str = INDEPENDENT
    classes: bool = False

    @property
    def seconds(self) -> float:
        """About how long the training takes, at most, on one quiet core."""
        return (2 if self.pairs == RECTIFIED else 1) * self.steps / FASTEST

    def network(self) -> MLP:
        """The network before its first step."""
        config = MLPConfig(width=WIDTH, num_classes=self.data.num_classes if self.classes else None)
        return seeded(self.seed, lambda: MLP(config))

    def config(self) -> TrainConfig:
        """The settings of the training loop."""
        return TrainConfig(
            images=BATCH * self.steps,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            precision="float32",
            seed=self.seed,
        )

    def examples(self) -> tuple[Tensor, Tensor | None]:
        """The training points [N, 2], and their labels [N] if the network learns the classes."""
        mixture = self.data.mixture
        x_0, component = mixture.sample(EXAMPLES, stream(self.seed))
        return x_0, mixture.classes[component] if self.classes else None


def independent(lesson: Lesson) -> Lesson:
    """The lesson of the first flow, which a rectified one starts from."""
    return replace(lesson, pairs=INDEPENDENT)


def transport_pairs(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Pairs (x_0, eps), [PAIRS, 2] each, coupled by optimal transport within batches."""

    def make(tell: Tell) -> tuple[Tensor, Tensor]:
        x_0 = lesson.examples()[0][:PAIRS]
        return x_0, coupled(randn(x_0.shape, stream(lesson.seed)), x_0)

    return named_cache("plane pairs").get((lesson.data, lesson.seed), make)


def rectified_pairs(lesson: Lesson, teacher: Model) -> tuple[Tensor, Tensor]:
    """Pairs (x_0, eps), [PAIRS, 2] each, in which the teacher's flow leads from eps to x_0."""

    def make(tell: Tell) -> tuple[Tensor, Tensor]:
        drawing = draw_pairs(teacher, PairsConfig(PAIRS, num_inference_steps=16, batch_size=PAIRS, seed=lesson.seed))
        while True:
            try:
                next(drawing)
            except StopIteration as end:
                return end.value.x_0.float(), end.value.noise.float()

    return named_cache("plane pairs").get((lesson.data, lesson.seed, lesson.steps), make)


def finished(lesson: Lesson) -> Model | None:
    """The network that this lesson made, if it is known here."""
    return _networks().find(lesson)


def records(lesson: Lesson) -> Iterator[Record]:
    """The records of the training, one every EVERY steps; a rectified flow's begin with those of the first flow."""
    x_0, labels = lesson.examples()
    noise = None
    if lesson.pairs == TRANSPORT:
        x_0, noise = transport_pairs(lesson)
    elif lesson.pairs == RECTIFIED:
        teacher = finished(independent(lesson))
        if teacher is None:
            record = None
            for record in records(independent(lesson)):
                yield record
            teacher = keep(independent(lesson), record.model)
        x_0, noise = rectified_pairs(lesson, teacher)
    yield from train(
        lesson.network(), x_0, labels, FlowSchedule(), "flow", lesson.config(), noise=noise, record_every=EVERY
    )


def keep(lesson: Lesson, model: Model) -> Model:
    """Keep a trained network for every visitor who asks for the same lesson."""
    return _networks().get(lesson, lambda _: model)


def _networks() -> Cache:
    """The trained networks by lesson; their number is limited."""
    return named_cache("plane networks", 64)


class Training:
    """A lesson in progress, which a visitor may pause: its records go on where they were, to the same weights.

    model: the network as it is now, or None before the first step; step, losses: so far; preview: points for the page.
    """

    def __init__(self, lesson: Lesson, movement: Movement) -> None:
        self.lesson, self.movement, self.pace = lesson, movement, "fast"
        self.model: Model | None = None
        self.step, self.first, self.speed = 0, True, 0.0
        self.losses: list[tuple[int, float]] = []
        self.preview: dict[str, object] = {}
        self._records = records(lesson)

    @property
    def done(self) -> bool:
        """Whether the lesson is learned."""
        return finished(self.lesson) is not None

    def work(self, tell: Tell) -> Model:
        """Train until the end, or until `tell` raises: the job."""
        with HEAVY.turn(tell) as turn:
            looked = time.monotonic()
            self.look()
            for record in self._records:
                self._take(record, turn)
                if time.monotonic() - looked > LOOK:
                    self.look()
                    looked = time.monotonic()
                if PACES[self.pace]:
                    time.sleep(EVERY / PACES[self.pace])
            assert self.model is not None
            return keep(self.lesson, self.model)

    def _take(self, record: Record, turn: Turn) -> None:
        if record.step < self.step:  # the second flow of a rectification begins
            self.losses, self.first = [], False
        self.step, self.model = record.step, record.model
        self.losses.append((record.step, record.loss))
        self.speed = record.images_per_second / BATCH
        flows = 2 if self.lesson.pairs == RECTIFIED else 1
        part = (record.step / record.num_steps + (0 if self.first else flows - 1)) / flows
        which = "" if flows == 1 else "first flow, " if self.first else "second flow, "
        turn(part, f"{which}step {record.step:,} of {record.num_steps:,}, {self.speed:.0f} steps per second")

    def look(self) -> None:
        """Sample a few points with the network as it is now, for the page."""
        if self.model is None:
            return
        movement = faster(self.movement)
        steps = steps_of(movement, movement.learned(self.model, movement.points))
        panel = sampled("", steps)
        self.preview = {"points": panel, "step": self.step}


@st.cache_data(show_spinner=False, max_entries=64)
def exact_loss(data: Drawing) -> float:
    """The loss of the exact denoiser, which no network falls below for long."""
    return least_loss(data.mixture, FlowSchedule(), "flow")


def untrained(lesson: Lesson) -> Model:
    """The network before training; it predicts the velocity 0 everywhere, so no point moves."""
    network = lesson.network().eval().requires_grad_(False)
    names = [str(label) for label in range(network.num_classes or 0)]
    return Model("untrained", network, FlowSchedule(), "flow", tuple(names), card={})


def loss_chart(training: Training | None, lesson: Lesson) -> Chart:
    """The loss so far, and the exact denoiser's as a level line."""
    least = exact_loss(lesson.data)
    losses = training.losses if training is not None else []
    some = losses[:: max(1, len(losses) // 150)]
    y = torch.tensor([loss for _, loss in some], dtype=torch.float32)
    width = 1 if len(some) < 12 else 5
    smooth = y.unfold(0, width, 1).mean(1).tolist() if len(some) >= width else y.tolist()
    x = [step for step, _ in some][len(some) - len(smooth) :]
    curves = [Curve((0.0, float(lesson.steps)), (least, least), "muted", f"exact denoiser {least:.2f}")]
    if smooth:
        curves.append(Curve(tuple(map(float, x)), tuple(smooth), "noise", f"network {smooth[-1]:.2f}"))
    top = max([2.2, least * 1.15, *smooth[:1]])
    alt = f"exact denoiser {least:.2f}" + (f"; network {smooth[-1]:.2f} after {x[-1]:,} steps" if smooth else "")
    low = min([least * 0.85, *smooth])
    return Chart("Loss", alt, "step", (0.0, float(lesson.steps)), (low, min(top, 4.0)), tuple(curves))
