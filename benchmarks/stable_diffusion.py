"""Stable Diffusion 1.5's full architecture with random weights: ours beside diffusers, in one process.

    python benchmarks/stable_diffusion.py --device cuda --out runs/stable_diffusion.json     # minutes on one GPU
    python benchmarks/stable_diffusion.py --size tiny --device cpu --repeats 1               # a rehearsal

Speed does not depend on what the weights are, so none are downloaded: the U-Net (860 M parameters), the autoencoder
(84 M) and the text encoder (123 M) are built from the published configuration. Three parts, each written to --out when
it is done; what would begin after --budget seconds is left out, and said.

    speed      30 DDIM steps with guidance 7.5 and decoding: diffusers, ours, ours compiled; by stage; memory
    equality   the final latents of both loops, for four samplers, in float32 and float16
    pixels     the same U-Net on 512 x 512 x 3: a few steps, and what 30 would take
"""

import argparse
import contextlib
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import machine, paired_ratio, table

from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.files import atomic_path
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import ddim, final
from diffusion_explained.stable_diffusion import StableDiffusion, stand_in
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.loading import of_pipeline
from diffusion_explained.stable_diffusion.networks import PromptedNetwork
from diffusion_explained.stable_diffusion.stand_ins import unet_of_sd

PROMPT, NEGATIVE, SCALE, SEED = "a photo of an astronaut riding a horse on the sea", "blurry", 7.5, 0
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm_solver_pp_2m": "DPMSolverMultistepScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
}
PIXEL_STEPS = 2


class Study:
    """The settings, the clock, and what was measured so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.started = arguments, time.perf_counter()
        self.device, self.full = torch.device(arguments.device), arguments.size == "full"
        self.steps = 30 if self.full else 3
        self.side = 512 if self.full else 64
        self.half = torch.float16 if self.device.type == "cuda" else torch.float32
        self.results: dict[str, Any] = {"machine": machine(), "size": arguments.size, "steps": self.steps}

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", flush=True)

    def has_time(self, what: str) -> bool:
        """Whether the budget is not used up; if it is, `what` is noted as left out."""
        if time.perf_counter() - self.started < self.arguments.budget:
            return True
        self.say(f"left out, the budget is used up: {what}")
        self.results.setdefault("left_out", []).append(what)
        return False

    def write(self) -> None:
        self.results["seconds"] = time.perf_counter() - self.started
        if self.arguments.out:
            with atomic_path(self.arguments.out) as part:
                part.write_text(json.dumps(self.results, indent=1))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object]) -> float:
        """One run, timed, from an idle GPU to an idle GPU."""
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def memory(self, run: Callable[[], object]) -> float | None:
        """Peak GiB that a run had allocated, all weights on the GPU included."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / 2**30


def theirs(study: Study, model: StableDiffusion, sampler: str = "ddim") -> Callable[..., torch.Tensor]:
    """diffusers' own pipeline over the same parts, with the scheduler of that sampler."""
    library = diffusers()
    scheduler = getattr(library, SCHEDULERS[sampler]).from_config(
        model.pipe.scheduler.config, timestep_spacing="leading"
    )
    parts = {**model.pipe.components, "scheduler": scheduler}
    pipe = library.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)

    def run(batch_size: int = 1, output_type: str = "pt") -> torch.Tensor:
        return pipe(
            [PROMPT] * batch_size,
            negative_prompt=[NEGATIVE] * batch_size,
            generator=generators(batch_size, SEED),
            num_inference_steps=study.steps,
            guidance_scale=SCALE,
            height=study.side,
            width=study.side,
            output_type=output_type,
        ).images

    return run


def settings(study: Study, batch_size: int = 1) -> dict[str, Any]:
    """Ours, for `StableDiffusion.steps` and `sample`."""
    return {
        "negative": NEGATIVE,
        "guidance_scale": SCALE,
        "num_inference_steps": study.steps,
        "seed": SEED,
        "batch_size": batch_size,
        "height": study.side,
        "width": study.side,
    }


# -- speed ------------------------------------------------------------------------------------------------


def stages(study: Study, model: StableDiffusion, batch_size: int) -> dict[str, float]:
    """Median seconds of text, steps and decoding, and of one pass of the network on 2B latents, each on its own."""
    text = model.encode_text(PROMPT, NEGATIVE)
    levels = model.levels(study.steps)
    start = model.prepare(SEED, batch_size, levels=levels, height=study.side, width=study.side)
    denoise = model.denoiser(text, SCALE, start=start)
    x_0 = final(ddim(denoise, start.x_t, levels))
    runs = {
        "text": lambda: model.encode_text(PROMPT, NEGATIVE),
        "steps": lambda: final(ddim(denoise, start.x_t, levels)),
        "decode": lambda: model.decode(x_0),
        "one_pass": lambda: denoise(start.x_t, levels[0]),
    }
    return {
        name: statistics.median(study.seconds(run) for _ in range(study.arguments.repeats + 1))
        for name, run in runs.items()
    }


def speed(study: Study) -> None:
    """diffusers, ours, and ours compiled, in turn; then each alone, by stage."""
    plain = stand_in("sd", full_size=study.full, device=str(study.device), dtype=study.half)
    study.results["parameters"] = plain.parameters()
    study.say(f"built, {sum(plain.parameters().values()) / 1e6:.0f} M parameters, {study.half}")
    # weights of its own: the compiled model lays them out anew
    twin = of_pipeline(copied(plain), plain.family, plain.name, plain.label)
    fast = accelerate(twin, backend=study.arguments.backend, mode=study.arguments.mode)
    rows = []
    for batch_size in study.arguments.batches:
        images = settings(study, batch_size)
        diffusers_run = theirs(study, plain)
        runs: dict[str, Callable[[], object]] = {
            "diffusers": lambda n=batch_size, run=diffusers_run: run(n),
            "ours": lambda options=images: plain.sample(PROMPT, **options),
        }
        for run in runs.values():
            run()
        if study.has_time(f"compiled, batch {batch_size}"):
            runs["ours, fast"] = lambda options=images: fast.sample(PROMPT, **options)
            first = study.seconds(runs["ours, fast"])
            study.say(f"batch {batch_size}: compiled in {first:.1f} s")
            study.seconds(runs["ours, fast"])  # the graphs are recorded at the second call
            study.seconds(runs["ours, fast"])
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(study.arguments.repeats):
            for name, run in runs.items():
                seconds[name].append(study.seconds(run))
        for name, run in runs.items():
            row = {"name": name, "batch_size": batch_size, "median": statistics.median(seconds[name])}
            row |= {"fastest": min(seconds[name]), "ratio": paired_ratio(seconds, name, "diffusers")}
            row["peak_GiB"] = study.memory(run)
            if name != "diffusers":
                row["stages"] = stages(study, fast if name == "ours, fast" else plain, batch_size)
            rows.append(row)
            study.say(json.dumps(row))
        study.results["speed"] = rows
        study.write()
    header = ["", "images", "s", "to diffusers", "peak GiB", "text ms", "steps ms", "decode ms", "one pass ms"]
    print(table(header, [speed_row(row) for row in rows]), flush=True)


def speed_row(row: dict[str, Any]) -> list[str]:
    parts = (
        [f"{1000 * row['stages'][part]:.1f}" for part in ("text", "steps", "decode", "one_pass")]
        if "stages" in row
        else [""] * 4
    )
    peak = "" if row["peak_GiB"] is None else f"{row['peak_GiB']:.1f}"
    return [row["name"], str(row["batch_size"]), f"{row['median']:.3f}", f"{row['ratio']:.2f}", peak, *parts]


def copied(model: StableDiffusion) -> Any:
    """The pipeline with a copy of its U-Net and its autoencoder, and the same text encoder."""
    parts = dict(model.pipe.components)
    parts |= {name: copy.deepcopy(parts[name]) for name in ("unet", "vae")}
    return type(model.pipe)(**parts, requires_safety_checker=False)


# -- equality ---------------------------------------------------------------------------------------------


def equality(study: Study) -> None:
    """The largest difference between the final latents of both loops, beside their own spread."""
    torch.backends.cudnn.allow_tf32 = False
    rows = []
    for dtype in dict.fromkeys((torch.float32, study.half)):
        model = stand_in("sd", full_size=study.full, device=str(study.device), dtype=dtype)
        for sampler in SCHEDULERS:
            if not study.has_time(f"equality of {sampler} in {dtype}"):
                continue
            wanted = theirs(study, model, sampler)(1, "latent").float()
            steps = model.steps(PROMPT, sampler=sampler, spacing="leading", **settings(study))
            difference = (final(steps) - wanted).abs()
            row = {"sampler": sampler, "dtype": str(dtype).removeprefix("torch."), "largest": float(difference.max())}
            row |= {"mean": float(difference.mean()), "std_of_latents": float(wanted.std())}
            row["finite"] = bool(wanted.isfinite().all() and difference.isfinite().all())
            rows.append(row)
            study.say(json.dumps(row))
        study.results["equality"] = rows
        study.write()
    header = ["sampler", "", "largest difference", "mean", "std of the latents"]
    cells = [[r["sampler"], r["dtype"], *(f"{r[k]:.2g}" for k in ("largest", "mean", "std_of_latents"))] for r in rows]
    print(table(header, cells), flush=True)


# -- pixels -----------------------------------------------------------------------------------------------


def pixels(study: Study) -> None:
    """The same U-Net where the picture itself is denoised: 48 times the numbers, 64 times the pixels."""
    model = stand_in("sd", device=str(study.device), dtype=study.half)  # for its schedule; a tiny one will do
    with study.device:
        unet = unet_of_sd(3, 3, study.side, full_size=study.full)
    unet = unet.to(study.half).eval().requires_grad_(False)
    width = unet.config.cross_attention_dim
    embeds = randn((2, 77, width), generators(2), study.device).to(study.half)
    rows = torch.arange(2, device=study.device)
    network = PromptedNetwork(unet, "sd", study.half, embeds)
    denoise = NetworkDenoiser(network, model.schedule, "eps", cond=rows[:1], uncond=rows[1:], guidance_scale=SCALE)
    x_T = randn((1, 3, study.side, study.side), generators(1), study.device)
    levels = model.levels(study.steps)
    flash = contextlib.nullcontext()
    if study.device.type == "cuda":
        flash = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION)
    with flash:
        study.say(f"pixels: the first pass took {study.seconds(lambda: denoise(x_T, levels[0])):.2f} s")
        each = [study.seconds(lambda: denoise(x_T, levels[0])) for _ in range(PIXEL_STEPS)]
        peak = study.memory(lambda: denoise(x_T, levels[0]))
    row = {
        "parameters": sum(p.numel() for p in unet.parameters()),
        "measured_steps": each,
        "seconds_a_step": statistics.median(each),
        "extrapolated_seconds": study.steps * statistics.median(each),
        "peak_GiB": peak,
    }
    study.results["pixels"] = row
    study.write()
    study.say(json.dumps(row))
    print(
        f"{study.side} x {study.side} x 3: {row['seconds_a_step']:.2f} s a guided step ({PIXEL_STEPS} measured), so "
        f"{row['extrapolated_seconds']:.0f} s for {study.steps} (extrapolated)",
        flush=True,
    )


PARTS = {"speed": speed, "equality": equality, "pixels": pixels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which; all, in this order, if none is named")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--backend", default="inductor", help="of torch.compile; eager for a rehearsal")
    parser.add_argument("--mode", default="reduce-overhead", help="of inductor; or max-autotune")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which nothing new begins")
    parser.add_argument("--out", type=Path, help="a JSON file, written anew after each part")
    study = Study(parser.parse_args())
    for name in study.arguments.parts or PARTS:
        if not study.has_time(name):
            continue
        study.say(name)
        try:
            PARTS[name](study)
        except Exception as error:  # the other parts may still be measured, on a machine that is lent for minutes
            study.results.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
            study.say(f"{name} failed: {type(error).__name__}: {error}")
        if study.device.type == "cuda":
            torch.cuda.empty_cache()
    study.write()
    print(json.dumps(study.results), flush=True)


if __name__ == "__main__":
    main()
