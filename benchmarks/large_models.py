"""Stable Diffusion XL and FLUX.1 at true size with random weights: memory below a cap, and speed beside diffusers.

    python benchmarks/large_models.py --device cuda --out runs/large_models.json      # minutes on one GPU
    python benchmarks/large_models.py --size tiny --device cpu --backend eager        # a rehearsal

Speed and memory do not depend on the values of the weights, so none are downloaded: the parts are built from the
published configurations, on the GPU and in half precision. A part that would begin after --budget seconds is left out.

    memory     XL, one guided picture of 1024 x 1024: the peak in several ways to run it, below caps of 8, 12 and 24 GB,
               beside the forecast of `diffusion-explained doctor`
    xl         10 guided Euler steps of 1024 x 1024: diffusers, ours, ours compiled
    flux       FLUX.1 schnell, 4 steps of 1024 x 1024: the same
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from places import tried
from side_by_side import machine, paired_ratio, table

from diffusion_explained.files import atomic_path, check_file
from diffusion_explained.noise import generators
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion, stand_in, stand_ins
from diffusion_explained.stable_diffusion.families import FAMILIES, family_of_pipeline
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.float8 import to_float8
from diffusion_explained.stable_diffusion.forecasts import forecast_of_parts
from diffusion_explained.stable_diffusion.latents import decode_in_tiles
from diffusion_explained.stable_diffusion.listing import HOLD_WEIGHTS
from diffusion_explained.stable_diffusion.loading import STAND_IN, of_pipeline
from diffusion_explained.stable_diffusion.memory import NotEnoughMemoryError
from diffusion_explained.stable_diffusion.part_sizes import stored_of_module
from diffusion_explained.stable_diffusion.single_files import facts_of

PROMPT, NEGATIVE, SEED = "a photo of an astronaut riding a horse on the sea", "blurry", 0
CAPS = (8, 12, 24)  # GB
WAYS: dict[str, dict[str, bool]] = {
    "as it is": {},
    "decoded in parts": {"in_parts": True},
    "offload": {"offload": True},
    "offload, decoded in parts": {"offload": True, "in_parts": True},
    "float8, decoded in parts": {"float8": True, "in_parts": True},
}


def part_of(name: str, facts: dict[str, Any], tokenizer: Any, device: torch.device) -> Any:
    """A part in its published configuration with random weights, in torch's default dtype."""
    library, called = facts["model_index"][name]
    with device:
        if library == "diffusers":
            return getattr(diffusers, called).from_config({**facts[name], "_class_name": called})
        of_class = getattr(transformers, called)
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        clip = called.startswith("CLIP")
        return of_class(of_class.config_class(**{**facts[name], **(ends if clip else {})}))


def pipeline(facts: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline of a published model, at true size with random weights."""
    index = facts["model_index"]
    first, second = stand_ins._tokenizer(size=49408), stand_ins._tokenizer(pad="!", size=49408)
    tokens = {"tokenizer": first, "tokenizer_2": second if "tokenizer_2" in index else None}
    torch.set_default_dtype(dtype)
    try:
        parts = {name: part_of(name, facts, first, device) for name in HOLD_WEIGHTS if name in facts and name in index}
    finally:
        torch.set_default_dtype(torch.float32)
    if index["_class_name"] == "FluxPipeline":
        tokens["tokenizer_2"] = stand_ins._t5(64)[1]
    scheduler = getattr(diffusers, index["scheduler"][1]).from_config(facts["scheduler"])
    options = {"add_watermarker": False} if "add_watermarker" in index else {}
    return getattr(diffusers, index["_class_name"])(**parts, **tokens, scheduler=scheduler, **options)


class Study:
    """The settings, the clock, and the results so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.started = arguments, time.perf_counter()
        self.device, self.full = torch.device(arguments.device), arguments.size == "full"
        self.side = 1024 if self.full else 64
        self.results: dict[str, Any] = {"machine": machine(), "size": arguments.size}

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", flush=True)

    def write(self) -> None:
        if self.arguments.out:
            with atomic_path(self.arguments.out) as part:
                part.write_text(json.dumps(self.results, indent=1))

    def seconds(self, run: Callable[[], object]) -> float:
        """Seconds of one run, from an idle device to an idle device."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def built(self, name: str) -> Any:
        """A pipeline on the device, in float16, FLUX.1 in bfloat16; or for a rehearsal a tiny one."""
        half = torch.bfloat16 if name == "flux_schnell" else torch.float16
        if self.full:
            return pipeline(facts_of(name), self.device, half)
        if name == "sdxl":
            return stand_in("sdxl", device=self.device).pipe
        return tiny_flux().to(self.device)


def tiny_flux() -> Any:
    """FLUX.1 with networks of a few layers."""
    facts = {name: dict(part) for name, part in facts_of("flux_schnell").items()}
    facts["transformer"] |= {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2}
    facts["text_encoder_2"] |= {"num_layers": 1, "d_ff": 64}
    facts["text_encoder"] |= {"num_hidden_layers": 1}
    facts["vae"] |= {"block_out_channels": [32, 32, 32, 32]}
    return pipeline(facts, torch.device("cpu"), torch.float32)


# -- memory -----------------------------------------------------------------------------------------------


def memory(study: Study) -> None:
    """The peak of XL in several ways below several caps, beside the forecast."""
    pipe = study.built("sdxl").to("cpu")
    study.say("built XL")
    facts = facts_of("sdxl")
    stored = {name: stored_of_module(getattr(pipe, name)) for name in HOLD_WEIGHTS if getattr(pipe, name, None)}
    found = forecast_of_parts(
        "XL", FAMILIES["sdxl"], stored, facts, height=study.side, width=study.side, batch_size=1, guided=True
    )
    rows = study.results.setdefault("memory", [])
    for way, changes in WAYS.items():
        need = found.need("float16", **changes)
        for cap in CAPS:
            row = {
                "way": way,
                "cap_GB": cap,
                "forecast_GB": need.peak / 1e9,
                "fits_by_forecast": need.peak <= cap * 1e9,
            }
            rows.append(row | capped(study, pipe, cap, **changes))
            study.say(json.dumps(rows[-1]))
            study.write()
    header = ["way", "cap GB", "forecast GB", "fits", "ran", "peak GB", "reserved GB", "s"]
    keys = ("way", "cap_GB", "forecast_GB", "fits_by_forecast", "ran", "peak_GB", "reserved_GB", "seconds")
    cells = [[f"{row[k]:.2f}" if isinstance(row.get(k), float) else str(row.get(k, "")) for k in keys] for row in rows]
    print(table(header, cells), flush=True)


def capped(
    study: Study, pipe: Any, cap: int, *, offload: bool = False, in_parts: bool = False, float8: bool = False
) -> dict[str, Any]:
    """Run XL with at most so many GB: whether it ran, and the most that was allocated and reserved."""
    cuda = study.device.type == "cuda"
    pipe.remove_all_hooks()
    pipe.to("cpu")
    pipe.vae.disable_tiling()
    pipe.vae.disable_slicing()
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(cap * 1e9 / torch.cuda.mem_get_info()[1])
        torch.cuda.reset_peak_memory_stats()
    if float8:
        to_float8(pipe.unet)
    row: dict[str, Any] = {"ran": True}
    start = time.perf_counter()
    try:
        if offload and cuda:
            pipe.enable_model_cpu_offload(device=study.device)
        else:
            pipe.to(study.device)
        if in_parts:
            pipe.vae.enable_slicing()
            decode_in_tiles(pipe.vae, 8)
        model = of_pipeline(pipe, FAMILIES["sdxl"], "XL with random weights", STAND_IN)
        size = {"height": study.side, "width": study.side}
        model.sample(PROMPT, negative=NEGATIVE, num_inference_steps=3, guidance_scale=5.0, **size)
    except (torch.OutOfMemoryError, NotEnoughMemoryError, ValueError) as error:
        row = {"ran": False, "error": str(error)[:120]}
    row["seconds"] = time.perf_counter() - start
    if cuda:
        row |= {
            "peak_GB": torch.cuda.max_memory_allocated() / 1e9,
            "reserved_GB": torch.cuda.max_memory_reserved() / 1e9,
        }
        torch.cuda.set_per_process_memory_fraction(1.0)
    return row


# -- speed ------------------------------------------------------------------------------------------------


def xl(study: Study) -> None:
    """XL: 10 guided steps."""
    settings = {"num_inference_steps": 10 if study.full else 3, "guidance_scale": 5.0}
    timed(study, "sdxl", settings | {"negative": NEGATIVE}, settings | {"negative_prompt": NEGATIVE})


def flux(study: Study) -> None:
    """FLUX.1 schnell: 4 steps."""
    settings = {"num_inference_steps": 4}
    timed(study, "flux_schnell", settings | {"guidance_scale": 1.0}, settings | {"guidance_scale": 0.0})


def timed(study: Study, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Time diffusers, ours and ours compiled in turn, each from the prompt to the decoded picture."""
    pipe = study.built(name)
    pipe.set_progress_bar_config(disable=True)
    own = copy.copy(pipe)  # with an autoencoder of its own: diffusers moves XL's between two dtypes, and ours stays
    vars(own)["vae"] = copy.deepcopy(pipe.vae)
    family = family_of_pipeline(type(pipe).__name__)
    model: StableDiffusion = of_pipeline(pipe, family, f"{name} with random weights", STAND_IN)
    size = {"height": study.side, "width": study.side}
    study.say(f"built {name}, {sum(model.parameters().values()) / 1e6:.0f} M parameters")
    runs: dict[str, Callable[[], object]] = {
        "diffusers": lambda: own(PROMPT, generator=generators(1, SEED), output_type="pt", **size, **theirs),
        "ours": lambda: model.sample(PROMPT, seed=SEED, **size, **ours),
    }
    plain = final(model.steps(PROMPT, seed=SEED, **size, **ours))
    seconds: dict[str, list[float]] = {key: [study.seconds(run)] for key, run in runs.items()}
    study.say(f"first runs: {json.dumps(seconds)}")
    for _ in range(study.arguments.repeats):
        for key, run in runs.items():
            seconds[key].append(study.seconds(run))
    difference = None
    if not study.arguments.uncompiled:
        # compiling changes the layout of the weights that both share, so the compiled model is timed last
        fast = accelerate(model, backend=study.arguments.backend, mode=study.arguments.mode)
        run_fast = partial(fast.sample, PROMPT, seed=SEED, **size, **ours)
        study.say(f"{name}: compiled in {study.seconds(run_fast):.1f} s")
        for _ in range(2):  # the graphs are recorded at the second call
            run_fast()
        seconds["ours, fast"] = [study.seconds(run_fast) for _ in range(study.arguments.repeats + 1)]
        latents = final(fast.steps(PROMPT, seed=SEED, **size, **ours))
        difference = float((latents - plain).abs().mean() / plain.std())
    rows = [
        {"name": key, "median": statistics.median(each[1:]), "fastest": min(each[1:]), "seconds": each}
        for key, each in seconds.items()
    ]
    paired = paired_ratio({key: each[1:] for key, each in seconds.items()}, "ours", "diffusers")
    study.results[name] = {"rows": rows, "ours_to_diffusers": paired, "mean_difference_of_fast": difference}
    study.write()
    base = rows[0]["median"]
    cells = [
        [r["name"], *(f"{r[key]:.3f}" for key in ("median", "fastest")), f"{r['median'] / base:.2f}"] for r in rows
    ]
    print(table([name, "s", "fastest s", "to diffusers"], cells), flush=True)
    if difference is not None:
        study.say(f"fast: mean difference of the final latents {difference:.2g} of their standard deviation")


PARTS = {"memory": memory, "xl": xl, "flux": flux}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="the parts to measure [all, in this order]")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", default="inductor", help="of torch.compile; eager for a rehearsal")
    parser.add_argument("--uncompiled", action="store_true", help="leave the compiled models out")
    parser.add_argument("--mode", default="reduce-overhead", help="of inductor; or max-autotune")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no new part begins")
    parser.add_argument("--out", type=Path, help="a JSON file, rewritten after each part")
    arguments = parser.parse_args()
    if arguments.out:
        tried(parser, check_file, arguments.out)
    study = Study(arguments)
    for name in arguments.parts or PARTS:
        if time.perf_counter() - study.started > arguments.budget:
            study.say(f"left out, the budget is used up: {name}")
            continue
        study.say(name)
        try:
            PARTS[name](study)
        except Exception as error:  # the other parts may still be measured, on a machine that is lent for minutes
            study.results.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
            study.say(f"{name} failed: {type(error).__name__}: {error}")
        gc.collect()
        if study.device.type == "cuda":
            torch.cuda.empty_cache()
    study.write()


if __name__ == "__main__":
    main()
