"""The cost of Streamlit's garbage collection after each script run, for every page of the explorer and for a job.

    python benchmarks/explorer_collection.py                           # all pages, then the job
    python benchmarks/explorer_collection.py --pages forward --rounds 3

The benchmark starts two explorers side by side on this machine, and one visitor asks them in turn. "Before" is
Streamlit's default: `runner.postScriptGC` is on, and nothing is frozen. "After" is this project's setting: the option
is off, and loaded objects are frozen (`gc.freeze`). Each measurement is the second of two consecutive runs of the same
page, so that the collection of the first run precedes it, as in real use. The runs compute only the page, because its
results are kept. Each job has a new seed. Ratios are medians of pairs.
"""

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from datetime import date

import psutil
import websockets
from explorer_load import CHANGED, Visitor, explorer

from diffusion_explained.cli.launch import LOCALHOST, streamlit_command

NOT_FROZEN = "import gc; gc.freeze = lambda: None; from streamlit.web.cli import main; main(prog_name='streamlit')"
STEPS = 8
JOB = f"sd_model=stand-in&t2i_steps={STEPS}"


def as_streamlit_ships(port: int) -> list[str]:
    """The explorer's command with the collection on and `gc.freeze` without effect."""
    python, _, _, *rest = streamlit_command(port, browser=False)
    on = [option.replace("postScriptGC=false", "postScriptGC=true") for option in rest]
    return [python, "-c", NOT_FROZEN, *on]


async def opened(stack: AsyncExitStack, port: int, page: str, query: str = "") -> Visitor:
    """A visitor whose page is open, with all of its results computed and kept."""
    path = f"ws://{LOCALHOST}:{port}/_stcore/stream"
    socket = await stack.enter_async_context(websockets.connect(path, subprotocols=["streamlit"], max_size=None))
    visitor = Visitor(socket, page, query=query)
    for _ in range(2):
        await timed(visitor)
    return visitor


async def timed(visitor: Visitor, pressed: str | None = None) -> float:
    """Seconds until the page is complete and its job, if any, has ended."""
    begin = time.monotonic()
    await visitor.ask(pressed=pressed)
    if error := await visitor.answer():
        raise RuntimeError(f"{visitor.page}: {error}")
    return time.monotonic() - begin


async def page_runs(ports: tuple[int, int], page: str, rounds: int) -> list[tuple[float, float]]:
    """Pairs of seconds (before, after) per run of a page."""
    async with AsyncExitStack() as stack:
        visitors = [await opened(stack, port, page) for port in ports]
        pairs = []
        for turn in range(rounds):
            pair = [0.0, 0.0]
            for k in (0, 1) if turn % 2 else (1, 0):
                await timed(visitors[k])
                pair[k] = await timed(visitors[k])
                await asyncio.sleep(0.5)  # until the last collection has ended; it would slow down the other server
            pairs.append(tuple(pair))
        return pairs


async def job_runs(ports: tuple[int, int], rounds: int) -> list[tuple[float, float]]:
    """Pairs of seconds (before, after) per job of Stable Diffusion, with the stand-in."""
    async with AsyncExitStack() as stack:
        visitors = [await opened(stack, port, "text_to_image", JOB) for port in ports]
        pairs = []
        for turn in range(rounds + 1):  # the first one loads the model
            pair = [0.0, 0.0]
            for k in (0, 1) if turn % 2 else (1, 0):
                visitors[k].widgets[visitors[k].ids["t2i_seed"]] = ("int_value", 100 + turn)
                pair[k] = await timed(visitors[k], "Run")
                await asyncio.sleep(0.5)
            pairs.append(tuple(pair))
        return pairs[1:]


def row(name: str, pairs: list[tuple[float, float]]) -> str:
    """One line of the table."""
    before, after = (statistics.median(one) for one in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for b, a in pairs)
    return f"{name:24}{before:10.3f}{after:10.3f}{ratio:10.2f}{len(pairs):8}"


async def measure(ports: tuple[int, int], args: argparse.Namespace) -> None:
    """Print a line per page as soon as it is measured."""
    print(f"{'page':24}{'before':>10}{'after':>10}{'ratio':>10}{'pairs':>8}   seconds, medians")
    for page in args.pages:
        print(row(page, await page_runs(ports, page, args.rounds)), flush=True)
    if args.jobs:
        print(row(f"a job of {STEPS} steps", await job_runs(ports, args.jobs)), flush=True)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", nargs="+", choices=CHANGED, default=list(CHANGED))
    parser.add_argument("--rounds", type=int, default=9, help="pairs per page")
    parser.add_argument("--jobs", type=int, default=5, help="pairs of jobs; 0 for none")
    args = parser.parse_args()
    if not 1 <= args.rounds <= 100 or not 0 <= args.jobs <= 100:
        parser.error("--rounds must be from 1 to 100, and --jobs from 0 to 100")
    with explorer(as_streamlit_ships) as (before, _), explorer() as (after, _):
        asyncio.run(measure((before, after), args))
    print(f"{date.today()}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the end, "
          f"Python {sys.version.split()[0]}")  # fmt: skip


if __name__ == "__main__":
    main()
