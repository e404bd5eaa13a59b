"""How soon does a visitor see a picture on the explorer's first page, and how soon does a network learn digits?

    python benchmarks/explorer_first.py                          # both, about five minutes on two quiet cores
    python benchmarks/explorer_first.py paint --servers 3        # the first page alone, with Chromium
    python benchmarks/explorer_first.py training --steps 1000    # the lesson alone

Paint: each server is new, so its first visitor waits for all imports; a second visitor then opens the same page. Times
are from the browser's navigation to the title, to the first picture (the film's frames are decoded), and to the end of
the page. Training: the default lesson of the page Training, without the looks at its network: how long does it take,
and how many of 1,000 digits that the network then draws are of the class that was asked for? The classifier is ours.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from explorer_load import explorer
from side_by_side import machine

TITLE, PICTURE = "h1", ".scrubber[data-ready=true]"
FINISHED = "() => document.querySelector('[data-test-script-state=notRunning]')"
DRAWN = 100  # digits of each class


def visit(browser: object, address: str) -> tuple[float, float, float]:
    """Seconds from a new visitor's navigation to the title, to the first picture, and to the end of the page."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(300_000)
    begin = time.monotonic()
    page.goto(address, wait_until="commit")
    waits: tuple[Callable[[], object], ...] = (
        lambda: page.wait_for_selector(TITLE),
        lambda: page.wait_for_selector(PICTURE),
        lambda: page.wait_for_function(FINISHED, polling=50),
    )
    seconds = []
    for wait in waits:
        wait()
        seconds.append(time.monotonic() - begin)
    context.close()
    return tuple(seconds)


def paint(servers: int) -> None:
    """The first page, by the first visitor of a server and by the second."""
    from playwright.sync_api import sync_playwright

    names = ("chromium-headless-shell", "chromium", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        sys.exit("This needs Chromium: apt-get install chromium.")
    first, second = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(servers):
            with explorer() as (port, _process):
                for seen in (first, second):
                    seen.append(visit(browser, f"http://127.0.0.1:{port}/"))
        browser.close()
    print(f"Start, seconds after navigation, median (lowest to highest) of {servers} servers; {machine()}\n")
    print("| visitor | title | first picture | end of the page |\n|---|---|---|---|")
    for name, seen in (("the first of a new server", first), ("the second", second)):
        cells = [f"{statistics.median(one):.1f} ({min(one):.1f} to {max(one):.1f})" for one in zip(*seen, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


def training(steps: int, seeds: int) -> None:
    """The lesson of the page Training: its time, and the class accuracy of what its network draws."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "app"))  # the page's own lesson
    from explorer.digit_lessons import DRAWING_STEPS, GUIDANCE, records
    from explorer.taught import Lesson

    from diffusion_explained.metrics import class_accuracy

    seconds, right = [], []
    for seed in range(seeds):
        begin, lesson = time.monotonic(), Lesson(steps=steps, seed=seed)
        _, all_of_them = records(lesson)
        *_, last = all_of_them
        seconds.append(time.monotonic() - begin)
        labels = torch.arange(10).repeat(DRAWN)
        drawn = last.model.sample(labels, num_inference_steps=DRAWING_STEPS, guidance_scale=GUIDANCE, seed=1)
        right.append(class_accuracy(drawn, labels))
        print(f"seed {seed}: {seconds[-1]:.0f} s, class accuracy {right[-1]:.1%}", flush=True)
    error = statistics.stdev(right) / seeds**0.5 if seeds > 1 else float("nan")
    print(
        f"\nTraining, {steps} steps of the flow, {seeds} seeds: {statistics.median(seconds):.0f} s "
        f"({min(seconds):.0f} to {max(seconds):.0f}); of {10 * DRAWN} digits {statistics.mean(right):.1%} "
        f"± {error:.1%} are of the class that was asked for; {machine()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("paint", "training"), help="only this one")
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.what != "training":
        paint(given.servers)
    if given.what != "paint":
        training(given.steps, given.seeds)


if __name__ == "__main__":
    main()
