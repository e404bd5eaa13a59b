"""`diffusion-explained models`, and what `doctor MODEL` says: what is on this machine, and how it fits."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from diffusion_explained.cli.options import AsJson


def memory_report(model: str) -> None:
    """Print the forecast of a model's memory, what is free here, and which ways to run it fit."""
    from diffusion_explained.devices import choose_device
    from diffusion_explained.stable_diffusion.forecasts import GB, forecast, room_on, usual_need, what_fits

    found, device = forecast(model), choose_device()
    typer.echo(str(found))
    if (room := room_on(device)) is not None:
        here = what_fits(found, room, usual_need(found, device), device)
        typer.echo(f"The device {device.type} has {room / GB:.1f} GB free. {here}")


def models(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Folders with models: diffusers', ComfyUI's, A1111's, or with .safetensors files. [the hub's cache]",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models, LoRAs and autoencoders on this machine: what each is, its size, and whether it fits."""
    from diffusion_explained.devices import choose_device
    from diffusion_explained.stable_diffusion.forecasts import how_it_fits
    from diffusion_explained.stable_diffusion.on_disk import cache_home, models_on_disk

    found, device = models_on_disk(folders or ()), choose_device()
    ways = [how_it_fits(one.forecast, device) for one in found]
    if as_json:
        rows = [
            {"name": one.name, "kind": one.kind, "title": one.title, "bytes": one.size, "why": one.why, "fits": way}
            for one, way in zip(found, ways, strict=True)
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for one, way in zip(found, ways, strict=True):
        typer.echo(f"{one.name}: {', '.join(filter(None, (one.kind, one.title, one.size_in_words, way)))}")
        if one.why:
            typer.echo(f"    {one.why}")
    if not found:
        where = ", ".join(folders) if folders else f"the hub's cache ({cache_home()})"
        typer.echo(f"No model is in {where}. Name a folder: diffusion-explained models ~/ComfyUI")
