"""The part of `diffusion-explained sample` that writes texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def sample_text(
    name: str,
    text: str | None,
    n: int,
    steps: int | None,
    sampler: str | None,
    seed: int,
    device: str,
    out: Path | None,
    of_images: dict[str, Any],
) -> None:
    """Write n texts of a text model to a .txt file, one per line, and print them.

    text, steps, sampler and seed: as for `TextModel.steps`. of_images: the options that only images have, by their
    names; raises ValueError for one that is given, and for a file that is no .txt.
    """
    from diffusion_explained.devices import choose_device
    from diffusion_explained.discrete import load_text
    from diffusion_explained.files import atomic_path, check_file

    for option, value in of_images.items():
        if value is not None:
            raise ValueError(f"{name} writes texts: leave --{option} out, which is for images.")
    out = Path("samples.txt") if out is None else out
    if out.suffix != ".txt":
        raise ValueError(f"--out {out} is not a .txt file, and {name} writes texts.")
    check_file(out)
    model = load_text(name, choose_device(device))
    options = {"seed": seed, "batch_size": n, "sampler": "ancestral" if sampler is None else sampler}
    texts = model.sample(text or "", 64 if steps is None else steps, **options)
    with atomic_path(out) as part:
        part.write_text("".join(f"{one}\n" for one in texts), encoding="utf-8")
    for one in texts:
        typer.echo(one)
    typer.echo(f"{out}: {n} text{'s' if n > 1 else ''} of {model.length} letters")
