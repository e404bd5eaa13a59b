"""One training per folder: two that write their checkpoints into the same one would each remove the other's.

    with hold(out, "training"):             # FolderInUseError where another process is at work in it
        ...

The lock is the operating system's (filelock), so it ends with its process, however that ends. Reading needs no lock:
samples can be drawn from the weights in the folder while a training goes on.
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

from diffusion_explained.files import atomic_path, check_folder, not_written
from diffusion_explained.training.processes import is_main_process

LOCK, HOLDER = ".training.lock", ".training.json"  # the lock, and who holds it, for the message of the next one
Run = TypeVar("Run")


class FolderInUseError(OSError):
    """Another training is at work in the folder; the message says which."""


@contextmanager
def hold(folder: Path | None, what: str = "") -> Iterator[None]:
    """Hold a folder while the block runs, after `check_folder`; with None, or beside a main process, do nothing.

    what: stands before the path in the messages, "--out " say.

    Raises FolderInUseError where another training, of this process or another one, holds the folder: its process, its
    machine, and since when. Raises NotWrittenError where the folder cannot be written.
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
    except OSError as error:  # another user's lock file, say
        raise not_written(folder / LOCK, error, what=what) from error
    except NotImplementedError:  # a disk that knows no locks, in older versions of filelock: nothing is guarded there
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
    """Who holds a folder, and what to do."""
    try:
        who = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        pid, host, since = int(who["pid"]), str(who["host"])[:100], str(who["since"])[:40]
    except (OSError, ValueError, TypeError, KeyError):
        return "another training is at work in it. Wait until it ends, or give another folder"
    if (pid, host) == (os.getpid(), socket.gethostname()):
        return (
            f"a training of this same process ({pid}), begun at {since}, is not at its end. Run it to its end, "
            "close() it, or restart the kernel; or give another folder"
        )
    return (
        f"process {pid} on {host} has been training in it since {since}. Wait until it ends, stop it, or give another "
        "folder"
    )


def one_at_a_time(train: Callable[..., Iterator[Run]]) -> Callable[..., Iterator[Run]]:
    """A training, a generator with the keyword `checkpoints`, that holds this folder while it runs."""

    @functools.wraps(train)
    def holding(*args: Any, checkpoints: Path | None = None, **options: Any) -> Iterator[Run]:
        with hold(checkpoints):
            yield from train(*args, checkpoints=checkpoints, **options)

    return holding
