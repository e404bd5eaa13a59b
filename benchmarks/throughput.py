"""How fast a network trains on this GPU, as a share of the chip's bfloat16 rate, and how a step's time is divided.

python benchmarks/throughput.py                        # the network of cifar10_unet_flow; --network dit, wide, fine

Each row adds one measure to the row above it, for the same training. The pictures are random bytes; training on them
takes the same time as on real ones.
"""

import argparse
import dataclasses
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

import torch
from side_by_side import machine, table

from diffusion_explained.models import build_network, count_flops, count_parameters
from diffusion_explained.schedules import schedule_from_config
from diffusion_explained.training import Record, TrainConfig, train
from diffusion_explained.training.recipes import Recipe, read_recipe

NETWORKS = {  # a recipe, and the changes to its network
    "unet": ("cifar10_unet_flow", {}),
    "dit": ("cifar10_dit_flow", {}),
    # two U-Nets of about 3.2 GFLOP and 8 M weights: wide at half the resolution, or narrow at all of it
    "wide": ("cifar10_unet_flow", {"widths": [256, 96], "blocks": [2, 1], "attention": [False, True]}),
    "fine": ("cifar10_unet_flow", {"patch_size": 1, "widths": [64, 128, 128], "blocks": [3, 3, 3]}),
}
MEASURES = (
    ("float32, noise from the CPU", {"precision": "float32", "noise_on": "cpu"}),
    ("bfloat16", {"precision": "bfloat16"}),
    ("noise drawn on the GPU", {"noise_on": "device"}),
    ("channels last", {"channels_last": True}),
    ("compiled", {"compile": True}),
    ("replayed as a CUDA graph", {"cuda_graph": True}),
)
KINDS_OF_WORK = {  # a kernel belongs to the first kind of which a word is in its name
    "convolutions and matrix products": ("gemm", "conv", "xmma", "cutlass", "nvjet", "wgrad", "dgrad", "fprop", "sm90"),
    "attention": ("flash", "attention", "softmax"),
    "optimizer, clipping and average": ("adam", "multi_tensor", "foreach", "lpnorm"),
    "norms and elementwise": ("triton", "elementwise", "norm", "reduce", "index", "cat", "copy", "distribution"),
}


def training(recipe: Recipe, config: TrainConfig, record_every: int) -> Iterator[Record]:
    """The training run of a recipe, on random bytes."""
    network = build_network(recipe.network)
    images = torch.randint(0, 256, (50_000, *network.image_shape), dtype=torch.uint8)
    labels, schedule = torch.randint(10, (50_000,)), schedule_from_config(recipe.schedule)
    return train(network, images, labels, schedule, recipe.kind, config, device="cuda", record_every=record_every)


def steps(recipe: Recipe, config: TrainConfig, seconds: float) -> tuple[float, float]:
    """Images per second in the median record, and the seconds of the first 25 steps, which include compiling."""
    begin, speeds, first = time.perf_counter(), [], 0.0
    for record in training(recipe, config, record_every=25):
        first = first or record.seconds
        speeds.append(record.images_per_second)
        if time.perf_counter() - begin > seconds + first and len(speeds) > 3:
            break
    return statistics.median(speeds[1:]), first


def matrix_rate(n: int = 8192) -> float:
    """FLOP/s of a bfloat16 matrix product of random numbers, the upper limit of the rates below."""
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        a @ b
    start.record()
    for _ in range(20):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * n**3 / (start.elapsed_time(end) / 1000)


def where_it_goes(recipe: Recipe, config: TrainConfig, count: int = 20) -> dict[str, float]:
    """The share of each kind of work in the time of `count` training steps, and the share of waiting."""
    run = training(recipe, config, record_every=count)
    next(run)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        begin = time.perf_counter()
        next(run)
        torch.cuda.synchronize()
        total = time.perf_counter() - begin
    spent: dict[str, float] = defaultdict(float)
    for event in profile.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS_OF_WORK.items() if any(w in name for w in words)), "other")
        spent[kind] += event.self_device_time_total / 1e6
    spent["waiting for the processor"] = max(0.0, total - sum(spent.values()))
    return {kind: seconds / sum(spent.values()) for kind, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="unet")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=6, help="per row, without compiling")
    parser.add_argument("--last-only", action="store_true", help="only the row with all measures")
    options = parser.parse_args()
    name, other = NETWORKS[options.network]
    recipe = Recipe.from_tables(*read_recipe(name))
    recipe = dataclasses.replace(recipe, network={**recipe.network, "image_shape": (3, 32, 32), **other})
    network = build_network(recipe.network)
    flops, peak = count_flops(network), matrix_rate()
    print(machine())
    print(
        f"{count_parameters(network):,} weights, {flops / 1e9:.2f} GFLOP per forward pass, batch {options.batch_size}; "
    )
    print(f"bfloat16 matrix products: {peak / 1e12:.0f} TFLOP/s", end="\n\n")

    config = dataclasses.replace(
        recipe.training, batch_size=options.batch_size, compile=False, channels_last=False, cuda_graph=False
    )
    rows = []
    for name, measure in MEASURES:
        config = dataclasses.replace(config, **measure)
        if options.last_only and name != MEASURES[-1][0]:
            continue
        speed, first = steps(recipe, config, options.seconds)
        rate = 3 * flops * speed  # a backward pass is two forward passes
        rows.append([name, f"{speed:,.0f}", f"{rate / 1e12:.0f}", f"{rate / peak:.1%}", f"{first:.1f}"])
    print(
        table(
            ["each row with all measures above it", "images/s", "TFLOP/s", "of the chip's rate", "first 25 steps, s"],
            rows,
        )
    )
    shares = sorted(where_it_goes(recipe, config).items(), key=lambda pair: -pair[1])
    print("\n" + table(["part of a step's time", "share"], [[kind, f"{share:.0%}"] for kind, share in shares]))


if __name__ == "__main__":
    main()
