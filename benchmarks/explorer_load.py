"""A class of thirty on one explorer: how long each page takes while all of them work, and the server's memory.

    python benchmarks/explorer_load.py                                # 30 visitors for 5 minutes, the project's goal
    python benchmarks/explorer_load.py --seconds 60                   # a short run
    python benchmarks/explorer_load.py --sessions 1 --pages samplers  # one visitor alone

The benchmark starts an explorer of its own on this machine and talks to that one only, over websockets, as browsers do.
Each visitor stays on one page, waits for its answer (including the end of a job), thinks, and asks for something new:
another seed. The goal: nobody waits longer than 240 s, the pages Start, Forward and Schedules answer within 5 s at the
median, and the mean memory of the second half is within 20% of the first half's, without the warm-up.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from diffusion_explained.cli.launch import LOCALHOST, free_port, stop, streamlit_command

PATIENCE = 240.0  # seconds after which a visitor gives up
LIGHT, LIGHT_BAR, MEMORY_BAR = ("start", "forward", "schedules"), 5.0, 0.2
CHANGED = {  # what each page's visitor changes next: a widget's key and kind of value, and a button's label
    "start": ((), "From other noise"),
    "forward": (("seed", "int_value"), None),
    "schedules": (("T", "int_value"), None),
    "reverse": (("seed", "int_value"), None),
    "guidance": (("seed", "int_value"), None),
    "samplers": (("seed", "int_value"), None),
    "text_to_image": (("t2i_seed", "int_value"), None),
    "latents": (("emoji", "string_value"), None),
    "compare": (("compare_prompt", "string_value"), "Run both"),
}


@dataclass
class Answer:
    """One wait of one visitor; first: whether it opened the page; error: a description, or empty."""

    page: str
    begin: float
    seconds: float
    first: bool
    error: str = ""


@dataclass
class Visitor:
    """A minimal browser tab: it keeps the widgets' values, and requests a fragment again when the server says so."""

    socket: websockets.ClientConnection
    page: str
    widgets: dict[str, tuple[str, object]] = field(default_factory=dict)  # id -> (kind of value, value)
    ids: dict[str, str] = field(default_factory=dict)  # key or label -> id
    script_hash: str = ""
    polls: dict[str, float] = field(default_factory=dict)  # fragment -> seconds
    looking: bool = False  # whether a fragment runs, not the page
    query: str = ""  # the page's address, after the question mark

    async def ask(self, *, fragment: str = "", pressed: str | None = None) -> None:
        """Run the page, or one of its fragments."""
        message, self.looking = BackMsg(), bool(fragment)
        rerun = message.rerun_script
        rerun.query_string = self.query
        rerun.page_name = "" if self.page == "start" else self.page
        rerun.page_script_hash, rerun.fragment_id, rerun.is_auto_rerun = self.script_hash, fragment, bool(fragment)
        for name, (kind, value) in self.widgets.items():
            setattr(rerun.widget_states.widgets.add(id=name), kind, value)
        if pressed is not None:
            rerun.widget_states.widgets.add(id=self.ids[pressed], trigger_value=True)
        await self.socket.send(message.SerializeToString())

    async def answer(self) -> str:
        """Wait until the page is complete and its job has ended; return the exception that the page showed, or ""."""
        error = ""
        while True:
            message = ForwardMsg()
            message.ParseFromString(await self.socket.recv())
            kind = message.WhichOneof("type")
            if kind == "new_session" and not self.looking:
                error = ""
                self.polls.clear()
            elif kind == "navigation":
                self.script_hash = message.navigation.page_script_hash
            elif kind == "auto_rerun":
                self.polls[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            elif kind == "delta" and message.delta.HasField("new_element"):
                element = message.delta.new_element
                shown = element.WhichOneof("type")
                if shown == "exception":
                    error = f"{element.exception.type}: {element.exception.message}"
                elif (held := getattr(element, shown or "", None)) is not None and getattr(held, "id", ""):
                    self.ids[getattr(held, "label", "")] = held.id
                    self.ids[held.id.rsplit("-", 1)[-1]] = held.id
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    self.looking = False  # a run of the page follows
                    continue
                if not self.polls:
                    return error
                name, seconds = next(iter(self.polls.items()))
                await asyncio.sleep(seconds)
                await self.ask(fragment=name)


async def visit(port: int, page: str, number: int, begin: float, args: argparse.Namespace, answers: list) -> None:
    """The whole visit of one visitor."""
    chance = random.Random(number)
    path = f"ws://{LOCALHOST}:{port}/_stcore/stream"
    try:
        async with websockets.connect(path, subprotocols=["streamlit"], max_size=None) as socket:
            visitor, first = Visitor(socket, page), True
            for turn in range(10_000):
                (changed, button) = CHANGED[page]
                if not first and changed:
                    key, kind = changed
                    value = (number * 997 + turn * 31) % 4000 + 100 if kind == "int_value" else f"{number} {turn}"
                    if page == "latents":
                        value = EMOJI[(number * 7 + turn) % len(EMOJI)]
                    visitor.widgets[visitor.ids[key]] = (kind, value)
                asked = time.monotonic()
                await visitor.ask(pressed=None if first else button)
                try:
                    error = await asyncio.wait_for(visitor.answer(), PATIENCE)
                except TimeoutError:
                    error = f"gave up after {PATIENCE:.0f} s"
                answers.append(Answer(page, asked - begin, time.monotonic() - asked, first, error))
                first = False
                await asyncio.sleep(args.think * chance.uniform(0.5, 1.5))
                if time.monotonic() - begin > args.seconds or error.startswith("gave up"):
                    return
    except (OSError, websockets.WebSocketException, KeyError) as error:
        answers.append(Answer(page, time.monotonic() - begin, 0.0, False, repr(error)))


async def measure(port: int, server: psutil.Process, args: argparse.Namespace) -> tuple[list[Answer], list]:
    """Run all visitors at once; return their answers, and the server's memory each second as (seconds, bytes)."""
    answers, memory, begin = [], [], time.monotonic()

    async def watch() -> None:
        while True:
            memory.append((time.monotonic() - begin, server.memory_info().rss))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    pages = [args.pages[k % len(args.pages)] for k in range(args.sessions)]
    await asyncio.gather(*(visit(port, page, k, begin, args, answers) for k, page in enumerate(pages)))
    watching.cancel()
    return answers, memory


def flatness(memory: list[tuple[float, int]]) -> float:
    """The relative change of mean memory from the middle 40% of the time to the last 40%."""
    end = memory[-1][0]
    before = [size for when, size in memory if 0.2 * end <= when < 0.6 * end]
    after = [size for when, size in memory if when >= 0.6 * end]
    return statistics.mean(after) / statistics.mean(before) - 1


def report(answers: list[Answer], memory: list[tuple[float, int]], args: argparse.Namespace) -> bool:
    """Print the measurements; return whether they meet the goal."""
    print(f"\n{date.today()}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the end; "
          f"{args.sessions} visitors for {args.seconds:.0f} s, {args.think:g} s between requests")  # fmt: skip
    print(f"{'page':18}{'answers':>8}{'median':>9}{'p95':>9}{'worst':>9}   seconds; errors")
    for page in args.pages:
        ones = [one for one in answers if one.page == page]
        seconds = sorted(one.seconds for one in ones)
        errors = sorted({one.error for one in ones if one.error})
        if seconds:
            p95 = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
            print(
                f"{page:18}{len(seconds):8}{statistics.median(seconds):9.2f}{p95:9.2f}{seconds[-1]:9.2f}   "
                f"{errors or ''}"
            )
    light = [one.seconds for one in answers if one.page in LIGHT]
    drift, most = flatness(memory), max(size for _, size in memory)
    print(f"memory: {memory[0][1] / 1e6:.0f} MB at the beginning, {most / 1e6:.0f} MB at most, {drift:+.0%} from the "
          "first half to the second, without the warm-up")  # fmt: skip
    print(f"answers: {len(answers)}; the longest took {max(one.seconds for one in answers):.1f} s; "
          f"light pages' median {statistics.median(light) if light else 0:.2f} s")  # fmt: skip
    good = not any(one.error for one in answers) and abs(drift) <= MEMORY_BAR
    good = good and (not light or statistics.median(light) <= LIGHT_BAR)
    print("goal met" if good else "goal NOT met")
    return good


@contextlib.contextmanager
def explorer(command: Callable[[int], list[str]] = lambda port: streamlit_command(port, browser=False)):
    """Start a server and yield (port, process). command: port -> command line, by default `diffusion-explained app`."""
    port = free_port(8700)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command(port), stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://{LOCALHOST}:{port}/_stcore/health", timeout=5).close()
                    break
                time.sleep(0.1)
            yield port, psutil.Process(server.pid)
        finally:
            stop(server)


def main() -> None:
    """Measure, report, and exit with 1 if the goal is not met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--think", type=float, default=10.0, help="mean seconds between an answer and the next request")
    parser.add_argument("--pages", nargs="+", choices=CHANGED, default=list(CHANGED))
    args = parser.parse_args()
    if not 1 <= args.sessions <= 100 or not 1 <= args.seconds <= 3600:
        parser.error("--sessions must be from 1 to 100, and --seconds from 1 to 3600")
    with explorer() as (port, server):
        answers, memory = asyncio.run(measure(port, server, args))
    sys.exit(0 if report(answers, memory, args) else 1)


from diffusion_explained.micro.emoji import load_emoji_sample  # noqa: E402

EMOJI = sorted(load_emoji_sample().names)

if __name__ == "__main__":
    main()
