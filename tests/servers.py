"""Servers of ours as a terminal starts them, and what they say to a client that is no browser."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from diffusion_explained.cli import launch

COMMAND = [sys.executable, "-c", "from diffusion_explained.cli.main import app; app(prog_name='diffusion-explained')"]
SECONDS_TO_START = 120
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "streamlit",
}
listens_to_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
ignores_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # as a script's background job is started


@contextmanager
def started(
    command: list[str], cwd: Path, begin: Callable[[], object] = listens_to_ctrl_c
) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, as a terminal starts it; its output goes to cwd/log.

    begin: done in the new process first; the tests themselves may have been started with Ctrl-C ignored.
    """
    with (cwd / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=begin,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def server(*arguments: object, cwd: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """A command of ours."""
    return started([*COMMAND, *map(str, arguments)], cwd)


def unused_port() -> int:
    """A port that the system says is free: two runs of the tests on one machine are given different ones."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def answer(process: subprocess.Popen[str], url: str) -> str:
    """What the server says at `url`, as soon as it says anything."""
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer in {SECONDS_TO_START} s")


def stop(process: subprocess.Popen[str], how: signal.Signals) -> int:
    """Ctrl-C reaches the whole group, as in a terminal; any other signal the command alone. The exit code."""
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    return process.wait(launch.SECONDS_TO_STOP + 5)


def listening(port: int, host: str = launch.LOCALHOST) -> bool:
    """Whether anything answers on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def request(
    port: int, path: str, headers: Mapping[str, str], *, method: str = "GET", body: bytes | None = None,
    address: str = launch.LOCALHOST,
) -> tuple[int, dict[str, str], str]:  # fmt: skip
    """Status, headers and body of an answer; of a WebSocket that was let in (101) the connection is closed."""
    connection = http.client.HTTPConnection(address, port, timeout=60)
    try:
        connection.request(method, path, body, headers={"Host": f"{address}:{port}", **headers})
        said = connection.getresponse()
        return (
            said.status,
            {k.lower(): v for k, v in said.getheaders()},
            "" if said.status == 101 else said.read().decode(),
        )
    finally:
        connection.close()
