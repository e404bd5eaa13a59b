"""The process that runs readers' code: `python -m diffusion_explained.course.worker TASKS RESULTS`, two open pipes.

It reads one task per line and writes one grade per line; `processes` starts it and says what it assures.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
import traceback
from typing import Any

from diffusion_explained.exercises import exercises, grade

MOST_BYTES = 100_000_000  # of a file that a reader's code writes


def main(tasks: int, results: int) -> None:
    """Grade the tasks from the pipe `tasks`, until it ends; the grades go to the pipe `results`."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    exercises()  # imports every test: this takes seconds, which are not an answer's
    write, words, graded_by = os.write, json.dumps, grade  # as they are before any reader's code has run
    with os.fdopen(tasks, encoding="utf-8") as lines:
        for line in lines:
            task = json.loads(line)
            state, hint = _graded(task, graded_by) if "number" in task else ("ready", "")
            write(results, words({"token": task["token"], "state": state, "hint": hint}).encode() + b"\n")


def _graded(task: dict[str, Any], graded_by: Any) -> tuple[str, str]:
    """Run the cells of a task and grade the answer. Everything that the reader's code raises becomes a hint."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    where = ""
    try:
        for where, source in task["cells"]:
            exec(compile(source, where, "exec"), namespace)
        where = "the answer"
        found = graded_by(task["number"], namespace[task["name"]], seed=task["seed"])
    except BaseException as error:  # SystemExit too: an answer that calls exit() is a wrong answer
        labels = {label for label, _ in task["cells"]}
        places = [one for one in traceback.extract_tb(error.__traceback__) if one.filename in labels]
        place = f"{places[-1].filename}, line {places[-1].lineno}," if places else where
        return "wrong", f"{place} ended with {type(error).__name__}: {' '.join(str(error).split())}"
    return found.status, found.hint


def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended, also in the middle of an endless loop."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
