"""Writing a file so that a reader, or a kill at any moment, never meets half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to `path` when the block ends without an error.

    The folder is made if it is missing. After an error nothing is left of it, and an older `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as written:  # the bytes reach the disk before the name does
            os.fsync(written.fileno())
        part.chmod(0o644)  # mkstemp makes 0600, which other users of a shared folder could not read
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
