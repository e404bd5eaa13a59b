"""The same network and the same training on 100, 1,000, 10,000 and 60,000 digits: loss, distance, memorisation.

    python benchmarks/data_size.py --device cuda              # 4 sizes x 3 seeds; minutes on a GPU
    python benchmarks/data_size.py --images 20000 --n 200 --seeds 1     # on a CPU, much too short a training

Everything except the data is that of recipes/mnist_unet_flow.toml, and each network sees the same number of images,
repeats included: 1.5 million are 15,000 passes over 100 digits and 25 over 60,000. A seed draws the subset, with the
same number of digits of each class, the initial weights and the batches. Per run:

- the loss on the training images and on the test split, during the training and at the end;
- the Fréchet distance and the other measures of n unguided samples;
- memorisation: the share of samples whose nearest training image is less than a third as far away as their
  second nearest one (Yoon et al. 2023), and the same share of the test split, which is the baseline.

A run that exists already, with the same settings, is not repeated. The results go into diffusion_explained/measured/.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

import torch
from places import tried
from scaling import test_loss
from side_by_side import machine, table
from torch import Tensor

from diffusion_explained.data import ImageDataset, load_dataset, to_uint8
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, picture_to_text, read_measured, studies, write_measured
from diffusion_explained.metrics import Reference, draw, nearest
from diffusion_explained.models import build_network, of_data
from diffusion_explained.noise import seeded
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.training import train
from diffusion_explained.training.recipes import Recipe, read_recipe

STUDY = "data_size"
SIZES = (100, 1_000, 10_000, 60_000)
RECORDS = 25  # of both losses, per training run
SAMPLING = {"sampler": "euler", "num_inference_steps": 20, "guidance_scale": 1.0}
LOSS_IMAGES = 10_000  # for each loss at the end; a fifth of them for each loss during the training
COPIED = 1 / 3  # of the distance to the second nearest training image (Yoon et al. 2023, Section 3)
SHOWN = 10  # samples that are kept as a picture, above their nearest training images
FASTER = {"precision": "bfloat16", "noise_on": "device", "cuda_graph": True}  # on a GPU


def subset(digits: ImageDataset, size: int, seed: int) -> ImageDataset:
    """`size` random digits with equally many of each class, or all digits if there are no more than that."""
    if size >= len(digits):
        return digits
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
    of_class = [order[digits.labels[order] == label][: size // digits.num_classes] for label in range(10)]
    return digits.subset(torch.stack(of_class, dim=1).flatten())


def repeated(digits: ImageDataset, n: int) -> ImageDataset:
    """n images: all digits in order, as often as necessary, so that a loss is a mean over n times and noises."""
    return digits.subset(torch.arange(n) % len(digits))


def second_nearest(queries: Tensor, points: Tensor, index: Tensor) -> Tensor:
    """Distance [N] of queries [N, C, H, W] to the nearest of the points [M, C, H, W] but for index [N], the nearest."""
    points = points.to(queries.device).float().flatten(1) / 127.5 - 1
    found = []
    for part, itself in zip(queries.flatten(1).split(500), index.split(500), strict=True):
        distance = torch.cdist(part, points)
        found.append(distance.scatter(1, itself[:, None].to(distance.device), torch.inf).amin(1))
    return torch.cat(found).to(index.device)


def copies(images: Tensor, training: ImageDataset, device: str) -> dict[str, float]:
    """How near images [N, C, H, W] are to the training images, and the share of them that are copies."""
    images = images.to(device)
    index, first = nearest(images, training.images)
    second = second_nearest(images, training.images, index)
    return {"share": (first < COPIED * second).double().mean().item(), "median": first.median().item()}


def strip(samples: Tensor, training: ImageDataset) -> str:
    """A picture as text: samples [N, 1, H, W] in one row, above their nearest training images."""
    rows = [to_uint8(samples.clamp(-1, 1)).cpu(), training.images[nearest(samples, training.images)[0].cpu()]]
    return picture_to_text(torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in rows]))


def run(training: ImageDataset, test: ImageDataset, seed: int, images: int, device: str, reference: Reference) -> dict:
    """Train on the training digits, and measure the network beside the test split."""
    recipe = Recipe.from_tables(*read_recipe("mnist_unet_flow"))
    config = of_data(recipe.network, training.image_shape, training.num_classes)
    network, schedule = seeded(seed, lambda: build_network(config)), schedule_from_config(recipe.schedule)
    on_gpu = torch.device(device).type == "cuda"
    settings = dataclasses.replace(
        recipe.training, images=images, seed=seed, ema_decay=0.999, warmup_steps=100, **(FASTER if on_gpu else {})
    )
    few, curve = {"train": repeated(training, LOSS_IMAGES // 5), "test": repeated(test, LOSS_IMAGES // 5)}, []
    for record in train(
        network, training.images, training.labels, schedule, recipe.kind, settings,
        class_names=training.class_names, device=device, record_every=max(1, settings.num_steps // RECORDS),
    ):  # fmt: skip
        losses = [test_loss(record.model.network, schedule, part, device) for part in few.values()]
        curve.append([record.images_seen, *losses])
    samples = draw(record.model, reference.labels, seed=10_000 * seed, **SAMPLING)
    every = {"train": repeated(training, LOSS_IMAGES), "test": repeated(test, LOSS_IMAGES)}
    measures = dataclasses.asdict(reference.measures(samples))
    del measures["nearest_training_image"]  # that is the distance to any of the 60,000
    return {
        "size": len(training),
        "seed": seed,
        "images": record.images_seen,
        "seconds": record.seconds,
        **{f"{name}_loss": test_loss(record.model.network, schedule, part, device) for name, part in every.items()},
        "n": len(samples),
        **measures,
        "copies": copies(samples, training, device),
        "copies_of_test": copies(test.batch(torch.arange(len(samples)))[0], training, device),
        "curve": curve,
        "strip": strip(samples[:SHOWN], training) if seed == 0 else "",
        "machine": machine(),
    }


def summary(rows: list[dict]) -> str:
    """A markdown table: the mean over the seeds of each size, with its standard error."""

    def mean(size: int, *keys: str, digits: int = 3) -> str:
        values = []
        for row in rows:
            if row["size"] == size:
                value = row
                for key in keys:
                    value = value[key]
                values.append(value)
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"

    header = ["digits", "training loss", "test loss", "Fréchet distance", "copies", "copies among test digits"]
    return table(
        header,
        [
            [
                f"{size:,}",
                mean(size, "train_loss", digits=4),
                mean(size, "test_loss", digits=4),
                mean(size, "frechet_distance"),
                mean(size, "copies", "share"),
                mean(size, "copies_of_test", "share", digits=4),
            ]
            for size in sorted({row["size"] for row in rows})
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_500_000, help="training images processed per run")
    parser.add_argument("--n", type=int, default=5_000, help="number of samples to measure per run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=MEASURED, help="where to write the study")
    options = parser.parse_args()
    tried(parser, check_folder, options.folder)
    digits, test = load_dataset("mnist", "train"), load_dataset("mnist", "test")
    reference = Reference("mnist", options.n, device=options.device)
    settings = {
        "images": options.images,
        "n": options.n,
        "sampling": SAMPLING,
        "floor": reference.real.frechet_distance,
    }
    rows = []
    if options.folder == MEASURED and STUDY in studies():
        earlier = read_measured(STUDY)
        rows = earlier["rows"] if all(earlier[key] == settings[key] for key in ("images", "n", "sampling")) else []
    for seed in range(options.seeds):
        for size in SIZES:
            if any((row["size"], row["seed"]) == (size, seed) for row in rows):
                continue
            training = subset(digits, size, seed)
            rows.append(run(training, test, seed, options.images, options.device, reference))
            write_measured(STUDY, {**settings, "rows": rows}, options.folder)
            kept = {key: value for key, value in rows[-1].items() if key not in ("curve", "strip", "machine")}
            print(kept, flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
