"""The command line: app | lab | course | train | sample | evaluate | diagnose | record | models | lora | micro ...

Every command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from diffusion_explained.cli import launch
from diffusion_explained.cli.course import course
from diffusion_explained.cli.diagnose import diagnose
from diffusion_explained.cli.lora import lora
from diffusion_explained.cli.memory import memory_report, models
from diffusion_explained.cli.micro import micro
from diffusion_explained.cli.options import AsJson, Browser, Device, ModelName, Sampler, Seed, Spacing
from diffusion_explained.cli.record import record
from diffusion_explained.cli.text import sample_text
from diffusion_explained.extras import require
from diffusion_explained.files import in_repository, shipped
from diffusion_explained.serving import MOST_VISITORS, serving

if TYPE_CHECKING:
    from diffusion_explained.pretrained import Model

BAD_INPUT = 2  # the exit code of everything that the library refuses
COURSE_COPY = Path("diffusion-explained-notebooks")
MOST_IMAGES = 1000  # of `sample`: one batch, one picture
PNG_SCALE = 4  # screen pixels per image pixel


class Commands(TyperGroup):
    """A group of commands that reports the library's errors as one red message and exit code 2, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a ValueError or an OSError becomes its message and exit code 2."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader, for instance `head`, closed the pipe: typer ends quietly
            raise
        except (ValueError, OSError, FloatingPointError) as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(BAD_INPUT) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Diffusion models made runnable: an explorer, a course, and trained networks on this machine.",
)


@app.command("app")
def explorer(
    port: Annotated[int | None, typer.Option(help="The port; by default 8501 or the next free one.")] = None,
    browser: Browser = True,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to serve on: localhost, an address of this machine, or 0.0.0.0 for all of them; all but "
            "localhost need --shared. [localhost]"
        ),
    ] = None,
    base_path: Annotated[
        str, typer.Option(help="Serve below this path, for instance behind a proxy: /explorer.", metavar="PATH")
    ] = "",
    shared: Annotated[
        bool,
        typer.Option(
            "--shared",
            help="Serve several people: no folder of this machine can be opened, nothing is downloaded, and uploads, "
            "steps and pictures are limited.",
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name in the visitors' addresses, for instance class.example.edu; may be given several times. "
            "An IP address needs none.",
            metavar="NAME",
        ),
    ] = None,
    visitors: Annotated[
        int | None,
        typer.Option(
            help="With --shared: how many people may use the explorer at once; a later one is told that it is full. "
            f"[{MOST_VISITORS}]"
        ),
    ] = None,
) -> None:
    """Start the explorer on this machine and open it in the browser; Ctrl-C stops it.

    It answers only this machine's browser, and no other web page. With --shared it can serve a class:
    diffusion-explained app --shared --host 0.0.0.0
    """
    require("app", "streamlit")
    served = serving(host, base_path, shared=shared, allowed_hosts=allowed_host or (), visitors=visitors)
    first, exact = (8501, False) if port is None else (port, True)
    chosen = launch.free_port(first, exact=exact, address=served.address)
    typer.echo(f"The explorer: {served.url(chosen)} (Ctrl-C stops it)")
    if shared:
        typer.echo(f"Shared, on {served.address}, with at most {served.visitors} visitors at once. {served.known_as}")
    command = launch.streamlit_command(chosen, browser=browser, serving=served)
    raise typer.Exit(launch.run_server(command, served.environment()))


@app.command()
def lab(
    folder: Annotated[
        Path | None,
        typer.Option(help=f"Work on a copy of the notebooks here (a wheel's default: {COURSE_COPY})."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port; by default 8888 or the next free one.")] = None,
    browser: Browser = True,
) -> None:
    """Open the course in JupyterLab: the repository's notebooks, or a copy that you can change."""
    require("course", "jupyterlab")
    chosen = launch.free_port(8888) if port is None else launch.free_port(port, exact=True)
    if folder is None and in_repository():
        folder = shipped("notebooks")
    else:
        folder = (folder or COURSE_COPY).resolve()
        copied = launch.copy_course(folder)
        typer.echo(f"{folder}: {len(copied.new)} files copied")
        if copied.kept:
            typer.echo(f"Not overwritten, because they differ from the course's: {', '.join(copied.kept)}")
        if copied.mended:
            typer.echo(f"Copied again, because they were empty or cut short: {', '.join(copied.mended)}")
        if copied.set_aside:
            typer.echo(f"Their old content is kept in {', '.join(copied.set_aside)}")
    typer.echo(f"The course: {folder}, on port {chosen} (Ctrl-C stops it)")
    raise typer.Exit(launch.run_server(launch.jupyterlab_command(folder, chosen, browser=browser)))


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name in recipes/, or a .toml file of your own.")
    ],
    out: Annotated[
        Path, typer.Option(help="The folder for weights and checkpoints, which go into a folder of the recipe's name.")
    ] = (Path("runs")),
    images: Annotated[
        int | None, typer.Option(help="Train on this many images, instead of the recipe's number.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help='The split, instead of the recipe\'s; "sample" is 10,000 digits that need no download.'),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="Continue training from weights: a name or a .safetensors file of the same network."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    device: Device = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Remove the old checkpoints and start again.")] = False,
) -> None:
    """Train a network; the same command again resumes a stopped training from its newest checkpoint."""
    from tqdm import tqdm

    from diffusion_explained.beyond import KINDS
    from diffusion_explained.beyond.training import recipe_file, recipe_of, train_kind
    from diffusion_explained.devices import choose_device
    from diffusion_explained.training.checkpoints import checkpoint_files
    from diffusion_explained.training.folder_lock import hold
    from diffusion_explained.training.processes import is_main_process
    from diffusion_explained.training.recipes import read_recipe, run_recipe, weights_file
    from diffusion_explained.training.reflow import PairsRecord

    kind = KINDS.get(recipe)
    if kind is not None and (split is not None or start_from is not None):
        raise ValueError(f"{recipe} is made by code, without a split, and its network starts anew.")
    # read once: an edit during the training changes neither its name nor its settings
    file = read_recipe(recipe) if kind is None else recipe_file(kind)
    weights, chosen = weights_file(file, out), str(choose_device(device))
    checkpoints, speaks = weights.parent / "checkpoints", is_main_process()
    context.with_resource(hold(weights.parent, "--out "))
    if restart and speaks:
        for old in checkpoint_files(checkpoints):
            old.unlink()
    if speaks:
        typer.echo(f"Training {weights.stem} on {chosen}; the weights go to {weights}")
    if speaks and (kept := checkpoint_files(checkpoints)):
        typer.echo(f"Resuming from {kept[0]}")
    shown = ""
    try:
        with tqdm(unit="step", disable=not speaks) as bar:
            options: dict[str, Any] = {"images": images, "checkpoint_every": checkpoint_every}
            if kind is None:
                run = run_recipe(file, out, chosen, split=split, start_from=start_from, **options)
            else:
                run = train_kind(kind, recipe_of(kind, file), weights, chosen, **options)
            for record in run:
                draws_pairs = isinstance(record, PairsRecord)
                doing = f"{weights.stem}, pairs" if draws_pairs else weights.stem
                if doing != shown:  # the first record of its kind; a resumed training starts in the middle
                    shown = doing
                    bar.set_description(doing)
                    bar.reset(record.num_steps)
                    bar.initial = bar.n = record.step
                loss = "" if isinstance(record, PairsRecord) else f"loss {record.loss:.4f}, "
                bar.set_postfix_str(f"{loss}{record.images_per_second:.0f} images/s", refresh=False)
                bar.update(record.step - bar.n)
                if record.step == record.num_steps and not draws_pairs:
                    bar.set_description(f"{weights.stem}, measuring")
    except KeyboardInterrupt:
        kept = checkpoint_files(checkpoints)
        where = f"The same command resumes from {kept[0]}." if kept else "No checkpoint was written yet."
        typer.secho(f"\nStopped. {where}", fg="yellow", err=True)
        raise typer.Exit(130) from None
    if speaks:
        typer.echo(f"{weights}: {weights.stat().st_size / 1e6:.1f} MB, with its model card inside")


@app.command()
def sample(
    model: ModelName,
    labels: Annotated[
        str | None, typer.Option(help='Classes, by name or number: "3,7". By default images are unconditional.')
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            min=1,
            max=MOST_IMAGES,
            help="How many images, drawn as one batch; labels are used in turn. [one per label, or 16]",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="For a text model: what is known; _ is a letter to write, and so is all after the end."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Sampling steps. [10 for images, 64 for texts; other kinds of data have their own numbers]"),
    ] = None,
    sampler: Sampler = None,
    spacing: Spacing = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="1 is off. [the model's own with labels, 1 without]")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file: .png for the images, .gif for all steps from noise; what is no image has its own kind of "
            "file, named in the answer to a wrong one, and texts have .txt. [samples.png]"
        ),
    ] = None,
) -> None:
    """Sample images, or what else a trained network draws or writes, and write them as one file."""
    from diffusion_explained.discrete import is_text_model

    if is_text_model(model):
        of_images = {"labels": labels, "spacing": spacing, "guidance-scale": guidance_scale}
        return sample_text(model, text, n or 1, steps, sampler, seed, device, out, of_images)
    if text is not None:
        raise ValueError(f"{model} draws images: leave --text out, or name a text model.")
    from tqdm import tqdm

    from diffusion_explained import film
    from diffusion_explained.beyond import KINDS, kind_of, load_beyond
    from diffusion_explained.devices import choose_device
    from diffusion_explained.files import atomic_path, check_file
    from diffusion_explained.pretrained import load_pretrained

    loaded = (load_beyond if model in KINDS else load_pretrained)(model, choose_device(device))
    kind = kind_of(loaded)
    allowed = (".png", ".gif") if kind is None else tuple(kind.writers)
    out = Path("samples").with_suffix(allowed[0]) if out is None else out
    if out.suffix not in allowed:
        known = ".png (the images) or .gif (all steps from noise)" if kind is None else " or ".join(allowed)
        raise ValueError(f"--out {out}: what {loaded.name} draws is written as {known}.")
    check_file(out)
    classes = parse_labels(labels, loaded.class_names) if labels is not None else None
    count = n or (len(classes) if classes else 16)
    if classes:
        classes = [classes[i % len(classes)] for i in range(count)]
    if guidance_scale is None:
        guidance_scale = loaded.default_guidance_scale if classes else 1.0
    usual = usual_sampling(loaded)
    steps = usual["num_inference_steps"] if steps is None else steps
    sampler = usual["sampler"] if sampler is None else sampler
    denoise = loaded.denoiser(classes, guidance_scale)
    run = loaded.steps(denoise, count, steps, sampler=sampler, spacing=spacing, seed=seed)
    kept: list[Any] = []  # steps
    for step in tqdm(run, total=steps, unit="step", desc=f"{loaded.name}, {sampler}"):
        if kind is not None or out.suffix == ".png":
            kept.clear()  # only the last one is drawn
        kept.append(step)
    if kind is not None:
        names = [loaded.class_names[label] for label in classes or ()]
        picture = kind.writers[out.suffix](loaded.decode(kept[-1].x_next).cpu(), names)
    elif out.suffix == ".gif":
        picture = film.gif(film.film_of(kept))
    else:
        images = film.pixels(kept[-1].x_next)
        picture = film.png(film.mosaic(images.repeat(PNG_SCALE, axis=1).repeat(PNG_SCALE, axis=2), gap=2 * PNG_SCALE))
    with atomic_path(out) as part:
        part.write_bytes(picture)
    what = "image" if kind is None else "sample"
    typer.echo(f"{out}: {count} {what}{'s' if count > 1 else ''} in {steps} steps, guidance scale {guidance_scale:g}")


def usual_sampling(model: Model) -> dict[str, Any]:
    """The number of steps and the sampler that `sample` and `evaluate` take: a kind's own, or 10 steps for images."""
    from diffusion_explained.beyond import kind_of

    kind = kind_of(model)
    return {"num_inference_steps": 10, "sampler": model.default_sampler, **({} if kind is None else kind.sampling)}


def parse_labels(text: str, class_names: Sequence[str]) -> list[int]:
    """Class indices from "3,7" or "cat dog": each word is a class name or a number. Raises ValueError for neither."""
    from diffusion_explained.messages import unknown_name

    indices = []
    for word in text.replace(",", " ").split():
        if word in class_names:
            indices.append(class_names.index(word))
        elif word.isdecimal() and len(word) < 10 and int(word) < len(class_names):
            indices.append(int(word))
        else:
            raise unknown_name("label", word, class_names)
    if not indices:
        raise ValueError(f'--labels names no class. Known: {", ".join(class_names)}; for example "{class_names[0]}".')
    return indices


@app.command()
def evaluate(
    model: ModelName,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many samples; the classes are used in turn.")] = 1000,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps. [10 for images; other kinds of data have their own numbers]")
    ] = None,
    sampler: Sampler = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 is off. [the model's own]")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    dataset: Annotated[
        str | None, typer.Option(help="The data set to compare with. [the one that the network was trained on]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a network's samples with real images: accuracy, coverage, Frechet distance and its floor, diversity."""
    from tqdm import tqdm

    from diffusion_explained.beyond import KINDS, kind_of, load_beyond, measured
    from diffusion_explained.devices import choose_device
    from diffusion_explained.metrics import evaluate
    from diffusion_explained.pretrained import load_pretrained

    loaded = (load_beyond if model in KINDS else load_pretrained)(model, choose_device(device))
    kind = kind_of(loaded)
    if kind is not None and dataset is not None:
        raise ValueError(f"{loaded.name} is compared with its own data, which code makes: leave out --dataset.")
    dataset = loaded.card.get("recipe", {}).get("dataset", "mnist") if dataset is None else dataset
    given = {"num_inference_steps": steps, "sampler": sampler, "guidance_scale": guidance_scale}
    usual = {**usual_sampling(loaded), "guidance_scale": loaded.default_guidance_scale}
    settings: dict[str, Any] = {name: usual[name] if value is None else value for name, value in given.items()}
    if kind is not None:
        typer.echo(json.dumps(measured(kind, loaded, n, seed, **settings), indent=2))
        return
    with tqdm(total=n, unit="image", desc=f"sampling {loaded.name}", disable=as_json) as bar:

        def show(drawn: int, total: int) -> None:
            bar.update(drawn - bar.n)

        result = evaluate(loaded, n=n, dataset=dataset, seed=seed, progress=show, **settings)
    typer.echo(json.dumps(result.to_dict(), indent=2) if as_json else str(result))


app.command()(record)
app.command()(models)
app.command()(lora)
app.command()(diagnose)
app.add_typer(micro, name="micro")
app.add_typer(course, name="course")


@app.command()
def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A folder in diffusers' format, a .safetensors file, or owner/model in the hub's cache: report only "
            "how much memory that model takes here, before anything of it is loaded.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report what runs on this machine, what is missing, and what to do; exit code 1 if something is broken."""
    if model is not None:
        if as_json:
            raise ValueError("--json is for the report on the machine: leave it out, or leave out MODEL.")
        memory_report(model)
        return
    from diffusion_explained.cli.doctor import examine

    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mark = typer.style(f"{finding.status:<8}", fg=colours[finding.status])
            typer.echo(f"{mark}{finding.name}: {finding.text}")
            for line in finding.advice.splitlines():
                typer.echo(f"{'':<8}    {line}")
    broken = any(finding.status == "broken" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in findings]}, indent=2))
    raise typer.Exit(int(broken))
