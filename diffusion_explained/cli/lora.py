"""The command `diffusion-explained lora`: teach micro a style or a thing from a few pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusion_explained.cli.micro import Restart, restart_or_resume, show_training
from diffusion_explained.cli.options import Device


def lora(
    context: typer.Context,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", help="From 5 to 20 pictures of any size, or folders of them.")
    ],
    name: Annotated[str, typer.Option(help='The new word: "a cat, NAME style", or with --thing "a NAME".')],
    out: Annotated[Path, typer.Option(help="The folder of the LoRA and its checkpoints.")],
    subjects: Annotated[
        bool, typer.Option("--subjects", help='Each file is named after what it shows: cat.png is "cat, NAME style".')
    ] = False,
    thing: Annotated[bool, typer.Option("--thing", help="The pictures show one thing, not a style.")] = False,
    rank: Annotated[int, typer.Option(min=1, max=64, help="r, the rank of each change.")] = 4,
    alpha: Annotated[float | None, typer.Option(help="The change is (alpha / r) B A. [r]")] = None,
    text_encoder: Annotated[
        bool, typer.Option("--text-encoder", help="Change the text encoder's attention, too.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of 8 pictures.")] = 300,
    learning_rate: Annotated[float | None, typer.Option(help="The learning rate of AdamW.")] = None,
    prior: Annotated[
        float,
        typer.Option(
            min=0,
            help="The weight of DreamBooth's prior loss, on pictures of other things that the base draws; each step "
            "takes twice as long.",
        ),
    ] = 0.0,
    model: Annotated[str, typer.Option(help="The base: micro, or a folder with a micro of your own.")] = "micro",
    device: Device = "auto",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The seed of A, the times and the noise.")] = 0,
    restart: Restart = False,
) -> None:
    """Teach micro a style or a thing, in about three minutes; the same command again resumes a stopped training.

    Use it with record --model micro --lora OUT, or load("micro").load_lora(OUT) in Python.
    """
    from diffusion_explained.micro.lora_pictures import (
        caption_with,
        check_name,
        draw_prior,
        encode_pictures,
        find_pictures,
        read_pictures,
        subject_of,
    )

    if thing and subjects:
        raise ValueError("--thing says what every picture shows, and --subjects that each shows something else.")
    word, files = check_name(name), find_pictures(pictures)
    captions = [caption_with(word, subject_of(file.name) if subjects else None, thing=thing) for file in files]
    images = read_pictures(files)  # all of them, before anything is loaded or trained
    from diffusion_explained.micro.lora import LoRA, LoRAConfig, save_lora, train_lora
    from diffusion_explained.micro.training_runs import CHECKPOINTS, training_card
    from diffusion_explained.stable_diffusion.loading import load
    from diffusion_explained.training.folder_lock import hold

    rate: dict[str, Any] = {} if learning_rate is None else {"learning_rate": learning_rate}
    batch = LoRAConfig().batch_size
    config = LoRAConfig(images=steps * batch, prior=prior, seed=seed, **rate)
    context.with_resource(hold(out, "--out "))
    restart_or_resume(out, restart)
    base = load(model, device)
    change = LoRA(base, rank, alpha=alpha, text_encoder=text_encoder, seed=seed)
    shown = sorted(set(captions))
    typer.echo(f"{len(files)} pictures: {', '.join(map(repr, shown[:3]))}{' ...' if len(shown) > 3 else ''}")
    encoded = encode_pictures(base, images, captions)
    others = draw_prior(base, seed=seed) if prior else None
    training = train_lora(
        change, base, encoded, config, prior=others, checkpoints=out / CHECKPOINTS, checkpoint_every=checkpoint_every
    )
    record = show_training(training, word, out)
    card = {"captions": shown, "rank": rank, "prior": prior, **training_card(config, record, base.device)}
    file = save_lora(out, change, base, card)
    typer.echo(f"{file}: {file.stat().st_size / 1000:.0f} KB")
    typer.echo(f'Draw with it: diffusion-explained record "{_example(word, thing)}" --model {model} --lora {out}')


def _example(word: str, thing: bool) -> str:
    from diffusion_explained.micro.lora_pictures import caption_with

    return caption_with(word, "a cat", thing=thing)
