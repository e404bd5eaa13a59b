"""Target and schedule, two by two: which of them makes a short training on digits draw digits?

    python benchmarks/target_and_schedule.py                # four seeds, about 8 minutes on one core

The network, the data and the number of images are those of notebook 03. Each network predicts eps or v on DDPM's linear
or on the cosine schedule; the share of 200 guided samples (10 steps, w = 2) in which a classifier sees the requested
class is averaged over the seeds, with the standard error of that mean.
"""

import argparse
import statistics
from itertools import product

import torch
from side_by_side import machine, table

from diffusion_explained.data import bundled_mnist
from diffusion_explained.metrics import class_accuracy
from diffusion_explained.models import UNet, UNetConfig
from diffusion_explained.schedules import DDPMSchedule
from diffusion_explained.training import TrainConfig, train

SCHEDULES = {"linear": DDPMSchedule.linear, "cosine": DDPMSchedule.cosine}
IMAGES = 12_000


def accuracy(prediction: str, schedule: str, seed: int) -> float:
    """The share of 200 samples that have the requested class, after one training."""
    digits = bundled_mnist()
    torch.manual_seed(seed)
    unet = UNet(UNetConfig(widths=(32, 64), blocks=(1, 1)))
    config = TrainConfig(images=IMAGES, batch_size=32, ema_decay=0.985, seed=seed)
    *_, record = train(unet, digits.images, digits.labels, SCHEDULES[schedule](), prediction, config)
    requested = torch.arange(200) % 10
    return class_accuracy(record.model.sample(requested, num_inference_steps=10, guidance_scale=2.0, seed=1), requested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    seeds = parser.parse_args().seeds
    print(machine())
    rows = []
    for prediction, schedule in product(("eps", "v"), SCHEDULES):
        shares = [accuracy(prediction, schedule, seed) for seed in range(seeds)]
        error = statistics.stdev(shares) / seeds**0.5 if seeds > 1 else float("nan")
        each = ", ".join(f"{share:.0%}" for share in shares)
        rows.append([prediction, schedule, f"{statistics.mean(shares):.0%} ± {error:.0%}", each])
        print(rows[-1], flush=True)
    print(table(["target", "schedule", "requested class", "each seed"], rows))


if __name__ == "__main__":
    main()
