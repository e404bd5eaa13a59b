"""Start the explorer and the course: find their files and a free port, and run a server that ends with Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from diffusion_explained.files import atomic_path, not_written, shipped
from diffusion_explained.serving import ALONE, LOCALHOST, Serving

UPLOAD_MB, UPLOAD_MB_SHARED = 20, 10  # the largest file
PORTS_TRIED = 20
SECONDS_TO_STOP = 10.0
COURSE_FILES = ("*.ipynb", "*.md")


def free_port(first: int, *, exact: bool = False, address: str = LOCALHOST) -> int:
    """The first free port of an address, from `first` on; with `exact`, only `first` is tried.

    Raises ValueError for a number that is not a port, OSError if the port (or PORTS_TRIED ports in a row) is in use,
    and for an address that does not belong to this machine.
    """
    if not 1 <= first <= 65535:
        raise ValueError(f"{first} is not a port: allowed are 1 to 65535.")
    last = first if exact else min(first + PORTS_TRIED - 1, 65535)
    for port in range(first, last + 1):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            if os.name == "posix":  # a port whose old connections are in TIME_WAIT counts as free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except PermissionError:
                raise OSError(f"Port {port} is reserved for the administrator; choose one above 1023.") from None
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise OSError(
                    f"{address} is not an address of this machine ({error.strerror}). Give localhost, one of this "
                    "machine's addresses, or 0.0.0.0 for all of them."
                ) from None
            return port
    if exact:
        raise OSError(f"Port {first} is in use. Choose another one, or leave out --port to get the next free one.")
    raise OSError(
        f"Ports {first} to {last} are all in use. Stop the programs that use them, or choose another with --port."
    )


def run_server(command: list[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a server until it ends by itself or by Ctrl-C, leave no process behind, and return its exit code.

    The exit code is 0 for Ctrl-C. Background jobs of a script (`make app &`) are started with Ctrl-C ignored, and the
    server would inherit this; here Ctrl-C always works.

    environment: variables that are added to those of this process.
    """
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` runs
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    server = subprocess.Popen(command, env={**os.environ, **(environment or {})})
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0  # the terminal sent the same Ctrl-C to the server
    finally:
        stop(server)
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)


def stop(server: subprocess.Popen) -> None:
    """End a server's process; kill it if it takes longer than SECONDS_TO_STOP or Ctrl-C is pressed again."""
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(SECONDS_TO_STOP)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.kill()
        server.wait()


def streamlit_command(port: int, *, browser: bool, serving: Serving = ALONE) -> list[str]:
    """The command that serves the explorer, without usage statistics and without asking for an e-mail address.

    Run it with the variables of `serving.environment()`.
    """
    options = {
        "server.address": serving.address,
        "server.port": port,
        "server.baseUrlPath": serving.base_path,
        "server.maxUploadSize": UPLOAD_MB_SHARED if serving.shared else UPLOAD_MB,
        "server.allowedHosts": "*",  # app/server.py checks the hosts, also for the requests of the pages
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.serverAddress": serving.name,
        "browser.gatherUsageStats": "false",
        "runner.postScriptGC": "false",
    }
    if not browser:
        options["server.headless"] = "true"
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(shipped("app") / "server.py"), *flags]


def jupyterlab_command(folder: Path, port: int, *, browser: bool) -> list[str]:
    """The command that opens JupyterLab in a folder, for this machine only and with an access token."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", f"--ip={LOCALHOST}"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "-y"]  # -y: Ctrl-C ends it without asking
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # Jupyter refuses root without it, and in a container root is the only user
    return command


@dataclass
class Copied:
    """What `copy_course` did with each file, by file name."""

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # they existed, with changes by their owner
    mended: list[str] = field(default_factory=list)  # they existed, but empty or truncated: copied again
    set_aside: list[str] = field(default_factory=list)  # backups of mended files, unless a truncated original


def copy_course(target: Path) -> Copied:
    """Copy the notebooks into a folder, which is created if it is missing; each copy appears whole or not at all.

    An existing whole file is never overwritten. A file that is empty or truncated, as a full disk leaves it, is
    replaced; its content is kept beside it as `<name>.damaged`, unless it is only the beginning of the original.

    Raises NotWrittenError (an OSError) where the folder cannot be written.
    """
    source, copied = shipped("notebooks"), Copied()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(target, error, what="--folder ") from error
    for original in sorted(path for pattern in COURSE_FILES for path in source.glob(pattern)):
        copy, content = target / original.name, original.read_bytes()
        try:
            found = copy.read_bytes()
        except FileNotFoundError:
            _write(copy, content)
            copied.new.append(copy.name)
            continue
        except OSError:  # a folder, or a file that this user may not read: leave it alone
            copied.kept.append(copy.name)
            continue
        if found == content:
            continue
        if _is_whole(copy.name, found):
            copied.kept.append(copy.name)
            continue
        if not content.startswith(found):
            copied.set_aside.append(_set_aside(copy, found))
        _write(copy, content)
        copied.mended.append(copy.name)
    return copied


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path, len(content)) as part:
        part.write_bytes(content)


def _is_whole(name: str, content: bytes) -> bool:
    """Whether a file is not the remains of a failed copy: a notebook has cells, any other file is not empty."""
    if not name.endswith(".ipynb"):
        return bool(content.strip())
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(notebook, dict) and isinstance(notebook.get("cells"), list) and bool(notebook["cells"])


def _set_aside(path: Path, content: bytes) -> str:
    """Save a damaged file's content under a new name, and return that name."""
    names = (path.with_name(f"{path.name}.damaged{'' if i == 0 else f'-{i}'}") for i in count())
    place = next(name for name in names if not os.path.lexists(name))
    _write(place, content)
    return place.name
