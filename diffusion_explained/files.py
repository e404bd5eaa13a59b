"""Files: find those of the project, write files whole or not at all, and explain why one cannot be read or written.

check_folder(out)                       # before hours of work, not after them
with atomic_path(out / "x.json") as part:
    part.write_text("{}")
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

PACKAGE = Path(__file__).parent
REASONS: dict[int | None, str] = {
    errno.EDQUOT: "this user's share of the disk is used up",
    errno.EFBIG: "this system allows no file so large",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EEXIST: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands in its place",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.ENODEV: "it is a device, and no file",
    errno.ENOENT: "its folder cannot be made",
}
PROBE = bytes(4096)  # one block: on a full disk an empty file can still be created
LONGEST = 200  # characters of the file's name in the temporary name: file systems allow 255 bytes


class NotWrittenError(OSError):
    """A file or a folder cannot be written; the message names it and says why and what to do."""


def not_written(path: Path, error: Exception, needed: int | None = None, what: str = "") -> NotWrittenError:
    """Describe in words the error of a library or the system that prevented `path` from being written.

    needed: the size of the file in bytes, if known. what: a prefix of the path in the message, such as "--out ".
    """
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"os error (\d+)|\(code: (\d+)", str(error)):  # safetensors only has the system's text
        number = number or int(found[1] or found[2])
    if number == errno.ENOSPC:
        size = "" if needed is None else f", and it needs {needed / 1e6:.1f} MB"
        reason = f"no space is left on its disk ({_free(path)}{size}). Free some space, or give another folder"
    else:
        reason = REASONS.get(number) or (os.strerror(number) if number else str(error))
        reason += ". Give another place"
    described = NotWrittenError(f"{what}{path} cannot be written: {reason}.")
    described.errno = number
    return described


def _free(path: Path) -> str:
    path = Path(os.path.abspath(path))
    for there in (path, *path.parents):
        try:
            return f"{shutil.disk_usage(there).free / 1e6:.1f} MB free"
        except OSError:
            continue
    return "0 MB free"


@contextmanager
def atomic_path(path: Path, needed: int | None = None) -> Iterator[Path]:
    """A temporary path in the same folder, which is renamed to `path` when the block ends without an error.

    The folder is created if it is missing. If `path` is a link, the file that it points to is replaced. An existing
    file keeps its mode; a new one gets the mode of the umask. Several simultaneous writers do not disturb each other:
    the last one's file remains. needed: the size of the file in bytes, if known, for the message.

    Raises NotWrittenError (an OSError) that names `path` if the system or safetensors cannot write. After any error the
    temporary file is removed, and an existing file at `path` is unchanged.
    """
    part = None
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name[:LONGEST]}.{secrets.token_hex(8)}.part")
        # the system applies the umask to 0o666; Python could read the umask only by changing it for all threads
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        mode = stat.S_IMODE((target if target.exists() else part).stat().st_mode)
        yield part
        with open(part, "rb+") as written:  # the content must be on the disk before the file is renamed
            os.fsync(written.fileno())
        part.chmod(mode)  # a library may have replaced the file
        os.replace(part, target)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                part.unlink()
        if isinstance(error, SafetensorError) or (isinstance(error, OSError) and error.errno is not None):
            raise not_written(path, error, needed) from error
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files are moved to `folder` when the block ends without an error.

    Other files of `folder` stay. Raises the errors of `atomic_path`; no incomplete file is left.
    """
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{secrets.token_hex(8)}.part"
        part.mkdir()
        yield part
        for file in sorted(file for file in part.rglob("*") if file.is_file()):
            place = folder / file.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        raise not_written(folder, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _target(path: Path) -> Path:
    """The file that a path or link points to. Raises OSError for a folder, for a loop of links, and for a device."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "loop of links")
    if target.is_dir():
        raise OSError(errno.EISDIR, "folder")
    if target.exists() and not target.is_file():
        raise OSError(errno.ENODEV, "device")
    return target


def check_folder(folder: Path, what: str = "--out ") -> Path:
    """Create the folder if it is missing, test before long work that a file can be written in it, and return it.

    Raises NotWrittenError if not. what: a prefix of the path in the message.
    """
    try:
        _probe(folder)
    except OSError as error:
        raise not_written(folder, error, what=what) from error
    return folder


def check_file(path: Path, what: str = "--out ") -> Path:
    """Test before long work that a file can be written at this path, as `check_folder` does; returns the path.

    Raises NotWrittenError if not, and if the path is a folder or a device.
    """
    try:
        _probe(_target(path).parent)
    except OSError as error:
        raise not_written(path, error, what=what) from error
    return path


def _probe(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        with probe.open("xb") as file:
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def read_bytes(path: Path, what: str = "file", most: int | None = None) -> bytes:
    """Read a file's content. what: the kind of file, for messages; most: the largest allowed size in bytes.

    Raises FileNotFoundError if it is missing, and OSError, naming the file, if it is a folder or a device, cannot be
    read, or is too large.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, "folder")
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENODEV, "device")
        if most is not None and found.st_size > most:
            raise OSError(f"it has {found.st_size:,} bytes, and at most {most:,} are allowed")
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {what} {path}.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reasons = {**REASONS, errno.EACCES: "this user may not read it", errno.EPERM: "this user may not read it"}
        number = getattr(error, "errno", None)
        reason = reasons.get(number) or (os.strerror(number) if number else str(error))
        raise OSError(f"the {what} {path} cannot be read: {reason}.") from error


def read_json(path: Path, what: str = "file") -> Any:
    """Read a JSON file. Raises the errors of `read_bytes`, and OSError, naming the file, if its content is not JSON."""
    try:
        return json.loads(read_bytes(path, what))
    except (ValueError, RecursionError) as error:
        raise OSError(f"the {what} {path} is damaged, or is not JSON: {error}.") from error


def in_repository() -> bool:
    """Whether the package runs from a working copy of the repository instead of an installed wheel."""
    return (PACKAGE.parent / "pyproject.toml").is_file() and (PACKAGE.parent / "app").is_dir()


def shipped(name: str) -> Path:
    """The folder "app", "notebooks" or "recipes": in the repository, or otherwise in the installed package.

    Raises FileNotFoundError if the installation lacks it.
    """
    folder = PACKAGE.parent / name if in_repository() else PACKAGE / f"_{name}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: this installation is incomplete. Install the package again.")
    return folder
