"""A GAN and a diffusion model that learn the same data, step by step: one film whose slider is the training itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_explained.metrics import mode_coverage, sliced_wasserstein
from diffusion_explained.models import MLP, MLPConfig
from diffusion_explained.noise import randn, seeded, stream
from diffusion_explained.plots.point_films import PlanePanel, plane_film
from diffusion_explained.samplers import euler, final
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.training import TrainConfig, train
from diffusion_explained.training.gan import train_gan
from explorer import plane_programs as programs
from explorer.cache import named_cache
from explorer.page import duration
from explorer.plane import Drawing, examples
from explorer.plane_films import FRESH, Shown
from explorer.turns import HEAVY, Tell

GAN_STEPS = (500, 1000, 2000)
FRAMES = 20  # checkpoints
SAMPLES, SAMPLING_STEPS = 1000, 16
WIDTH, BATCH = 64, 128  # of all networks
SPEED = 100  # steps of both per second, at least, on one quiet core


@dataclass(frozen=True)
class Contest:
    """All settings of the two trainings."""

    data: Drawing
    steps: int = 1000
    seed: int = 0

    @property
    def seconds(self) -> float:
        """About how long both take, at most, on one quiet core."""
        return self.steps / SPEED

    @property
    def every(self) -> int:
        """The number of steps between two checkpoints."""
        return max(1, self.steps // FRAMES)

    def examples(self) -> Tensor:
        """The training points [N, 2] of both."""
        return self.data.mixture.sample(20_000, stream(self.seed))[0]


def trained(contest: Contest, tell: Tell) -> Shown:
    """Train both, and return the film of their samples at the checkpoints; kept for every visitor."""

    def make(tell: Tell) -> Shown:
        with HEAVY.turn(tell) as turn:
            data, z = contest.examples(), randn((SAMPLES, 2), stream(0))
            gan, diffusion, count = [], [], contest.steps
            for step, generator in enumerate(
                train_gan(data, count, width=WIDTH, batch_size=BATCH, seed=contest.seed), 1
            ):
                if step % contest.every == 0:
                    gan.append(generator(z).detach())
                    turn(step / count / 2, f"GAN, step {step:,} of {count:,}")
            network = seeded(contest.seed, lambda: MLP(MLPConfig(width=WIDTH)))
            config = TrainConfig(images=BATCH * count, batch_size=BATCH, precision="float32", seed=contest.seed)
            for record in train(network, data, None, FlowSchedule(), "flow", config, record_every=contest.every):
                if record.step % contest.every == 0:
                    levels = record.model.schedule.levels(SAMPLING_STEPS)
                    diffusion.append(final(euler(record.model.denoiser(), z, levels)))
                    turn(0.5 + record.step / count / 2, f"diffusion, step {record.step:,} of {count:,}")
            return _shown(contest, torch.stack(gan), torch.stack(diffusion))

    return named_cache("plane gans").get(contest, make, tell)


def data_alone(contest: Contest) -> Shown:
    """The film before the training: the data, without a movement."""
    points = examples(contest.data)
    panel = PlanePanel("the data that both will learn", points.expand(2, -1, -1), ("the data",) * 2)
    film = plane_film([panel], points, ["not trained yet"] * 2, ends=("first steps", "trained"))
    return Shown(film, f"Press Train both: about {duration(contest.seconds)} on one quiet core, at most.")


def known(contest: Contest) -> bool:
    """Whether both are trained already."""
    return contest in named_cache("plane gans")


def _shown(contest: Contest, gan: Tensor, diffusion: Tensor) -> Shown:
    """The film of samples [F, SAMPLES, 2] of each."""
    words = [[_measured(contest.data, x) for x in samples] for samples in (gan, diffusion)]
    steps = [contest.every * (k + 1) for k in range(len(gan))]
    captions = [f"step {step:,}" for step in steps]
    panels = [
        PlanePanel(name, samples, tuple(f"{caption}: {one}" for caption, one in zip(captions, texts, strict=True)))
        for name, samples, texts in zip(("GAN", "diffusion"), (gan, diffusion), words, strict=True)
    ]
    compared = [f"{caption}: GAN {a}, diffusion {b}" for caption, a, b in zip(captions, *words, strict=True)]
    film = plane_film(panels, examples(contest.data), compared, ends=("first steps", "trained"))
    return Shown(
        film,
        f"{SAMPLES:,} points of each, from the same noise. At the end: GAN {words[0][-1]}; diffusion {words[1][-1]}.",
    )


def _measured(data: Drawing, x: Tensor) -> str:
    """How well samples [N, 2] cover the data: the modes with at least 2% of the samples, or a distance."""
    if data.modes is not None:
        coverage = mode_coverage(x, *data.modes)
        reached = sum(count >= len(x) / 50 for count in coverage.counts)
        return f"{reached} of {len(coverage.counts)} clusters"
    fresh, _ = data.mixture.sample(len(x), stream(FRESH))
    return f"distance {sliced_wasserstein(x, fresh):.3f}"


def whole_program(contest: Contest) -> str:
    """The two trainings: x_gan and x_diffusion, the samples at the end."""
    both = f"""x_data, _ = mixture.sample(20_000, stream({contest.seed}))
z = randn(({SAMPLES}, 2), stream(0))
for generator in train_gan(x_data, {contest.steps}, width={WIDTH}, batch_size={BATCH}, seed={contest.seed}):
    pass
x_gan = generator(z).detach()

network = seeded({contest.seed}, lambda: MLP(MLPConfig(width={WIDTH})))
config = TrainConfig(
    images={BATCH * contest.steps}, batch_size={BATCH}, precision="float32", seed={contest.seed}
)
for record in train(
    network, x_data, None, FlowSchedule(), "flow", config, record_every={contest.every}
):
    print(record.step, record.loss)
x_diffusion = final(euler(record.model.denoiser(), z, record.model.schedule.levels({SAMPLING_STEPS})))"""
    return programs.with_imports(programs.data(contest.data), both)
