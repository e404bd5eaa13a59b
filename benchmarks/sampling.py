"""The time of sampling: the sampler's own share, the main runs, and the import.

python benchmarks/sampling.py
"""

import statistics
import subprocess
import sys

import torch
from side_by_side import machine, paired_ratio, side_by_side, table

from diffusion_explained import load_pretrained
from diffusion_explained.pretrained import in_precision
from diffusion_explained.samplers import SAMPLERS, final


def own_share(batch_size: int = 16, num_inference_steps: int = 10, rounds: int = 25) -> list[list[str]]:
    """Wall time of a run divided by that of the same number of bare network calls, unguided."""
    model = load_pretrained("mnist_unet_flow")
    labels = torch.arange(batch_size) % model.num_classes
    levels, x_T = model.schedule.levels(num_inference_steps), model.noise(batch_size, seed=0)
    denoise = model.denoiser(labels=labels, guidance_scale=1.0)
    times = [model.schedule.network_time(level.t).expand(batch_size) for level in levels[:-1]]

    @torch.no_grad()
    def bare(calls: int) -> None:
        for i in range(calls):
            model.network(x_T, times[i % len(times)], labels)

    rows = []
    for name, sampler in SAMPLERS.items():
        calls = 2 * num_inference_steps - 1 if name == "heun" else num_inference_steps
        runs = {"sampler": lambda s=sampler: final(s(denoise, x_T, levels)), "bare": lambda n=calls: bare(n)}
        seconds = side_by_side(runs, rounds, warmup=3)
        milliseconds = [f"{1000 * statistics.median(seconds[run]):.1f}" for run in runs]
        rows.append([f"`{name}`", str(calls), *milliseconds, f"{paired_ratio(seconds, 'sampler', 'bare'):.3f}"])
    return rows


def headline_runs(rounds: int = 9) -> list[list[str]]:
    """16 guided digits: 10 flow steps, and 50 DDIM steps of the eps network; 16 guided pictures, and rectified ones."""
    labels = torch.arange(16) % 10
    flow, eps = load_pretrained("mnist_unet_flow"), load_pretrained("mnist_unet_eps")
    pictures, fine = load_pretrained("cifar10_unet_flow"), load_pretrained("cifar10_unet_flow_fine")
    half, rectified = in_precision(pictures, "bfloat16"), load_pretrained("cifar10_unet_reflow")

    def draw(model, sampler: str, steps: int, guidance_scale: float = 2.0) -> None:
        model.sample(labels, sampler=sampler, num_inference_steps=steps, guidance_scale=guidance_scale, seed=0)

    runs = {
        "16 guided digits, 10 flow steps": lambda: draw(flow, "euler", 10),
        "16 guided digits, 50 DDIM steps": lambda: draw(eps, "ddim", 50),
        "16 guided CIFAR-10 pictures, 20 flow steps": lambda: draw(pictures, "euler", 20),
        "the same in bfloat16 (`in_precision`)": lambda: draw(half, "euler", 20),
        "the same by `cifar10_unet_flow_fine`": lambda: draw(fine, "euler", 20),
        "16 CIFAR-10 pictures, 4 rectified steps": lambda: draw(rectified, "euler", 4, 1.0),
        "16 CIFAR-10 pictures, 1 rectified step": lambda: draw(rectified, "euler", 1, 1.0),
    }
    seconds = side_by_side(runs, rounds)
    return [[name, f"{statistics.median(s):.3f}", f"{min(s):.3f} to {max(s):.3f}"] for name, s in seconds.items()]


def import_time(rounds: int = 7) -> list[list[str]]:
    """Import time in a fresh interpreter: torch alone, and the whole package."""
    runs = {
        statement: lambda s=statement: subprocess.run([sys.executable, "-c", s], check=True)
        for statement in ("import torch", "import diffusion_explained")
    }
    seconds = side_by_side(runs, rounds)
    ratio = paired_ratio(seconds, "import diffusion_explained", "import torch")
    return [
        [f"`{name}`", f"{statistics.median(s):.2f}", f"{ratio:.2f}" if name.endswith("explained") else "1"]
        for name, s in seconds.items()
    ]


def main() -> None:
    share, runs, imports = own_share(), headline_runs(), import_time()
    print(machine(), end="\n\n")
    print(table(["sampler", "network calls", "run, ms", "bare calls, ms", "ratio"], share), end="\n\n")
    print(table(["run", "median, s", "range, s"], runs), end="\n\n")
    print(table(["statement", "median, s", "ratio"], imports))


if __name__ == "__main__":
    main()
