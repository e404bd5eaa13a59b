"""The commands `diffusion-explained course ...`: build the editions of the notebooks, and grade readers' notebooks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffusion_explained.cli.options import AsJson

if TYPE_CHECKING:
    from diffusion_explained.course.submissions import GradedNotebook

course = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="For a class: editions of the course's notebooks from one source, and grades of readers' notebooks.",
)
ALL_RIGHT, NOT_ALL_RIGHT, NOT_GRADED = 0, 1, 2  # exit codes of `grade`


@course.command()
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAMES]...", help="Beginnings of notebooks' names, such as 01 03_training. [all]"),
    ] = None,
    edition: Annotated[
        str,
        typer.Option(help="student (no solutions), solutions, lecture (no exercises, for slides), or nbgrader."),
    ] = "student",
    out: Annotated[Path | None, typer.Option(help="The folder. [diffusion-explained-<edition>]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files with other content in the folder.")] = False,
) -> None:
    """Write an edition of the notebooks: the repository's, or those that the installed package carries."""
    from diffusion_explained.course.editions import build as build_edition
    from diffusion_explained.files import shipped

    folder = out or Path(f"diffusion-explained-{edition}")
    written = build_edition(edition, folder, names or (), force=force)
    typer.echo(f"{folder}: {len(written)} notebooks, edition {edition}, from {shipped('notebooks')}")


@course.command()
def grade(
    notebooks: Annotated[list[Path], typer.Argument(metavar="NOTEBOOK...", help="Readers' notebooks.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line per exercise, for a spreadsheet.")] = False,
    seed: Annotated[int | None, typer.Option(help="The seed of the tests' inputs, not 2026. [1]")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long one exercise may take. [60]")] = None,
) -> None:
    """Grade notebooks: points, state and hint of every exercise, with other inputs than the notebooks' own checks.

    The notebooks' code is run, in a process apart, with your rights: grade strangers' notebooks in a container.
    Exit code 0: everything is right; 1: something is open or wrong; 2: a notebook cannot be graded.
    """
    if as_json and as_csv:
        raise ValueError("--json and --csv are two formats for one output: give one of them.")
    from diffusion_explained.course.submissions import SECONDS, grade_notebooks
    from diffusion_explained.exercises.grading import HIDDEN_SEED

    chosen = HIDDEN_SEED if seed is None else seed
    graded = []
    for one in grade_notebooks(notebooks, seed=chosen, seconds=SECONDS if seconds is None else seconds):
        graded.append(one)
        if not as_json and not as_csv and len(notebooks) == 1:
            typer.echo(details(one))
    if as_json:
        typer.echo(json.dumps({"seed": chosen, "notebooks": [one.to_dict() for one in graded]}, indent=2))
    elif as_csv:
        typer.echo(as_lines(graded), nl=False)
    elif len(notebooks) > 1:
        typer.echo(table(graded))
    for one in graded:
        if one.fault:
            typer.secho(f"Error: {one.fault}", fg="red", err=True)
    all_right = all(each.state == "right" for one in graded for each in one.exercises)
    fault = any(one.fault for one in graded)
    raise typer.Exit(NOT_GRADED if fault else ALL_RIGHT if all_right else NOT_ALL_RIGHT)


def details(graded: GradedNotebook) -> str:
    """The grades of one notebook, a line per exercise."""
    if graded.fault:
        return f"{graded.file}: not graded"
    width = max(len(one.title) for one in graded.exercises)
    lines = [
        f"{one.number}  {one.title:<{width}}  {one.state:<5}  {one.points} of {one.of}  {one.hint}".rstrip()
        for one in graded.exercises
    ]
    return "\n".join([graded.file, *lines, f"points: {graded.points} of {graded.of}"])


def table(graded: Sequence[GradedNotebook]) -> str:
    """The grades of many notebooks, a line per notebook: the state of each exercise, and the points."""
    width = max(len(one.file) for one in graded)
    lines = []
    for one in graded:
        states = "  ".join(f"{each.number} {each.state:<5}" for each in one.exercises)
        result = "not graded" if one.fault else f"{one.points:>2} of {one.of:>2}  {states}"
        lines.append(f"{one.file:<{width}}  {result}".rstrip())
    return "\n".join(lines)


def as_lines(graded: Sequence[GradedNotebook]) -> str:
    """The grades of many notebooks as CSV, a line per exercise; a notebook that cannot be graded has one line."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(["file", "notebook", "exercise", "state", "points", "of", "hint"])
    for one in graded:
        if one.fault:
            lines.writerow([one.file, one.notebook, "", "not graded", "", "", one.fault])
        for each in one.exercises:
            lines.writerow([one.file, one.notebook, each.number, each.state, each.points, each.of, each.hint])
    return written.getvalue()
