"""One training run per folder: two runs that wrote checkpoints into the same folder would remove each other's.

    with hold(out, "--out "):               # FolderInUseError if another training run uses the folder
        ...

The operating system holds the lock (filelock), so the lock ends with its process, even if the process is killed.
Reading needs no lock: samples can be drawn from the weights in the folder during training.
"""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from diffusion_explained.checks import typed_arguments
from diffusion_explained.files import atomic_path, check_folder, not_written
from diffusion_explained.training.processes import is_main_process

LOCK, HOLDER = ".training.lock", ".training.json"  # the lock, and which process holds it, for the error message
Run = TypeVar("Run")


class FolderInUseError(OSError):
    """Another training run uses the folder; the message says which."""


@contextmanager
@typed_arguments
def hold(folder: Path | None, what: str = "") -> Iterator[None]:
    """Check a folder with `check_folder` and lock it while the block runs.

    Does nothing if folder is None, or in a process that is not the main one. what: a prefix of the path in messages,
    "--out " for example.

    Raises FolderInUseError if another training run, of this process or of another one, has locked the folder; the
    message names its process, its machine and its start. Raises NotWrittenError if the folder cannot be written.
    """
    if folder is None or not is_main_process():
        yield
        return
    check_folder(folder, what)
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUseError(f"{what}{folder} is in use: {_holder(folder)}.") from None
    except OSError as error:  # for example because the lock file belongs to another user
        raise not_written(folder / LOCK, error, what=what) from error
    except NotImplementedError:  # a file system without locks, in older versions of filelock: there is no protection
        yield
        return
    try:
        with atomic_path(folder / HOLDER) as part:
            since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
            part.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Which process has locked a folder, and what to do, for the error message."""
    try:
        who = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        pid, host, since = int(who["pid"]), str(who["host"])[:100], str(who["since"])[:40]
    except (OSError, ValueError, TypeError, KeyError):
        return "another training run uses it. Wait until that run ends, or give another folder"
    if (pid, host) == (os.getpid(), socket.gethostname()):
        return (
            f"a training run of this same process ({pid}), started at {since}, is not finished. Finish it, "
            "close() it, or restart the kernel; or give another folder"
        )
    return (
        f"process {pid} on {host} has been training in it since {since}. Wait until that process ends, stop it, or "
        "give another folder"
    )


def one_at_a_time(train: Callable[..., Iterator[Run]]) -> Callable[..., Iterator[Run]]:
    """Decorate a training generator: it locks the folder of its keyword `checkpoints` while it runs."""

    @functools.wraps(train)
    def holding(*args: Any, checkpoints: Path | None = None, **options: Any) -> Iterator[Run]:
        with hold(checkpoints):
            yield from train(*args, checkpoints=checkpoints, **options)

    return holding
