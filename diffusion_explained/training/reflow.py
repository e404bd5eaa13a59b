"""Rectification (reflow): a flow model draws pairs of noise and image, on whose straight lines a second one is trained.

    pairs = yield from draw_pairs(teacher, PairsConfig(count=10_000))
    train(student, pairs.x_0, pairs.labels, FlowSchedule(), "flow", config, noise=pairs.noise)

The first flow model was trained on noise and images paired at random. Their lines cross, and where lines cross the
network learns the mean of their directions, so its paths are curved. Lines from each noise to the image that the flow
model makes of it hardly cross, so the paths of the second flow model are nearly straight, and few Euler steps follow
them (Liu et al. 2022, "Flow Straight and Fast", Sec. 2.2, Algorithm 1). The pairs are drawn with guidance, so the
second flow model needs none (Liu et al. 2023, "InstaFlow").
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.checks import all_of, named_options, typed_arguments
from diffusion_explained.files import atomic_path
from diffusion_explained.guidance import check_guidance
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import network_config
from diffusion_explained.noise import randn, stream
from diffusion_explained.pretrained import Model, in_precision
from diffusion_explained.samplers import SAMPLERS, Step, final
from diffusion_explained.tables import check_types
from diffusion_explained.training.checkpoints import Checkpoint, check_same
from diffusion_explained.training.processes import Processes
from diffusion_explained.weight_files import fingerprint, read_tensors

DETERMINISTIC = ("euler", "heun", "ddim", "dpm_solver_pp_2m")  # only these give exactly one image for each noise
PRECISIONS = ("float32", "float16")
# seeds from the upper half of all seeds, which samples rarely use, so that samples do not start from a pair's noise
FIRST_STREAM, STREAMS_A_SEED, MAX_SEED = 2**31, 2**24, 2**7


@named_options
@dataclass(frozen=True)
class PairsConfig:
    """The settings with which a teacher draws pairs.

    count: the number of pairs; pair i is of class i % num_classes. sampler: one of `DETERMINISTIC`.
    guidance_scale, guidance_interval: as for the teacher's `NetworkDenoiser`.
    batch_size: pairs per batch; each batch is kept in a file, so that an interrupted run need not draw it again.
    precision: of the teacher's network on CUDA, "float16" (autocast) or "float32"; on other devices it is float32.
    compile: compile the teacher's network with torch.compile.

    Raises ValueError for a setting out of range.
    """

    count: int
    sampler: str = "heun"
    num_inference_steps: int = 16
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    batch_size: int = 1000
    precision: str = "float16"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in {"count": 1, "num_inference_steps": 1, "batch_size": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} of the pairs must be {least} or more; got {getattr(self, name)}.")
        if self.seed >= MAX_SEED or self.count > STREAMS_A_SEED:
            raise ValueError(
                f"the pairs are at most {STREAMS_A_SEED:,}, of a seed below {MAX_SEED}, "
                f"so that no two seeds share noise; got {self.count:,} of seed {self.seed}."
            )
        check_guidance(self.guidance_scale, self.guidance_interval)
        if self.sampler not in DETERMINISTIC:
            raise unknown_name("sampler that draws no noise", self.sampler, DETERMINISTIC)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


class Pairs(NamedTuple):
    """Noise x_T and the images x_0 that a flow model makes of it, float16 [N, ...] on its device; labels [N]."""

    noise: Tensor
    x_0: Tensor
    labels: Tensor


@dataclass(frozen=True)
class PairsRecord:
    """The progress after `step` of `num_steps` batches; images_per_second is very high for a batch read from disk."""

    step: int
    num_steps: int
    images_per_second: float


@named_options
@typed_arguments
def draw_pairs(
    teacher: Model, config: PairsConfig, folder: Path | None = None, processes: Processes | None = None
) -> Generator[PairsRecord, None, Pairs]:
    """Draw pairs with a flow model, yielding one record per batch; the generator returns the `Pairs`.

        x_T ~ N(0, I),   x_0 = the end point of the teacher's ODE from x_T, solved by the sampler, for the pair's label

    The noise is drawn on the CPU, with one generator per batch, so a seed gives the same noise on every machine. The
    noise is rounded to float16 before it is used. Images are kept in `folder`, one file per batch; batches that are
    already there are not drawn again. So each of several processes can draw a share and read those of the others.

    Raises:
        ValueError: if the teacher is not a flow model; if the folder holds pairs of another teacher or other settings.
        FloatingPointError: if an image is not finite.
    """
    if teacher.kind != "flow":
        raise ValueError(
            f"only a flow model can be rectified, because the pairs are joined by its straight path; "
            f"{teacher.name} predicts {teacher.kind}."
        )
    shape, device = (config.count, *teacher.image_shape), teacher.device
    noise, x_0 = (torch.empty(shape, dtype=torch.float16, device=device) for _ in range(2))
    labels = torch.arange(config.count, device=device, dtype=torch.int64) % max(1, teacher.num_classes)
    draw = Drawing(teacher, config)
    num_batches = math.ceil(config.count / config.batch_size)
    rank, count = (processes.rank, processes.count) if processes and folder else (0, 1)
    own, others = ([i for i in range(num_batches) if (i % count == rank) is mine] for mine in (True, False))
    for step, i in enumerate(own + others):
        began = time.perf_counter()
        if step == len(own) and processes is not None:
            processes.wait()  # afterwards the batches of the other processes can be read
        start = i * config.batch_size
        part = slice(start, start + config.batch_size)
        of_batch = stream(FIRST_STREAM + STREAMS_A_SEED * config.seed + start)
        noise[part] = randn(noise[part].shape, of_batch).half().to(device)
        path = None if folder is None else folder / f"pairs-{i:05d}.safetensors"
        if (found := read_part(path, draw.description)) is not None:
            x_0[part] = found.to(device)
        else:
            x_0[part] = draw(noise[part].float(), labels[part]).half()
            if not bool(x_0[part].isfinite().all()):
                raise FloatingPointError(f"{teacher.name} drew images that are not finite, or too large for float16.")
            if path is not None:
                write_part(path, x_0[part], draw.description)
        yield PairsRecord(step + 1, num_batches, len(noise[part]) / (time.perf_counter() - began))
    return Pairs(noise, x_0, labels)


class Drawing:
    """`draw(x_T, labels)`: the images that a teacher's sampler makes; `description` holds the teacher and the settings.

    x_T and the images are [B, C, H, W], labels [B].
    """

    def __init__(self, teacher: Model, config: PairsConfig) -> None:
        weights = {name: tensor.cpu() for name, tensor in teacher.network.state_dict().items()}
        of_teacher = {"network": network_config(teacher.network), "sha256": fingerprint("", weights)}
        self.description = {"teacher": of_teacher, "pairs": asdict(config)}
        self.config = config
        precision = config.precision if teacher.device.type == "cuda" else "float32"
        self.teacher = in_precision(teacher, precision, compiled=config.compile)

    @torch.no_grad()
    def __call__(self, x_T: Tensor, labels: Tensor) -> Tensor:
        teacher, config = self.teacher, self.config
        denoise = teacher.denoiser(
            labels if teacher.num_classes else None, config.guidance_scale, guidance_interval=config.guidance_interval
        )
        return final(SAMPLERS[config.sampler](denoise, x_T, teacher.schedule.levels(config.num_inference_steps)))


def write_part(path: Path, x_0: Tensor, description: dict) -> None:
    """Write a batch of images x_0 [B, C, H, W] to a file, whole or not at all."""
    with atomic_path(path) as part:
        save_file({"x_0": x_0.cpu().contiguous()}, part, metadata={"description": json.dumps(description)})


def read_part(path: Path | None, description: dict) -> Tensor | None:
    """Read a batch of images from its file; None if the file is missing or damaged, so that the batch is drawn again.

    Raises ValueError if the batch was drawn by another teacher or with other settings.
    """
    if path is None or not path.is_file():
        return None
    try:
        tensors, words = read_tensors(path, "file of pairs")
        found, x_0 = json.loads(words["description"]), tensors["x_0"]
    except (KeyError, ValueError, RecursionError, OSError):
        return None
    if not isinstance(found, dict):
        return None
    check_same(description, Checkpoint(found, {}, {}), path.parent)
    return x_0


def straightness(steps: Iterable[Step]) -> float:
    """How far a flow model's paths are from straight lines at constant velocity; 0 if they are such lines.

        S = integral over t of E || (x_T - x_0) - v(x_t, t) ||^2         (Liu et al. 2022, Eq. 7)

    steps: those of `samplers.euler` with a flow model, from noise to data; more steps resolve more of the curvature.
    Raises ValueError for anything else.
    """
    steps = all_of("steps", steps, Step)
    if not steps:
        raise ValueError("There are no steps to measure: a sampler yields at least one.")
    chord = steps[0].x_t - steps[-1].x_next
    total = 0.0
    for step in steps:
        away = (step.pred.eps - step.pred.x_0 - chord).flatten(1)  # v = eps - x_0
        total += (step.level.t - step.next_level.t) * away.square().sum(dim=1).mean().item()
    return total
