"""Starting the explorer and the course: where their files are, a free port, and a server that ends with Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from diffusion_explained.files import shipped

LOCALHOST = "127.0.0.1"  # nothing here is meant to be seen by other machines
PORTS_TRIED = 20
SECONDS_TO_STOP = 10.0
COURSE_FILES = ("*.ipynb", "*.md")


def free_port(first: int, *, exact: bool = False) -> int:
    """The first port from `first` on that nothing listens on; with `exact`, that one or none.

    Raises ValueError for what is no port, OSError when it (or PORTS_TRIED in a row) is taken.
    """
    if not 1 <= first <= 65535:
        raise ValueError(f"{first} is not a port: allowed are 1 to 65535.")
    last = first if exact else min(first + PORTS_TRIED - 1, 65535)
    for port in range(first, last + 1):
        with socket.socket() as probe:
            if os.name == "posix":  # a port whose last connections are only waiting to be forgotten is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCALHOST, port))
            except PermissionError:
                raise OSError(f"Port {port} is not for ordinary users; choose one above 1023.") from None
            except OSError:
                continue
            return port
    if exact:
        raise OSError(f"Port {first} is in use. Choose another one, or leave --port out to get the next free one.")
    raise OSError(f"Ports {first} to {last} are all in use. Stop what runs there, or choose another with --port.")


def run_server(command: list[str]) -> int:
    """Run a server until it ends by itself or by Ctrl-C, and leave no process behind; its exit code, 0 for Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` runs
    server = subprocess.Popen(command)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0  # the terminal sent the same Ctrl-C to the server
    finally:
        stop(server)
        signal.signal(signal.SIGTERM, previous)


def stop(server: subprocess.Popen) -> None:
    """End a server's process, by force if it takes longer than SECONDS_TO_STOP or Ctrl-C comes again."""
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(SECONDS_TO_STOP)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.kill()
        server.wait()


def streamlit_command(port: int, *, browser: bool) -> list[str]:
    """The command that serves the explorer on this machine only, sends nothing out and asks for no e-mail address."""
    options = {
        "server.address": LOCALHOST,
        "server.port": port,
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "runner.postScriptGC": "false",
    }
    if not browser:
        options["server.headless"] = "true"
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(shipped("app") / "main.py"), *flags]


def jupyterlab_command(folder: Path, port: int, *, browser: bool) -> list[str]:
    """The command that opens JupyterLab on a folder, for this machine only and with its own access token."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", f"--ip={LOCALHOST}"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "-y"]  # -y: Ctrl-C ends it without a question
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # Jupyter refuses root without it, and in a container there is no one else
    return command


@dataclass
class Copied:
    """What `copy_course` did, by file name."""

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # there already, and changed by their owner


def copy_course(target: Path) -> Copied:
    """Copy the notebooks into a folder, which is made if it is missing; a file that is there is never overwritten."""
    source, copied = shipped("notebooks"), Copied()
    target.mkdir(parents=True, exist_ok=True)
    for original in sorted(path for pattern in COURSE_FILES for path in source.glob(pattern)):
        copy = target / original.name
        if not copy.exists():
            shutil.copyfile(original, copy)
            copied.new.append(copy.name)
        elif copy.read_bytes() != original.read_bytes():
            copied.kept.append(copy.name)
    return copied
