"""`diffusion-explained diagnose`: the fault of a network of one's own, by name."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from diffusion_explained.cli.options import AsJson
from diffusion_explained.messages import shortened, unknown_name


def diagnose(
    where: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CALLABLE",
            help="Your network, called as network(x, t, labels); or a function or class without arguments that makes "
            "it. The module is looked for in this folder first, and is run.",
        ),
    ],
    data: Annotated[
        str, typer.Option(help="What it was trained on: eight_gaussians or two_gaussians, as toy(...) draws them.")
    ] = "eight_gaussians",
    schedule: Annotated[str, typer.Option(help="linear, scaled_linear, cosine, sigmoid, flow or edm.")] = "linear",
    timesteps: Annotated[int, typer.Option(min=1, help="T of a DDPM schedule (num_train_timesteps).")] = 1000,
    prediction: Annotated[str, typer.Option(help="eps, x_0, v, flow, score or edm.")] = "eps",
    labels: Annotated[
        bool, typer.Option("--labels/--no-labels", help="Whether it takes labels; the null label is the last.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Name the fault of a network that you trained on a toy; exit code 1 if one was found."""
    from diffusion_explained.data.toys import gaussian_modes
    from diffusion_explained.metrics import diagnosis
    from diffusion_explained.schedules import SCHEDULES

    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    means, _ = gaussian_modes(data)
    made = SCHEDULES[schedule](**{} if schedule in ("flow", "edm") else {"num_train_timesteps": timesteps})
    found = diagnosis.diagnose(
        network_of(where), data, made, prediction, num_classes=len(means) if labels else None
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        typer.secho(found.fault or "no fault found", fg="red" if found.fault else "green")
        typer.echo(found.text)
        for name, error in list(found.errors.items())[:4]:
            typer.echo(f"  {error:8.4f}  {name}")
    raise typer.Exit(int(found.fault is not None))


def network_of(where: str) -> Any:
    """The callable at MODULE:CALLABLE; one that takes no arguments is called to make the network.

    Raises ValueError if there is no such module or callable, and for what the module itself raises, with its own words.
    """
    module_name, _, name = where.partition(":")
    if not module_name or not name.isidentifier():
        raise ValueError(
            f"Give the network as MODULE:CALLABLE, for instance my_training:network; got {shortened(where)}."
        )
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
        made = getattr(module, name, None)
        if not callable(made):
            raise ValueError(f"There is no callable {name} in {module_name}.")
        if isinstance(made, type) or (inspect.isfunction(made) and not inspect.signature(made).parameters):
            made = made()
    except (ValueError, OSError):
        raise
    except Exception as error:  # whatever the reader's module does
        raise ValueError(f"{where} could not be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if hasattr(made, "eval"):
        made.eval()
    return made
