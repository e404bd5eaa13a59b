"""The command `diffusion-explained micro retrieval`: train the network that judges what the micro model draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusion_explained.cli_options import Device


def retrieval(
    seconds: Annotated[float | None, typer.Option(help="Train for so long.")] = None,
    images: Annotated[int | None, typer.Option(help="Train on so many scenes.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Scenes a step.")] = 512,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make up scenes.")] = 0,
    device: Device = "auto",
    sample: Annotated[bool, typer.Option("--sample", help="Only the emoji that travel with the package.")] = False,
    out: Annotated[Path, typer.Option(help="The weight file; checkpoints are kept beside it.")] = Path(
        "runs/micro_retrieval.safetensors"
    ),
) -> None:
    """Train the network that tells which words fit a picture; the same command again goes on where it was stopped."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out} is no .safetensors file.")
    from tqdm import tqdm

    from diffusion_explained.devices import choose_device
    from diffusion_explained.micro.emoji import load_emoji, load_emoji_sample
    from diffusion_explained.micro.retrieval import load_retrieval
    from diffusion_explained.micro.retrieval_training import train_retrieval
    from diffusion_explained.micro.tokens import load_tokenizer

    emoji = load_emoji_sample() if sample else load_emoji()
    training = train_retrieval(
        emoji,
        load_tokenizer(),
        choose_device(device),
        out=out,
        seconds=seconds,
        images=images,
        batch_size=batch_size,
        workers=workers,
    )
    with tqdm(total=100, unit="%", desc="retrieval") as bar:
        for record in training:
            bar.set_postfix_str(f"loss {record.loss:.3f}, {record.images_per_second:.0f} scenes/s", refresh=False)
            bar.update(100 * record.progress - bar.n)
    for split, found in load_retrieval(out).card["accuracy"].items():
        top1, top5 = found["top1"], found["top5"]
        typer.echo(
            f"{split}: the right name of {found['among']} comes first for {top1['share']:.1%} of {top1['n']} emoji, "
            f"among the first five for {top5['share']:.1%}"
        )
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, with its card inside")
