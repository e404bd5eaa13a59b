"""The options and arguments that several commands of the command line share."""

from typing import Annotated

import typer

Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name that `doctor` lists, or a .safetensors file of your own.")
]
Steps = Annotated[int, typer.Option(help="Sampling steps (num_inference_steps).")]
Sampler = Annotated[str | None, typer.Option(help="ddpm, ddim, euler, heun, ...; by default the model's own.")]
Spacing = Annotated[
    str | None,
    typer.Option(help="leading, linspace, trailing, karras, exponential or beta; by default the schedule's own."),
]
Seed = Annotated[int, typer.Option(min=0, help="Image i starts from the noise of seed + i.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: the fastest one on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
