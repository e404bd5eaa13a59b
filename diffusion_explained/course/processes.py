"""Run a reader's code in a process apart, exercise by exercise, with a limit of time for each.

What the separate process assures: printing, errors, `exit`, a crash or an endless loop of one answer changes no other
exercise's grade; the code gets no variables of the environment but a few harmless ones, no input, and a folder of its
own to write in, which is removed. A grade comes back through a pipe, beside a random token, so nothing that is printed
or written elsewhere becomes a grade.

What it does not assure: the code runs with the user's rights, so it can read and write the user's files and use the
network; and a program that looks through the memory of its own process can find the token, or replace the test there.
Grade strangers' notebooks in a container, and read an answer that you doubt.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
    "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "DIFFUSION_EXPLAINED_CACHE",
)  # fmt: skip
SECONDS_TO_START = 300.0  # the imports, on a busy machine
MOST_BYTES = 1_000_000  # of one answer of the process


@dataclass(frozen=True)
class Task:
    """The cells to run for an exercise, as (what to call the cell, its source), and the name of the answer in them."""

    number: str
    name: str
    cells: Sequence[tuple[str, str]]


class Grader:
    """A context in which tasks are graded by one process after the other; no process outlives it.

    Args:
        seed: of the inputs of the tests.
        seconds: how long a task may take.
    """

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed, self.seconds = seed, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def grade(self, task: Task) -> tuple[str, str]:
        """The state of an answer, open, wrong or right, and a hint.

        Raises OSError if the process that grades cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        token = secrets.token_hex(16)
        sent = {"token": token, "number": task.number, "name": task.name, "cells": list(task.cells), "seed": self.seed}
        self._send(sent)
        answer = self._receive(token, self.seconds)
        if isinstance(answer, str):
            self._stop()
            return "wrong", answer
        return answer["state"], answer["hint"]

    def _start(self) -> None:
        self._stop()
        self._folder = tempfile.TemporaryDirectory(prefix="graded-", ignore_cleanup_errors=True)
        tasks_read, self._tasks = os.pipe()
        self._results, results_write = os.pipe()
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        command = [sys.executable, "-P", "-m", "diffusion_explained.course.worker", str(tasks_read), str(results_write)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(tasks_read, results_write),
            cwd=self._folder.name,
            env={**environment, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"},
            start_new_session=True,  # so that the processes that a reader's code starts end with it
        )
        os.close(tasks_read)
        os.close(results_write)
        self._buffer = b""
        token = secrets.token_hex(16)
        self._send({"token": token})
        ready = self._receive(token, SECONDS_TO_START)
        if isinstance(ready, str):
            raise OSError(f"the process that grades did not start: {ready}. Run `diffusion-explained doctor`.")

    def _stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._tasks)
        os.close(self._results)
        self._process = None
        if self._folder is not None:
            self._folder.cleanup()

    def _send(self, message: dict[str, object]) -> None:
        with suppress(BrokenPipeError):  # the process has ended: `_receive` says so
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(self._tasks, data) :]

    def _receive(self, token: str, seconds: float) -> dict[str, str] | str:
        """The process's next message with this token; or what happened instead, in words."""
        end = time.monotonic() + seconds
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                with suppress(ValueError, RecursionError):
                    message = json.loads(line)
                    if isinstance(message, dict) and message.get("token") == token:
                        return {"state": str(message.get("state")), "hint": str(message.get("hint"))}
                continue  # not from the worker
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._results], [], [], left)[0]:
                return f"the answer did not end in {seconds:g} seconds"
            read = os.read(self._results, 65536)
            self._buffer += read
            if not read or len(self._buffer) > MOST_BYTES:
                code = self._process.wait() if self._process and not read else None
                return f"the answer ended the process that grades it (exit code {code})"
