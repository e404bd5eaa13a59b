"""The command `diffusion-explained record`: record a run of Stable Diffusion in a file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from diffusion_explained.cli.options import Sampler, Seed, Spacing


def record(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What Stable Diffusion should draw.")],
    model: Annotated[
        str | None,
        typer.Option(
            help='owner/model on the hub, a folder, a .safetensors file, "micro" (this project\'s own small model), or '
            '"stand-in" (random weights). [Stable Diffusion 1.5]'
        ),
    ] = None,
    parts_from: Annotated[
        str | None,
        typer.Option(help="For a single file: a folder, or owner/model, whose parts are used where the file has none."),
    ] = None,
    vae: Annotated[
        str | None, typer.Option(help="A .safetensors file with another autoencoder of the same family.")
    ] = None,
    preview_decoder: Annotated[
        str | None, typer.Option(help="A TAESD of the model's latents: it draws the pictures of the steps, fast.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="A .safetensors file with a LoRA of the model; may be given several times.")
    ] = None,
    lora_scale: Annotated[float, typer.Option(help="How much of each LoRA is added; 0 is nothing.")] = 1.0,
    refiner: Annotated[
        str | None,
        typer.Option(help="For Stable Diffusion XL: its refiner: folder, file or owner/model, for the end."),
    ] = None,
    refiner_start: Annotated[
        float, typer.Option(help="The share of the way after which the refiner takes over from the model.")
    ] = 0.8,
    prediction: Annotated[
        str | None,
        typer.Option(help="For a single file of Stable Diffusion 2.x that does not say what it predicts: eps or v."),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="The negative prompt: what it should avoid.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps (num_inference_steps). [the model's own: 1 for a Turbo]")
    ] = None,
    sampler: Sampler = None,
    spacing: Spacing = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="1 is off; some model cards write 0.0 for off. [the model's own]")
    ] = None,
    seed: Seed = 0,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=4, help="How many images.")] = 1,
    size: Annotated[int | None, typer.Option(help="Pixels per side. [the size that the model was trained on]")] = None,
    image: Annotated[
        str | None, typer.Option(help="A picture to start from, or with --zoom to zoom out of; its middle square.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="With --image: 0 keeps it, 1 draws anew; 0.3 to 0.5 refine. [0.5]")
    ] = None,
    zoom: Annotated[
        float | None, typer.Option(help="Outpainting: --image becomes 1 / zoom as large, and the rest is painted; 2.")
    ] = None,
    resamplings: Annotated[
        int | None, typer.Option(min=1, help="With --zoom: paint by RePaint, each step this often. [replacement]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps, or cpu (minutes per picture). [a GPU]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16. [float16 on a GPU, float32 elsewhere]")
    ] = None,
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep on the GPU only the part that computes: less memory, and slower.")
    ] = False,
    in_parts: Annotated[
        bool, typer.Option("--in-parts", help="Decode picture by picture, and large ones in tiles: less memory.")
    ] = False,
    float8: Annotated[
        bool, typer.Option("--float8", help="Keep the network's weights in 8 bits: half of float16, and coarser.")
    ] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Compile the network for the GPU: the first picture waits, later ones do not."),
    ] = False,
    t5: Annotated[
        bool | None,
        typer.Option("--t5/--no-t5", help="For Stable Diffusion 3: load its T5, or leave it out. [if it is there]"),
    ] = None,
    safety_checker: Annotated[
        bool | None,
        typer.Option(
            "--safety-checker/--no-safety-checker",
            help="Load the safety checker that some models ship, or leave it out. [loaded if there is one]",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The trace, a .safetensors file.")] = Path("trace.safetensors"),
    yes: Annotated[bool, typer.Option("--yes", help="Download missing weights without asking.")] = False,
) -> None:
    """Record every step of a run of Stable Diffusion in a file of a few MB, which can be shown without a GPU."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out} is not a .safetensors file.")
    from tqdm import tqdm

    from diffusion_explained.files import check_file
    from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, MICRO
    from diffusion_explained.stable_diffusion.forecasts import dtype_named, shortage_of
    from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError
    from diffusion_explained.stable_diffusion.loading import load
    from diffusion_explained.stable_diffusion.pace import measure_pace
    from diffusion_explained.stable_diffusion.recording import record
    from diffusion_explained.stable_diffusion.stand_ins import stand_in
    from diffusion_explained.stable_diffusion.weights import find_weights, is_repository

    check_file(out)
    if image is None and (strength, zoom, resamplings) != (None, None, None):
        raise ValueError("--strength, --zoom and --resamplings belong to a picture: give --image too.")
    if (zoom is None and resamplings is not None) or (zoom is not None and strength is not None):
        raise ValueError("--strength refines a picture and --resamplings belongs to --zoom: give one or the other.")
    options: dict[str, Any] = {
        "safety_checker": safety_checker, "parts_from": parts_from, "vae": vae, "prediction": prediction, "t5": t5,
    }  # fmt: skip
    ways = {"offload": offload, "float8": float8}
    how: dict[str, Any] = {
        **ways, "slicing": in_parts, "tiling": in_parts, "fast": fast, "preview_decoder": preview_decoder,
    }  # fmt: skip
    if model == "stand-in":
        given = {**options, **how, "dtype": dtype}
        if unused := [name for name, value in given.items() if value not in (None, False)]:
            raise ValueError(f"The stand-in is made, and not loaded: leave the options out for {', '.join(unused)}.")
        loaded = stand_in(device="auto" if device is None else device)
    else:
        name = DEFAULT_MODEL if model is None else model
        of_type = None if dtype is None else dtype_named(dtype)
        weights = None
        try:
            with suppress(WeightsUnavailableError):  # load says what is missing
                weights = find_weights(name, **options)
                run: dict[str, Any] = {"height": size, "width": size, "batch_size": n, "guidance_scale": guidance_scale}
                if short := shortage_of(weights, device, of_type, **ways, in_parts=in_parts, **run):
                    typer.secho(short, fg="yellow", err=True)
            loaded = load(name, device, of_type, **how, **options)
        except WeightsUnavailableError as error:
            if weights is not None or name == MICRO or not is_repository(name):  # nothing to download
                raise
            _confirm_download(name, error, yes, safety_checker)
            loaded = load(name, device, of_type, **how, download=True, **options)
    more: dict[str, Any] = {}
    if refiner is not None:
        second = load(refiner, loaded.device, dtype, offload=offload, safety_checker=safety_checker)
        more = {"refiner": second, "refiner_start": refiner_start}
    for file in lora or ():
        loaded.load_lora(file, scale=lora_scale)
    if image is not None:
        more |= _of_picture(image, size or loaded.default_size, loaded.pixels, strength, zoom, resamplings)
    steps = loaded.default_num_inference_steps if steps is None else steps
    if loaded.device.type == "cpu" and loaded.label == "live" and not loaded.family.suits_cpu:
        side = size or loaded.default_size
        by = loaded.default_sampler if sampler is None else sampler
        minutes = measure_pace(loaded).estimate(steps, n, side, side, by) / 60
        typer.echo(f"About {minutes:.0f} minutes on this CPU, estimated from a few measured steps.")
    with tqdm(total=steps, unit="step", desc=loaded.name) as bar:
        trace = record(
            loaded,
            prompt,
            negative=negative,
            num_inference_steps=steps,
            sampler=sampler,
            spacing=spacing,
            guidance_scale=guidance_scale,
            seed=seed,
            batch_size=n,
            height=size,
            width=size,
            progress=lambda step: bar.update(),
            **more,
        )
    trace.save(out)
    taken = f"{steps} step{'s'[: steps > 1]} of {n} image{'s'[: n > 1]}"
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {trace.label}, {taken}")
    if cut := next((one["cut"] for one in trace.tokens[0]), ""):
        typer.secho(f"The prompt was too long; this part was cut off: {cut}", fg="yellow", err=True)


def _of_picture(
    file: str, side: int, pixels: int, strength: float | None, zoom: float | None, resamplings: int | None
) -> dict[str, Any]:
    """The options of `steps` for a picture to refine, or to zoom out of."""
    from diffusion_explained.data import load_image
    from diffusion_explained.stable_diffusion.outpainting import zoomed_out

    picture = load_image(file, side, 3)
    if zoom is None:
        return {"image": picture, "strength": 0.5 if strength is None else strength}
    canvas, mask = zoomed_out(picture, zoom, pixels)
    return {"image": canvas, "mask": mask, "resamplings": resamplings}


def _confirm_download(model: str, error: OSError, yes: bool, safety_checker: bool | None) -> None:
    """Show the size of the download and ask before it starts; re-raise the error if it is impossible or declined."""
    from diffusion_explained.data.hub import hub_is_reachable
    from diffusion_explained.stable_diffusion.downloads import download_size

    if not hub_is_reachable():
        raise error
    size = download_size(model, safety_checker=safety_checker)
    amount = "several GB" if size is None else f"{size:.1f} GB"
    typer.echo(f"The weights of {model} are not on this machine: {amount} to download.")
    if not yes and not typer.confirm("Download them?"):
        raise error
