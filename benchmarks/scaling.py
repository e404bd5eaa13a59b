"""The same recipe at three sizes of U-Net and of transformer: loss and Fréchet distance against compute.

    python benchmarks/scaling.py train --device cuda          # all six, one after the other: minutes on a GPU
    python benchmarks/scaling.py train unet-small dit-small --device cuda
    python benchmarks/scaling.py train prototype --images 3000000 --device cuda
    python benchmarks/scaling.py collect                          # diffusion_explained/measured/scaling.json

Everything except the network is that of recipes/cifar10_unet_flow.toml and cifar10_dit_flow.toml; every network sees
the same number of images. Training compute is counted as 3 forward passes per image.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from places import tried
from side_by_side import machine, table
from throughput import NETWORKS
from torch import nn

from diffusion_explained.data import ImageDataset, load_dataset
from diffusion_explained.files import atomic_path, check_folder
from diffusion_explained.forward import add_noise
from diffusion_explained.measured import MEASURED, read_measured, write_measured
from diffusion_explained.metrics import Reference, draw
from diffusion_explained.models import count_flops, count_parameters
from diffusion_explained.noise import randn
from diffusion_explained.predictions import target
from diffusion_explained.pretrained import in_precision
from diffusion_explained.schedules import Schedule, schedule_from_config
from diffusion_explained.training import train
from diffusion_explained.training.recipe_starts import start_from_data
from diffusion_explained.training.recipes import Recipe, read_recipe

SIZES = {  # a recipe, and the changes to its network
    "unet-small": ("cifar10_unet_flow", {"widths": [48, 96, 96]}),
    "unet-medium": ("cifar10_unet_flow", {"widths": [96, 160, 160]}),
    "unet-large": ("cifar10_unet_flow", {"widths": [160, 256, 256]}),
    "dit-small": ("cifar10_dit_flow", {"width": 128}),
    "dit-medium": ("cifar10_dit_flow", {"width": 192}),
    "dit-large": ("cifar10_dit_flow", {"width": 256}),
}
# the baseline of the shipped networks: the size, work and number of images of the first, throw-away network
PROTOTYPE = {"prototype": NETWORKS["fine"]}
PROTOTYPE_GUIDED = 1.5  # its guidance scale
RECORDS = 20  # of the loss, per training run


@torch.no_grad()
def test_loss(network: nn.Module, schedule: Schedule, images: ImageDataset, device: str) -> float:
    """Mean squared error of the velocity on `images`; each image has its own time, the same for all networks."""
    generator, total = torch.Generator().manual_seed(0), 0.0
    for x_0, labels in images.batches(1000):
        t = torch.rand(len(x_0), generator=generator, dtype=torch.float64)
        eps = randn(x_0.shape, generator, device)
        x_0, labels = x_0.to(device), labels.to(device)
        alpha, sigma = schedule.alpha(t).to(x_0), schedule.sigma(t).to(x_0)
        output = network(add_noise(x_0, eps, (t, alpha, sigma)), schedule.network_time(t).to(device), labels)
        total += (output - target("flow", x_0, eps, alpha, sigma)).square().mean().item() * len(x_0)
    return total / len(images)


def run(name: str, images: int, n: int, device: str) -> dict:
    """Train one size and measure it."""
    recipe_name, other = {**SIZES, **PROTOTYPE}[name]
    recipe = Recipe.from_tables(*read_recipe(recipe_name))
    recipe = dataclasses.replace(recipe, network={**recipe.network, **other})
    start = start_from_data(recipe.dataset, recipe.split, recipe.network, recipe.kind, recipe.training.seed)
    network, schedule, flops = start.network, schedule_from_config(recipe.schedule), count_flops(start.network)
    config = dataclasses.replace(recipe.training, images=images)
    every, curve = max(1, config.num_steps // RECORDS), []
    for record in train(
        network,
        start.images,
        start.labels,
        schedule,
        start.kind,
        config,
        class_names=start.class_names,
        device=device,
        record_every=every,
    ):
        curve.append([record.images_seen, record.loss])
    on_gpu = torch.device(device).type == "cuda"
    model = in_precision(record.model, "float16" if on_gpu else "float32")
    reference = Reference("cifar10", n, device=device)

    def measures(guidance_scale: float) -> dict:
        settings = {"num_inference_steps": 18, "sampler": "heun", "guidance_scale": guidance_scale}
        return dataclasses.asdict(reference.measures(draw(model, reference.labels, **settings)))

    row = {
        "name": name,
        "network": recipe.network,
        "parameters": count_parameters(network),
        "flops_per_image": flops,
        "images": record.images_seen,
        "training_flops": 3 * flops * record.images_seen,
        "seconds": record.seconds,
        "loss_curve": curve,
        "test_loss": test_loss(record.model.network, schedule, load_dataset("cifar10", "test", download=False), device),
        "n": n,
        **measures(guidance_scale=1.0),
    }
    return row if name in SIZES else row | {"guided": {PROTOTYPE_GUIDED: measures(PROTOTYPE_GUIDED)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "collect"])
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--images", type=int, default=1_500_000)
    parser.add_argument("--n", type=int, default=10_000, help="number of unguided samples to measure")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("runs/scaling"), help="where each size writes its row")
    options = parser.parse_args()
    tried(parser, check_folder, options.folder if options.what == "train" else MEASURED)
    if options.what == "train":
        for name in options.sizes:
            row = {"machine": machine(), **run(name, options.images, options.n, options.device)}
            with atomic_path(options.folder / f"{name}.json") as part:
                part.write_text(json.dumps(row))
            print(f"{name}: test loss {row['test_loss']:.4f}, distance {row['frechet_distance']:.2f}", flush=True)
        return
    files = {name: options.folder / f"{name}.json" for name in (*options.sizes, *PROTOTYPE)}
    rows = [json.loads(files[name].read_text()) for name in options.sizes]
    baseline = {name: json.loads(files[name].read_text()) for name in PROTOTYPE if files[name].is_file()}
    print(write_measured("scaling", {**read_measured("scaling"), **baseline, "rows": rows}))
    header = ["network", "weights", "GFLOP per forward pass", "training PFLOP", "test loss", "Fréchet distance"]
    print(
        table(
            header,
            [
                [
                    row["name"],
                    f"{row['parameters'] / 1e6:.1f} M",
                    f"{row['flops_per_image'] / 1e9:.2f}",
                    f"{row['training_flops'] / 1e15:.1f}",
                    f"{row['test_loss']:.4f}",
                    f"{row['frechet_distance']:.2f} ± {row['frechet_spread']:.2f}",
                ]
                for row in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
