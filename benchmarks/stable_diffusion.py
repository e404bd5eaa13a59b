"""Stable Diffusion 1.5 at full size with random weights: our loop beside that of diffusers, in one process.

    python benchmarks/stable_diffusion.py --device cuda --out runs/stable_diffusion.json     # minutes on one GPU
    python benchmarks/stable_diffusion.py --size tiny --device cpu --backend eager           # a rehearsal

Speed does not depend on the values of the weights, so none are downloaded: the U-Net (860 M parameters), the
autoencoder (84 M) and the text encoder (123 M) are built from the published configuration. Each part is written to
--out when it is done; a part that would begin after --budget seconds is left out, with a message. A complete run at
full size is kept in diffusion_explained/measured/, for the course.

    speed      30 DDIM steps with guidance 7.5 and decoding: diffusers, ours, ours compiled; by stage; memory
    equality   the final latents of both loops, for four samplers, in float32 and float16
    pixels     the same U-Net on 512 x 512 x 3: a few steps, and the time of 30 by extrapolation
    batches    speed again, for the other --batches
    where      the compiled network with and without joined products: each stage, and a pass on the GPU by kernels
"""

import argparse
import contextlib
import copy
import gc
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion
from diffusers.schedulers import scheduling_euler_ancestral_discrete
from places import tried
from side_by_side import machine, paired_ratio, table

from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.files import atomic_path, check_file, check_folder
from diffusion_explained.measured import MEASURED, write_measured
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
# GPU kernels by their names; the first kind that matches
KERNELS = {
    "norms and sums": re.compile("^triton_(poi|red|per)"),  # their names contain those of the layers around
    "attention": re.compile("flash|fmha|attention|sdpa", re.IGNORECASE),
    "convolutions": re.compile("conv|fprop|implicit", re.IGNORECASE),
    "products": re.compile("gemm|cutlass|nvjet|cublas|splitk|_mm_", re.IGNORECASE),
    "rest": re.compile(""),
}


class Study:
    """The settings, the clock, and the results so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.started = arguments, time.perf_counter()
        self.device, self.full = torch.device(arguments.device), arguments.size == "full"
        self.steps = 30 if self.full else 3
        self.side = 512 if self.full else 64
        self.half = torch.float16 if self.device.type == "cuda" else torch.float32
        self.results: dict[str, Any] = {"machine": machine(), "size": arguments.size, "steps": self.steps}
        self.results["mode"] = f"{arguments.backend}, {arguments.mode}"

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", flush=True)

    def has_time(self, what: str) -> bool:
        """Whether there is time left; if not, note `what` as left out."""
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
        """Seconds of one run, from an idle GPU to an idle GPU."""
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def memory(self, run: Callable[[], object]) -> float | None:
        """Peak GiB that a run allocates, in addition to the memory allocated before (the weights)."""
        if self.device.type != "cuda":
            return None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**30

    def reserved(self) -> float | None:
        """GiB that stay reserved while nothing runs: the weights, and the memory of CUDA graphs."""
        if self.device.type != "cuda":
            return None
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved() / 2**30

    @cached_property
    def plain(self) -> StableDiffusion:
        """The model in half precision, not compiled."""
        model = stand_in("sd", full_size=self.full, device=str(self.device), dtype=self.half)
        self.results["parameters"] = model.parameters()
        self.results["weights_GiB"] = sum(p.nbytes for part in modules(model) for p in part.parameters()) / 2**30
        self.say(f"built, {sum(model.parameters().values()) / 1e6:.0f} M parameters, {self.half}")
        return model

    @cached_property
    def fast(self) -> StableDiffusion:
        """The same model, compiled."""
        return self.compiled()

    def compiled(self, *, join: bool = True) -> StableDiffusion:
        """The model compiled; it has its own copy of the weights, because compiling changes their layout."""
        parts = dict(self.plain.pipe.components)
        parts |= {name: copy.deepcopy(parts[name]) for name in ("unet", "vae", "text_encoder")}
        pipe = type(self.plain.pipe)(**parts, requires_safety_checker=False)
        twin = of_pipeline(pipe, self.plain.family, self.plain.name, self.plain.label)
        return accelerate(twin, backend=self.arguments.backend, mode=self.arguments.mode, join=join)


def modules(model: StableDiffusion) -> list[torch.nn.Module]:
    return [part for part in model.pipe.components.values() if isinstance(part, torch.nn.Module)]


def theirs(study: Study, model: StableDiffusion, sampler: str = "ddim") -> Callable[..., torch.Tensor]:
    """diffusers' own pipeline with the same parts, and its scheduler for that sampler."""
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


@contextlib.contextmanager
def drawn_in_float32() -> Iterator[None]:
    """Make diffusers draw noise in float32, like ours; in float16 it would draw another stream of numbers."""
    with contextlib.ExitStack() as patches:
        for module in (pipeline_stable_diffusion, scheduling_euler_ancestral_discrete):
            draw = module.randn_tensor

            def randn_tensor(shape: Any, *, dtype: torch.dtype, draw: Callable = draw, **options: Any) -> torch.Tensor:
                return draw(shape, dtype=torch.float32, **options).to(dtype)

            patches.enter_context(mock.patch.object(module, "randn_tensor", randn_tensor))
        yield


def settings(study: Study, batch_size: int = 1) -> dict[str, Any]:
    """Our settings, for `StableDiffusion.steps` and `sample`."""
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
    """Median seconds of text, steps and decoding, and of one pass of the network on 2B latents, each measured "
    "separately."""
    text = model.encode_text(PROMPT, NEGATIVE)
    levels = model.levels(study.steps)
    start = model.prepare(SEED, batch_size, levels=levels, height=study.side, width=study.side)
    denoise = model.denoiser(text, SCALE, start=start)
    x_0 = final(ddim(denoise, start.x_t, levels))
    runs = {
        "text": lambda: model.encode_text(PROMPT, NEGATIVE),
        "steps": lambda: final(ddim(denoise, start.x_t, levels)),
        "decode": lambda: model.decode(x_0),
        "one_pass": lambda: denoise(start.x_t, levels[0]),  # with guidance and conversion
    }
    return {
        name: statistics.median(study.seconds(run) for _ in range(study.arguments.repeats + 1))
        for name, run in runs.items()
    }


def speed(study: Study) -> None:
    """Measure the first batch size."""
    timed(study, study.arguments.batches[:1])


def batches(study: Study) -> None:
    """Measure the other batch sizes."""
    timed(study, study.arguments.batches[1:])


def timed(study: Study, batch_sizes: list[int]) -> None:
    """Time diffusers, ours, and ours compiled, in turn; then each alone, by stage."""
    rows = study.results.setdefault("speed", [])
    for batch_size in batch_sizes:
        options = settings(study, batch_size)
        diffusers_run = theirs(study, study.plain)
        runs: dict[str, Callable[[], object]] = {
            "diffusers": lambda n=batch_size, run=diffusers_run: run(n),
            "ours": lambda options=options: study.plain.sample(PROMPT, **options),
        }
        for run in runs.values():
            run()
        graphs = None
        if study.has_time(f"compiled, batch {batch_size}"):
            fast = study.fast
            before = study.reserved()
            runs["ours, fast"] = lambda options=options, fast=fast: fast.sample(PROMPT, **options)
            first = study.seconds(runs["ours, fast"])
            study.say(f"batch {batch_size}: compiled in {first:.1f} s")
            for _ in range(2):  # the graphs of the decoder are recorded at its second call
                runs["ours, fast"]()
            graphs = None if before is None else study.reserved() - before
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(study.arguments.repeats):
            for name, run in runs.items():
                seconds[name].append(study.seconds(run))
        for name, run in runs.items():
            row = {"name": name, "batch_size": batch_size, "median": statistics.median(seconds[name])}
            row |= {"fastest": min(seconds[name]), "ratio": paired_ratio(seconds, name, "diffusers")}
            row |= {"run_GiB": study.memory(run), "graphs_GiB": graphs if name == "ours, fast" else None}
            if name != "diffusers":
                row["stages"] = stages(study, study.fast if name == "ours, fast" else study.plain, batch_size)
            rows.append(row)
            study.say(json.dumps(row))
        study.write()
    header = ["", "images", "s", "to diffusers", "run GiB", "graphs GiB", "text ms", "steps ms", "decode ms", "pass ms"]
    print(table(header, [speed_row(row) for row in rows if row["batch_size"] in batch_sizes]), flush=True)


def speed_row(row: dict[str, Any]) -> list[str]:
    def number(value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    stage = row.get("stages", {})
    milliseconds = [number(1000 * stage[part]) if stage else "" for part in ("text", "steps", "decode", "one_pass")]
    gigabytes = [number(row["run_GiB"]), number(row["graphs_GiB"])]
    return [
        row["name"],
        str(row["batch_size"]),
        number(row["median"], 3),
        number(row["ratio"], 2),
        *gigabytes,
        *milliseconds,
    ]


# -- equality ---------------------------------------------------------------------------------------------


def equality(study: Study) -> None:
    """The largest difference between the final latents of both loops, beside their standard deviation.

    In half precision diffusers also keeps the latents in half precision, while ours stay in float32; so the row also
    has the difference of each loop to diffusers in float32.
    """
    torch.backends.cudnn.allow_tf32 = False
    rows, exact = [], {}
    for dtype in dict.fromkeys((torch.float32, study.half)):
        model = stand_in("sd", full_size=study.full, device=str(study.device), dtype=dtype)
        for sampler in SCHEDULERS:
            if not study.has_time(f"equality of {sampler} in {dtype}"):
                continue
            with drawn_in_float32():
                expected = theirs(study, model, sampler)(1, "latent").float()
            got = final(model.steps(PROMPT, sampler=sampler, spacing="leading", **settings(study)))
            reference = exact.setdefault(sampler, expected)
            row = {"sampler": sampler, "dtype": str(dtype).removeprefix("torch."), "steps": study.steps}
            row |= {"largest": float((got - expected).abs().max()), "mean": float((got - expected).abs().mean())}
            row |= {"std_of_latents": float(expected.std()), "finite": bool((got - expected).isfinite().all())}
            if dtype != torch.float32:
                row["mean_ours_to_float32"] = float((got - reference).abs().mean())
                row["mean_theirs_to_float32"] = float((expected - reference).abs().mean())
            rows.append(row)
            study.say(json.dumps(row))
        study.results["equality"] = rows
        study.write()
    names = ["largest", "mean", "std_of_latents", "mean_ours_to_float32", "mean_theirs_to_float32"]
    cells = [[r["sampler"], r["dtype"], *(f"{r[name]:.2g}" if name in r else "" for name in names)] for r in rows]
    print(table(["sampler", "dtype", *(name.replace("_", " ") for name in names)], cells), flush=True)


# -- pixels -----------------------------------------------------------------------------------------------


def pixels(study: Study) -> None:
    """The same U-Net on the pixels of the picture: 48 times as many numbers, 64 times as many pixels."""
    model = stand_in("sd", device=str(study.device), dtype=study.half)  # for its schedule; a tiny one is enough
    with study.device:
        unet = unet_of_sd(3, 3, study.side, full_size=study.full)
    unet = unet.to(study.half).eval().requires_grad_(False)
    width = unet.config.cross_attention_dim
    embeds = randn((2, 77, width), generators(2), study.device).to(study.half)
    network = PromptedNetwork(unet, "sd", study.half)
    cond, uncond = (embeds[:1],), (embeds[1:],)
    denoise = NetworkDenoiser(network, model.schedule, "eps", cond=cond, uncond=uncond, guidance_scale=SCALE)
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
        "side": study.side,
        "dtype": str(study.half).removeprefix("torch."),
        "parameters": sum(p.numel() for p in unet.parameters()),
        "measured_steps": each,
        "seconds_a_step": statistics.median(each),
        "extrapolated_seconds": study.steps * statistics.median(each),
        "run_GiB": peak,
    }
    study.results["pixels"] = row
    study.write()
    study.say(json.dumps(row))
    print(
        f"{study.side} x {study.side} x 3: {row['seconds_a_step']:.2f} s per guided step ({PIXEL_STEPS} measured), so "
        f"{row['extrapolated_seconds']:.0f} s for {study.steps} (extrapolated)",
        flush=True,
    )


# -- where the time goes ----------------------------------------------------------------------------------


def kernels(study: Study, run: Callable[[], object], repeats: int = 10) -> dict[str, float]:
    """Milliseconds on the GPU of one run, by kind of kernel; none without a GPU."""
    if study.device.type != "cuda":
        return {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            run()
        study.wait()
    found = dict.fromkeys(KERNELS, 0.0)
    for event in profile.key_averages():
        kind = next(kind for kind, pattern in KERNELS.items() if pattern.search(event.key))
        found[kind] += event.self_device_time_total / 1000 / repeats
    return found


def where(study: Study) -> None:
    """Measure the compiled model with and without joined products, after a few runs of each."""
    rows = study.results.setdefault("where", [])
    options = settings(study)
    expected = final(study.plain.steps(PROMPT, **options))
    for name, join in (("joined", True), ("not joined", False)):
        if not study.has_time(f"compiled, {name}"):
            continue
        model = study.fast if join else study.compiled(join=False)
        study.say(f"{name}: compiled in {study.seconds(lambda model=model: model.sample(PROMPT, **options)):.1f} s")
        rows.append({"name": name} | parts_of_time(study, model, expected))
        study.say(json.dumps(rows[-1]))
        study.write()


def parts_of_time(study: Study, model: StableDiffusion, expected: torch.Tensor) -> dict[str, Any]:
    """Seconds of a picture and its stages, kernels of a pass, and the mean difference from the expected latents."""
    options = settings(study)
    for _ in range(3):
        model.sample(PROMPT, **options)
    each = [study.seconds(lambda: model.sample(PROMPT, **options)) for _ in range(2 * study.arguments.repeats + 1)]
    start = model.prepare(SEED, 1, levels=model.levels(study.steps), height=study.side, width=study.side)
    denoise = model.denoiser(model.encode_text(PROMPT, NEGATIVE), SCALE, start=start)
    row: dict[str, Any] = {"median": statistics.median(each), "fastest": min(each), "stages": stages(study, model, 1)}
    row["pass_ms"] = kernels(study, lambda: denoise(start.x_t, start.levels[0]))
    got = final(model.steps(PROMPT, **options))
    return row | {"mean_difference": float((got - expected).abs().mean()), "std_of_latents": float(expected.std())}


PARTS = {"speed": speed, "equality": equality, "pixels": pixels, "batches": batches, "where": where}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="the parts to measure [all, in this order]")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--backend", default="inductor", help="of torch.compile; eager for a rehearsal")
    parser.add_argument("--mode", default="reduce-overhead", help="of inductor; or max-autotune")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no new part begins")
    parser.add_argument("--out", type=Path, help="a JSON file, rewritten after each part")
    arguments = parser.parse_args()
    if arguments.out:
        tried(parser, check_file, arguments.out)
    if arguments.size == "full" and not arguments.parts:
        tried(parser, check_folder, MEASURED)
    study = Study(arguments)
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
    if study.full and not study.arguments.parts and not study.results.keys() & {"failed", "left_out"}:
        others = {name: value for name, value in study.results.items() if name != "speed"}
        write_measured("stable_diffusion", {**others, "rows": study.results["speed"]})
    print(json.dumps(study.results), flush=True)


if __name__ == "__main__":
    main()
