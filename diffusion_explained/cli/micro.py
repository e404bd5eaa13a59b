"""The commands `diffusion-explained micro ...`: build the emoji set, and train Micro Stable Diffusion's networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusion_explained.cli.options import Device

if TYPE_CHECKING:
    from diffusion_explained.training.timed import TimedRecord

micro = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train Micro Stable Diffusion: emoji, autoencoder, text encoder and U-Net, and the retrieval network.",
)

Seconds = Annotated[float | None, typer.Option(help="How long to train; the learning rate falls to 0 at the end.")]
Images = Annotated[int | None, typer.Option(help="How many images to train on, unless --seconds is reached first.")]
LearningRate = Annotated[float | None, typer.Option(help="The learning rate of AdamW. [one that suits the network]")]
Workers = Annotated[int, typer.Option(min=0, help="The number of processes that compose scenes.")]
CheckpointEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the network: takes a minute, then is faster.")]
CudaGraph = Annotated[bool, typer.Option(help="On CUDA, capture the training step once and replay it.")]
Restart = Annotated[bool, typer.Option("--restart", help="Remove the old checkpoints and start again.")]
Sample = Annotated[bool, typer.Option("--sample", help="Use only the emoji that are part of the package.")]
Seed = Annotated[int, typer.Option(min=0, help="The seed of the initial weights, the scenes and the noise.")]


@micro.command()
def data() -> None:
    """Build the emoji set from packages of the npm registry, once; if it is there already, only report it."""
    from diffusion_explained.files import check_file
    from diffusion_explained.micro.emoji import emoji_file, load_emoji

    if not emoji_file().is_file():
        check_file(emoji_file(), "The cache: ")
    emoji = load_emoji(download=True)
    size = emoji_file().stat().st_size / 1e6
    typer.echo(f"{emoji_file()}: {len(emoji):,} pictures of {len(emoji.names):,} subjects, {size:.1f} MB")


@micro.command()
def vae(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder of the autoencoder and its checkpoints.")] = Path(
        "runs/micro_vae"
    ),
    seconds: Seconds = None,
    images: Images = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per step.")] = 64,
    learning_rate: LearningRate = None,
    device: Device = "auto",
    workers: Workers = 0,
    checkpoint_every: CheckpointEvery = 1000,
    compiled: Compiled = False,
    cuda_graph: CudaGraph = True,
    sample: Sample = False,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Train the autoencoder; the same command again resumes a stopped training."""
    from diffusion_explained.micro.autoencoder_training import AutoencoderConfig
    from diffusion_explained.micro.card import read_card
    from diffusion_explained.micro.training_runs import make_autoencoder
    from diffusion_explained.training.folder_lock import hold

    config = AutoencoderConfig(**_settings(seconds, images, learning_rate, batch_size, compiled, cuda_graph, seed))
    context.with_resource(hold(out, "--out "))
    restart_or_resume(out, restart)
    training = make_autoencoder(
        out, _emoji(sample), config, device=_device(device), workers=workers, checkpoint_every=checkpoint_every
    )
    show_training(training, "autoencoder", out)
    card = read_card(out)["autoencoder"]
    held_out = f"{card['psnr_held_out']:.2f} dB on held-out emoji" if "psnr_held_out" in card else "none held out"
    typer.echo(f"{out}: {card['psnr_training']:.2f} dB on training emoji, {held_out}")


@micro.command()
def train(
    context: typer.Context,
    vae: Annotated[Path, typer.Option(help="The folder that `micro vae` wrote.")],
    prediction: Annotated[str, typer.Option(help="What the U-Net predicts: eps or flow.")] = "flow",
    out: Annotated[Path | None, typer.Option(help="The pipeline's folder. [runs/micro_<prediction>]")] = None,
    seconds: Seconds = None,
    images: Images = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Scenes per step.")] = 512,
    learning_rate: LearningRate = None,
    scenes: Annotated[
        int, typer.Option(min=1, help="How many scenes to encode before training; each is used repeatedly.")
    ] = 400_000,
    scenes_file: Annotated[
        Path | None, typer.Option(help="A .safetensors file for the encoded scenes, for use in the next training.")
    ] = None,
    device: Device = "auto",
    workers: Workers = 0,
    checkpoint_every: CheckpointEvery = 1000,
    compiled: Compiled = False,
    cuda_graph: CudaGraph = True,
    sample: Sample = False,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Train text encoder and U-Net together; the same command again resumes a stopped training."""
    from tqdm import tqdm

    from diffusion_explained.files import check_file
    from diffusion_explained.micro.card import read_card
    from diffusion_explained.micro.text_to_image_training import TextToImageConfig, schedule_of
    from diffusion_explained.micro.tokens import load_tokenizer
    from diffusion_explained.micro.training_runs import make_micro, make_scenes
    from diffusion_explained.training.folder_lock import hold

    schedule_of(prediction)  # raises for a wrong name before anything is loaded
    out = out or Path(f"runs/micro_{prediction}")
    config = TextToImageConfig(**_settings(seconds, images, learning_rate, batch_size, compiled, cuda_graph, seed))
    read_card(vae)  # raises for a folder without an autoencoder before hours of encoding
    context.with_resource(hold(out, "--out "))
    if scenes_file is not None:
        check_file(scenes_file, "--scenes-file ")
    restart_or_resume(out, restart)
    on, tokenizer = _device(device), load_tokenizer()
    with tqdm(total=scenes, unit="scene", desc="encoding scenes", mininterval=5) as bar:
        encoded = make_scenes(
            vae, _emoji(sample), tokenizer, scenes, device=on, seed=seed, workers=workers, file=scenes_file,
            progress=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    training = make_micro(
        out, vae, encoded, tokenizer, prediction, config, device=on, checkpoint_every=checkpoint_every
    )
    show_training(training, prediction, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and "checkpoints" not in file.parts)
    typer.echo(f"{out}: {size / 1e6:.1f} MB; load it with stable_diffusion.load({str(out)!r})")


@micro.command()
def retrieval(
    out: Annotated[Path, typer.Option(help="The weight file; checkpoints are kept beside it.")] = Path(
        "runs/micro_retrieval.safetensors"
    ),
    seconds: Seconds = None,
    images: Images = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Scenes per step.")] = 512,
    device: Device = "auto",
    workers: Workers = 0,
    sample: Sample = False,
) -> None:
    """Train the retrieval network, which ranks words for a picture; the same command again resumes it."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out} is not a .safetensors file.")
    from diffusion_explained.files import check_file
    from diffusion_explained.micro.retrieval import load_retrieval
    from diffusion_explained.micro.retrieval_training import train_retrieval
    from diffusion_explained.micro.tokens import load_tokenizer

    check_file(out)
    training = train_retrieval(
        _emoji(sample), load_tokenizer(), _device(device), out=out, seconds=seconds, images=images,
        batch_size=batch_size, workers=workers,
    )  # fmt: skip
    show_training(training, "retrieval", out.parent)
    for split, found in load_retrieval(out).card["accuracy"].items():
        top1, top5 = found["top1"], found["top5"]
        typer.echo(
            f"{split}: the right name of {found['among']} comes first for {top1['share']:.1%} of {top1['n']} emoji, "
            f"among the first five for {top5['share']:.1%}"
        )
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, with its model card inside")


def _settings(
    seconds: float | None,
    images: int | None,
    learning_rate: float | None,
    batch_size: int,
    compiled: bool,
    cuda_graph: bool,
    seed: int,
) -> dict[str, Any]:
    """The options of a config; seconds, images and learning_rate only if given, so that the config's defaults hold."""
    given = {"seconds": seconds, "images": images, "learning_rate": learning_rate}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "batch_size": batch_size,
        "compile": compiled,
        "cuda_graph": cuda_graph,
        "channels_last": True,
        "seed": seed,
    }


def _emoji(sample: bool) -> Any:
    from diffusion_explained.micro.emoji import load_emoji, load_emoji_sample

    return load_emoji_sample() if sample else load_emoji()


def _device(name: str) -> str:
    from diffusion_explained.devices import choose_device

    return str(choose_device(name))


def restart_or_resume(out: Path, restart: bool) -> None:
    """Remove the old checkpoints if `restart` is set; otherwise report that a training is resumed."""
    from diffusion_explained.micro.training_runs import CHECKPOINTS
    from diffusion_explained.training.checkpoints import checkpoint_files

    kept = checkpoint_files(out / CHECKPOINTS)
    if restart:
        for old in kept:
            old.unlink()
    elif kept:
        typer.echo(f"Resuming from {kept[0]}")


def show_training(training: Iterator[TimedRecord], name: str, out: Path) -> TimedRecord:
    """Run a training with a progress bar that counts to 100%, and return its last record; Ctrl-C says how to resume."""
    from tqdm import tqdm

    try:
        with tqdm(total=100, unit="%", desc=name, mininterval=5, bar_format="{l_bar}{bar}{postfix}") as bar:
            for record in training:  # one at least
                bar.set_postfix_str(
                    f"step {record.step}, loss {record.loss:.4f}, {record.images_per_second:.0f} images/s",
                    refresh=False,
                )
                bar.update(100 * record.progress - bar.n)
    except KeyboardInterrupt:
        typer.secho(f"\nStopped. The same command resumes from the newest checkpoint in {out}.", fg="yellow", err=True)
        raise typer.Exit(130) from None
    return record
