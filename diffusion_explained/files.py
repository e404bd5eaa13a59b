"""Files: where those of the project are, and how one is written so that a reader never meets half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).parent


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


def in_repository() -> bool:
    """Whether this is a working copy of the repository, not the package installed from a wheel."""
    return (PACKAGE.parent / "pyproject.toml").is_file() and (PACKAGE.parent / "app").is_dir()


def shipped(name: str) -> Path:
    """The folder "app", "notebooks" or "recipes": the repository's own, else the one inside the installed package.

    Raises FileNotFoundError when the installation lacks it.
    """
    folder = PACKAGE.parent / name if in_repository() else PACKAGE / f"_{name}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: this installation is incomplete. Install the package again.")
    return folder
