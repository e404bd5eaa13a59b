"""How good CIFAR-10 samples are: by sampler and number of network evaluations, and by guidance.

    python benchmarks/quality.py samplers --device cuda       # 10,000 samples per point; minutes on a GPU
    python benchmarks/quality.py guidance --device cuda
    python benchmarks/quality.py samplers --n 1000            # coarser, and biased upwards: see notebook 08

Every point starts from the same noise: sample i from the stream of seed i. The results go into
diffusion_explained/measured/, for the course and the README; a point that is there already, for the same weights, is
not measured again. On a GPU the networks compute in float16.
"""

import argparse
import dataclasses
import hashlib
import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from places import tried
from side_by_side import machine, table
from torch import Tensor

from diffusion_explained.files import check_folder
from diffusion_explained.guidance import MIDDLE
from diffusion_explained.measured import MEASURED, read_measured, studies, write_measured
from diffusion_explained.metrics import Reference
from diffusion_explained.pretrained import Model, in_precision, load_pretrained, shipped_weights
from diffusion_explained.samplers import SAMPLERS, final

EVALUATIONS = (50, 8, 18, 4, 30, 100)  # the most informative first: a run that is stopped keeps its results
EPS, FLOW, FINE = "cifar10_unet_eps", "cifar10_unet_flow", "cifar10_unet_flow_fine"
RECTIFIED = "cifar10_unet_reflow"
GUIDED = 2.0
TAUGHT = 3.0  # in the interval MIDDLE: the guidance of the pairs that RECTIFIED was trained on
FINE_GUIDED = 2.0  # in the interval MIDDLE: the scale with the least distance in the guidance study
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
GUIDANCE_STEPS = 18
BATCH = 2000


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting of one model; n samples of it are measured."""

    model: str
    sampler: str
    num_inference_steps: int
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0

    @property
    def evaluations(self) -> int:
        """Network evaluations per image: Heun's method needs two per step, but one at the last.

        It also needs only one at the first step of EPS, whose schedule starts at almost pure noise.
        """
        if self.sampler != "heun":
            return self.num_inference_steps
        return 2 * self.num_inference_steps - (2 if self.model == EPS else 1)


def sampler_points() -> Iterator[Point]:
    """Every sampler at every number of evaluations, without guidance; the best of them also with guidance."""
    for count in EVALUATIONS:
        yield Point(FLOW, "euler", count)
        yield Point(EPS, "ddim", count)  # Euler's method is the same
        yield Point(EPS, "dpm_solver_pp_2m", count)
        yield Point(EPS, "euler_ancestral", count)
    for count in (1, 2, *EVALUATIONS[:-1]):
        yield Point(RECTIFIED, "euler", count)
    for count in EVALUATIONS:
        yield Point(FLOW, "euler", count, GUIDED)
    for count in EVALUATIONS:
        yield Point(FLOW, "heun", (count + 1) // 2)
        yield Point(EPS, "heun", (count + 1) // 2)
        yield Point(FLOW, "dpm_solver_pp_2m", count)
    for count in EVALUATIONS:
        yield Point(EPS, "dpm_solver_pp_2m", count, GUIDED)
        yield Point(FLOW, "heun", (count + 1) // 2, GUIDED)
    for count in EVALUATIONS:
        yield Point(FLOW, "euler", count, TAUGHT, guidance_interval=MIDDLE)
    for count in EVALUATIONS:
        yield Point(FINE, "euler", count)
        yield Point(FINE, "euler", count, FINE_GUIDED, guidance_interval=MIDDLE)
    yield Point(EPS, "ddpm", 1000)


def guidance_points() -> Iterator[Point]:
    """Every scale; then guidance at middle noise levels only, and with rescaled contrast."""
    for scale in SCALES:
        yield Point(FLOW, "euler", GUIDANCE_STEPS, scale)
    for scale in (2.0, 3.0, 5.0):
        yield Point(FLOW, "euler", GUIDANCE_STEPS, scale, guidance_interval=MIDDLE)
    for scale in (1.5, 2.0, 3.0):
        yield Point(FINE, "euler", GUIDANCE_STEPS, scale, guidance_interval=MIDDLE)
    for scale in (3.0, 5.0, 8.0):
        yield Point(FLOW, "euler", GUIDANCE_STEPS, scale, guidance_rescale=0.7)


STUDIES = {"samplers": sampler_points, "guidance": guidance_points}


@torch.no_grad()
def draw(model: Model, point: Point, x_T: Tensor, labels: Tensor) -> Tensor:
    """Samples of labels [n] from the noise x_T, before clamping to the range of pixels."""
    drawn, levels = [], model.schedule.levels(point.num_inference_steps)
    for start in range(0, len(labels), BATCH):
        part, options = slice(start, start + BATCH), {}
        if "generator" in inspect.signature(SAMPLERS[point.sampler]).parameters:
            # for the noise that the sampler adds
            options["generator"] = torch.Generator(model.device).manual_seed(start)
        denoise = model.denoiser(
            labels[part],
            point.guidance_scale,
            guidance_interval=point.guidance_interval,
            guidance_rescale=point.guidance_rescale,
        )
        drawn.append(final(SAMPLERS[point.sampler](denoise, x_T[part], levels, **options)))
    return torch.cat(drawn)


def measure(model: Model, point: Point, x_T: Tensor, reference: Reference) -> dict:
    """A row: the point, the measures of its samples, and the share of pixels beyond black or white."""
    began = time.perf_counter()
    x_0 = draw(model, point, x_T, reference.labels)
    beyond, seconds = (x_0.abs() > 1.02).double().mean().item(), time.perf_counter() - began
    x_0 = x_0.clamp(-1, 1)
    measures = dataclasses.asdict(reference.measures(x_0))
    row = {**dataclasses.asdict(point), "evaluations": point.evaluations, **measures, "beyond": beyond}
    return {**row, "contrast": x_0.std(dim=(1, 2, 3)).mean().item(), "seconds": seconds}


def weights_of(name: str, folder: str) -> tuple[Path, str]:
    """The weight file of a model, shipped or in a folder runs/, and the start of its checksum."""
    path = Path(folder) / name / f"{name}.safetensors" if folder else shipped_weights()[name]
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", default="", help="a folder runs/ with the models, instead of the shipped ones")
    parser.add_argument(
        "--models", nargs="*", default=[EPS, FLOW, FINE, RECTIFIED], help="only the points of these models"
    )
    parser.add_argument("--most", type=int, default=1000, help="leave out points with more evaluations")
    options = parser.parse_args()
    tried(parser, check_folder, MEASURED)
    points = [p for p in STUDIES[options.study]() if p.evaluations <= options.most and p.model in options.models]
    on_gpu = torch.device(options.device).type == "cuda"
    precision = "float16" if on_gpu else "float32"
    reference = Reference("cifar10", options.n, device=options.device)
    files = {name: weights_of(name, options.weights) for name in dict.fromkeys(point.model for point in points)}
    models, noise = {}, {}
    for point in points:
        path, checksum = files[point.model]
        if any(is_row_of(row, point, options.n, checksum) for row in kept_rows(options.study)):
            continue
        if point.model not in models:
            loaded = load_pretrained(path, options.device)
            models[point.model] = in_precision(loaded, precision, compiled=on_gpu)
            noise[point.model] = loaded.noise(options.n)
        row = measure(models[point.model], point, noise[point.model], reference)
        row |= {"n": options.n, "weights": checksum, "machine": machine(), "precision": precision}
        print(f"{point}: {row['frechet_distance']:.3f}, {row['accuracy']:.1%}, {row['seconds']:.1f} s", flush=True)
        others = [other for other in kept_rows(options.study) if not is_same_setting(other, point)]
        real = dataclasses.asdict(reference.real)
        write_measured(options.study, {"unseen": reference.unseen, "real": real, "rows": [*others, row]})
    print(as_table(kept_rows(options.study)))


def kept_rows(study: str) -> list[dict]:
    """The rows that earlier runs measured; a stopped run resumes after them."""
    return read_measured(study)["rows"] if study in studies() else []


def is_same_setting(row: dict, point: Point) -> bool:
    return all(row[key] == (list(v) if isinstance(v, tuple) else v) for key, v in dataclasses.asdict(point).items())


def is_row_of(row: dict, point: Point, n: int, weights: str) -> bool:
    """Whether a row is of this point, these weights and n samples."""
    return is_same_setting(row, point) and (row["n"], row["weights"]) == (n, weights)


def as_table(rows: list[dict]) -> str:
    """The rows as markdown."""
    header = ["model", "sampler", "evaluations", "w", "Fréchet distance", "accuracy", "coverage", "diversity"]
    return table(
        header,
        [
            [
                f"`{row['model']}`",
                row["sampler"],
                str(row["evaluations"]),
                f"{row['guidance_scale']:g}",
                f"{row['frechet_distance']:.2f} ± {row['frechet_spread']:.2f}",
                f"{row['accuracy']:.1%}",
                f"{row['neighbour_coverage']:.1%}",
                f"{row['diversity']:.2f}",
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
