"""The command line: diffusion-explained app | lab | train | sample | evaluate | doctor.

Every command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from diffusion_explained import launch

BAD_INPUT = 2  # the exit code of everything that the library refuses
COURSE_COPY = Path("diffusion-explained-notebooks")


class Commands(TyperGroup):
    """A refusal by the library (ValueError, OSError) is one red message and exit code 2, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader, `head` say, has seen enough: typer ends quietly
            raise
        except (ValueError, OSError) as error:
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

Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")]


@app.command("app")
def explorer(
    port: Annotated[int | None, typer.Option(help="The port; without it, 8501 or the next free one.")] = None,
    browser: Browser = True,
) -> None:
    """Start the explorer on this machine and open it in the browser; Ctrl-C stops it."""
    chosen = launch.free_port(8501) if port is None else launch.free_port(port, exact=True)
    typer.echo(f"The explorer: http://{launch.LOCALHOST}:{chosen} (Ctrl-C stops it)")
    raise typer.Exit(launch.run_server(launch.streamlit_command(chosen, browser=browser)))


@app.command()
def lab(
    folder: Annotated[
        Path | None,
        typer.Option(help=f"Work on a copy of the notebooks here (a wheel's default: {COURSE_COPY})."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port; without it, 8888 or the next free one.")] = None,
    browser: Browser = True,
) -> None:
    """Open the course in JupyterLab: the repository's notebooks, or a copy that is yours to change."""
    chosen = launch.free_port(8888) if port is None else launch.free_port(port, exact=True)
    if folder is None and launch.in_repository():
        folder = launch.shipped("notebooks")
    else:
        folder = (folder or COURSE_COPY).resolve()
        copied = launch.copy_course(folder)
        typer.echo(f"{folder}: {len(copied.new)} files copied")
        if copied.kept:
            typer.echo(f"Kept as they are, because they differ from the course's: {', '.join(copied.kept)}")
    typer.echo(f"The course: {folder}, on port {chosen} (Ctrl-C stops it)")
    raise typer.Exit(launch.run_server(launch.jupyterlab_command(folder, chosen, browser=browser)))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False) -> None:
    """Tell what runs on this machine, what is missing, and what to do; exit code 1 when something is broken."""
    from diffusion_explained.doctor import examine

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
